"""Representational geometry: RDMs of regions and subjects, and how they agree."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage

from nsd_prep.analysis.rdm import rdm, upper_triangle
from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.published import RELIABLE_NOISE_CEILING

#: With two voxels every correlation of patterns is 1 or -1.
FEWEST_VOXELS: Final = 3


@dataclass(frozen=True)
class RegionGeometry:
    """RDMs of a region, one for each subject.

    Attributes
    ----------
    region : str
        Its name.
    subjects : tuple of str
        ``subj01`` and so on, in the order of the neuroids.
    n_voxels : ndarray of int64, shape (n_subjects,)
        Voxels that a pattern has.
    n_without_variance : ndarray of int64, shape (n_subjects,)
        Images whose pattern has no variance: at distance 1 from every other.
    rdms : ndarray of float32, shape (n_subjects, n_pairs)
        Upper triangles of the RDMs; NaN for a subject with fewer than `FEWEST_VOXELS` voxels.
    """

    region: str
    subjects: tuple[str, ...]
    n_voxels: NDArray[np.int64]
    n_without_variance: NDArray[np.int64]
    rdms: NDArray[np.float32]

    @property
    def mean_rdm(self) -> NDArray[np.float32]:
        """Upper triangle of the mean over the subjects that have one, float32 (n_pairs,)."""
        if not self.has_rdm.any():
            return np.full(self.rdms.shape[1], np.nan, dtype=np.float32)
        return self.rdms[self.has_rdm].mean(axis=0)

    @property
    def has_rdm(self) -> NDArray[np.bool_]:
        """Which of the subjects have voxels enough for an RDM, bool (n_subjects,)."""
        return self.n_voxels >= FEWEST_VOXELS

    @property
    def subjects_with_rdm(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(name for name, has in zip(self.subjects, self.has_rdm, strict=True) if has)

    @classmethod
    def of_subjects(cls, parts: Sequence["RegionGeometry"]) -> "RegionGeometry":
        """Put the RDMs of a region's subjects together; parts are of one region."""
        return cls(
            parts[0].region,
            tuple(subject for part in parts for subject in part.subjects),
            np.concatenate([part.n_voxels for part in parts]),
            np.concatenate([part.n_without_variance for part in parts]),
            np.concatenate([part.rdms for part in parts]),
        )

    def without(self, subject: str) -> "RegionGeometry":
        """Return the RDMs of the other subjects."""
        rest = np.array([name != subject for name in self.subjects])
        return RegionGeometry(
            self.region,
            tuple(name for name in self.subjects if name != subject),
            self.n_voxels[rest],
            self.n_without_variance[rest],
            self.rdms[rest],
        )


@dataclass(frozen=True)
class Geometry:
    """RDMs of a run's regions.

    Attributes
    ----------
    nsd_ids : ndarray of int64, shape (n_images,)
        The images (0-based), in the order of the RDMs.
    all_voxels : tuple of RegionGeometry
        The regions, in the order given.
    reliable_voxels : tuple of RegionGeometry
        The same regions, with only the voxels whose noise ceiling lies above 30 %; none where
        they were not computed.
    """

    nsd_ids: NDArray[np.int64]
    all_voxels: tuple[RegionGeometry, ...]
    reliable_voxels: tuple[RegionGeometry, ...]


def analyse(
    assemblies: Iterable[tuple[str, xr.DataArray]], *, with_reliable: bool = True
) -> Geometry:
    """Compute the RDMs of regions, one assembly in memory at a time.

    Parameters
    ----------
    assemblies : iterable of (str, DataArray)
        Each region's name and assembly, dims (presentation, neuroid), all of the same images.
    with_reliable : bool
        Compute the RDMs of reliable voxels as well.

    Returns
    -------
    Geometry
        With all voxels, and with the reliable ones.

    Raises
    ------
    InputFileError
        An assembly has other images than the first, or there is no assembly.
    """

    def each() -> Iterator[Geometry]:
        for region, assembly in assemblies:
            geometry = geometry_of(region, assembly, with_reliable=with_reliable)
            # The next one is read before this name is given to it.
            del assembly
            yield geometry

    return combined(each())


def geometry_of(region: str, assembly: xr.DataArray, *, with_reliable: bool = True) -> Geometry:
    """Compute the RDMs of one region.

    Parameters
    ----------
    region : str
        Its name.
    assembly : DataArray, dims (presentation, neuroid)
        Of the region, or of some of its subjects.
    with_reliable : bool
        Compute the RDMs of reliable voxels as well.

    Returns
    -------
    Geometry
        Of this region alone.
    """
    names, values = assembly["subject"].to_numpy(), assembly.to_numpy()
    everything = np.ones(len(names), dtype=np.bool_)
    of_reliable: tuple[RegionGeometry, ...] = ()
    if with_reliable:
        reliable = assembly["nc_testset"].to_numpy() > RELIABLE_NOISE_CEILING
        of_reliable = (region_geometry(region, values, names, reliable),)
    of_all = region_geometry(region, values, names, everything)
    return Geometry(assembly["nsd_id"].to_numpy(), (of_all,), of_reliable)


def combined(geometries: Iterable[Geometry]) -> Geometry:
    """Put the RDMs of regions together, which are not copied.

    Parameters
    ----------
    geometries : iterable of Geometry
        Of the same images.

    Returns
    -------
    Geometry
        Their regions, in the order given.

    Raises
    ------
    InputFileError
        One has other images than the first, or there is none.
    """
    parts: list[Geometry] = []
    for part in geometries:
        parts.append(part)
        nsd_ids = parts[0].nsd_ids
        if not np.array_equal(nsd_ids, part.nsd_ids):
            raise InputFileError(
                f"The assembly of {part.all_voxels[0].region} has {len(part.nsd_ids)} images, and "
                f"not those of the first region ({len(nsd_ids)}): RDMs can be compared over the "
                "same images only; make the assemblies in one run."
            )
    if not parts:
        raise InputFileError(
            "There is no assembly to analyse: expected that of at least one region."
        )
    return Geometry(
        parts[0].nsd_ids,
        tuple(region for part in parts for region in part.all_voxels),
        tuple(region for part in parts for region in part.reliable_voxels),
    )


def region_geometry(
    region: str,
    responses: NDArray[np.float32],
    subject_of_neuroid: NDArray[np.object_],
    keep: NDArray[np.bool_],
) -> RegionGeometry:
    """Compute the RDM of each subject in a region.

    Parameters
    ----------
    region : str
        Its name.
    responses : ndarray of float32, shape (n_images, n_neuroids)
        Averaged z-scores.
    subject_of_neuroid : ndarray of str, shape (n_neuroids,)
        ``subj01`` and so on; a subject's neuroids stand together.
    keep : ndarray of bool, shape (n_neuroids,)
        Which neuroids to use.

    Returns
    -------
    RegionGeometry
        Every subject that has a neuroid, kept or not.
    """
    n_images = len(responses)
    subjects = tuple(dict.fromkeys(subject_of_neuroid.tolist()))
    n_voxels = np.zeros(len(subjects), dtype=np.int64)
    n_without_variance = np.zeros(len(subjects), dtype=np.int64)
    rdms = np.full((len(subjects), n_images * (n_images - 1) // 2), np.nan, dtype=np.float32)
    for row, subject in enumerate(subjects):
        columns = np.flatnonzero(subject_of_neuroid == subject)
        block = slice(int(columns[0]), int(columns[-1]) + 1)
        kept = keep[block] & (subject_of_neuroid[block] == subject)
        # A slice is not copied; an index would be.
        patterns = responses[:, block] if kept.all() else responses[:, block][:, kept]
        n_voxels[row] = patterns.shape[1]
        if n_voxels[row] >= FEWEST_VOXELS:
            distances, without_variance = rdm(patterns)
            rdms[row] = upper_triangle(distances)
            n_without_variance[row] = np.count_nonzero(without_variance)
    return RegionGeometry(region, subjects, n_voxels, n_without_variance, rdms)


def cluster_order(mean_rdm: NDArray[np.float32]) -> NDArray[np.int64]:
    """Order images by hierarchical clustering with average linkage.

    Parameters
    ----------
    mean_rdm : ndarray of float32, shape (n_pairs,)
        Upper triangle of an RDM.

    Returns
    -------
    ndarray of int64, shape (n_images,)
        Images (0-based rows of the RDM), similar ones beside each other; their own order where
        the RDM is not known.
    """
    if len(mean_rdm) == 0 or not np.isfinite(mean_rdm).all():
        n_images = (1 + math.isqrt(1 + 8 * len(mean_rdm))) // 2
        return np.arange(n_images, dtype=np.int64)
    # Cross-validated distances may be negative, which SciPy refuses; a shift changes no order.
    shifted = mean_rdm - min(0, mean_rdm.min())
    return np.asarray(leaves_list(average_linkage(shifted)), dtype=np.int64)


def average_linkage(mean_rdm: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cluster images hierarchically with average linkage.

    Parameters
    ----------
    mean_rdm : ndarray of float32, shape (n_pairs,)
        Upper triangle of an RDM, finite, of two images at least.

    Returns
    -------
    ndarray of float64, shape (n_images - 1, 4)
        Joins as SciPy writes them: the two clusters, the mean distance between them, the number
        of images.
    """
    tree: NDArray[np.float64] = linkage(mean_rdm, method="average")
    return tree


def between_regions(regions: Sequence[RegionGeometry]) -> NDArray[np.float64]:
    """Return Pearson r between the mean RDMs of regions, float64 (n_regions, n_regions).

    Over the pairs of the same images; NaN where an RDM is missing or constant.
    """
    return correlations(np.stack([region.mean_rdm for region in regions]))


def between_subjects(region: RegionGeometry) -> NDArray[np.float64]:
    """Return Pearson r between the RDMs of a region's subjects, float64 (n_subjects, n_subjects).

    Over the pairs of images; NaN where an RDM is missing or constant.
    """
    return correlations(region.rdms)


def correlations(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return Pearson r between all pairs of rows.

    Parameters
    ----------
    rows : ndarray of float32, shape (n_rows, n_values)
        At least one value in a row.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_rows)
        NaN in the row and column of one that is constant or holds a NaN; 1 on the diagonal else.
    """
    centred = rows.astype(np.float64)
    constant = (rows == rows[:, :1]).all(axis=1)
    centred[constant] = np.nan
    centred -= centred.mean(axis=1, keepdims=True)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    correlation = np.clip(centred @ centred.T, -1, 1)
    defined = np.isfinite(correlation.diagonal())
    correlation[defined, defined] = 1
    return correlation


def mean_over_pairs(matrix: NDArray[np.float64]) -> float:
    """Return the mean of a symmetric matrix, float64 (n, n), over its pairs that have a value.

    NaN where none has.
    """
    pairs = matrix[np.triu_indices(len(matrix), k=1)]
    pairs = pairs[np.isfinite(pairs)]
    return float(pairs.mean()) if len(pairs) else float("nan")
