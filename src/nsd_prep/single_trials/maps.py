"""Maps: a value for each voxel or vertex, put back into the volume or onto the surface."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import nibabel
import numpy as np
import pandas as pd
import xarray as xr
from nibabel.gifti.gifti import GiftiDataArray, GiftiImage, GiftiMetaData
from numpy.typing import ArrayLike, NDArray

from nsd_prep.core.atomic import written_whole
from nsd_prep.core.errors import InputFileError, ParameterError
from nsd_prep.dataset.cortex import read_fsaverage_index
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.mgh import mgh_content
from nsd_prep.dataset.source import naming_addresses
from nsd_prep.dataset.space import (
    HEMISPHERES,
    Hemisphere,
    SurfaceSpace,
    VolumeSpace,
    space_from_attributes,
)
from nsd_prep.single_trials.reading import open_single_trials

_ENDINGS = (".nii.gz", ".nii")
_SURFACE_ENDINGS = (".gii", ".mgh", ".mgz")


def brain_map(
    values: ArrayLike,
    voxels: pd.DataFrame | xr.Dataset,
    grid: Sequence[int],
    affine: ArrayLike,
    outside: float = float("nan"),
) -> nibabel.Nifti1Image:
    """Put a value for each voxel back into the volume.

    Parameters
    ----------
    values : array_like of float, shape (n_voxels,)
        In the order of `voxels`.
    voxels : DataFrame or Dataset
        With nifti_i, nifti_j and nifti_k (0-based): as `trial_voxels` gives it, or single trials
        as they are opened.
    grid : sequence of int
        (Z, Y, X), the order of the betas: the NIfTI's dimensions reversed.
    affine : array_like of float, shape (4, 4)
        From the indices (i, j, k) of a voxel to millimetres.
    outside : float
        What all other voxels get.

    Returns
    -------
    Nifti1Image of float32, shape (X, Y, Z)
        In the space of the subject's NIfTI files.

    Raises
    ------
    ParameterError
        There are not as many values as voxels, or a voxel lies outside the grid.
    """
    of_voxels = np.asarray(values, dtype=np.float32)
    z, y, x = grid
    space = VolumeSpace((z, y, x), np.asarray(affine))
    sites = space.sites(voxels)
    if of_voxels.shape != sites.shape:
        raise ParameterError(
            f"The values of a map have the shape {of_voxels.shape}: expected {sites.shape}, a "
            "value for each voxel; give the voxels that the values belong to."
        )
    volume = space.volume(of_voxels, sites, outside).transpose()
    return nibabel.Nifti1Image(volume, space.affine)  # type: ignore[no-untyped-call]


def write_map(
    path: Path,
    values: ArrayLike,
    voxels: pd.DataFrame | xr.Dataset,
    grid: Sequence[int],
    affine: ArrayLike,
    outside: float = float("nan"),
) -> None:
    """Write a value for each voxel as a NIfTI file; the same values give the same bytes.

    Parameters
    ----------
    path : Path
        ``.nii.gz`` or ``.nii``.
    values, voxels, grid, affine, outside
        As in `brain_map`.

    Raises
    ------
    ParameterError
        As `brain_map`, or the path has another ending.
    OutputError
        The disk is full or cannot be written.
    """
    if not path.name.endswith(_ENDINGS):
        raise ParameterError(
            f"A map cannot be written to {path}: expected a name that ends in "
            f"{' or '.join(_ENDINGS)}; choose such a name."
        )
    content = brain_map(values, voxels, grid, affine, outside).to_bytes()
    with written_whole(path) as partial:
        partial.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def write_surface_map(
    path: Path,
    values: ArrayLike,
    space: SurfaceSpace,
) -> tuple[Path, Path]:
    """Write a value for each vertex, a file for each hemisphere; the same values, the same bytes.

    Parameters
    ----------
    path : Path
        ``NAME.gii``, ``NAME.mgh`` or ``NAME.mgz``.
    values : array_like of float, shape (n_sites,)
        Of all sites of the space: the left hemisphere's vertices, then the right's.
    space : SurfaceSpace
        Whose vertices these are.

    Returns
    -------
    tuple of two Path
        ``lh.NAME...`` and ``rh.NAME...`` in the folder of the path.

    Raises
    ------
    ParameterError
        There are not as many values as vertices, or the path has another ending.
    OutputError
        The disk is full or cannot be written.
    """
    if path.suffix not in _SURFACE_ENDINGS:
        raise ParameterError(
            f"A map of a surface cannot be written to {path}: expected a name that ends in "
            f"{', '.join(_SURFACE_ENDINGS)}; choose such a name."
        )
    of_sites = np.asarray(values, dtype=np.float32)
    if of_sites.shape != space.shape:
        raise ParameterError(
            f"The values of a map have the shape {of_sites.shape}: expected {space.shape}, a value "
            f"for each vertex of {space.name}; give those of both hemispheres, left first."
        )
    written = []
    for hemisphere in HEMISPHERES:
        first, end = space.hemisphere_sites(hemisphere)
        target = path.with_name(f"{hemisphere}.{path.name}")
        with written_whole(target) as partial:
            partial.write_bytes(_surface_content(of_sites[first:end], hemisphere, path.suffix))
        written.append(target)
    return written[0], written[1]


def _surface_content(values: NDArray[np.float32], hemisphere: Hemisphere, ending: str) -> bytes:
    if ending != ".gii":
        content = mgh_content(values)
        return gzip.compress(content, mtime=0) if ending == ".mgz" else content
    structure = {"lh": "CortexLeft", "rh": "CortexRight"}[hemisphere]
    array = GiftiDataArray(  # type: ignore[no-untyped-call]
        values, intent="NIFTI_INTENT_SHAPE", datatype="NIFTI_TYPE_FLOAT32"
    )
    about = GiftiMetaData(AnatomicalStructurePrimary=structure)  # type: ignore[no-untyped-call]
    image = GiftiImage(darrays=[array], meta=about)  # type: ignore[no-untyped-call]
    gifti: bytes = image.to_bytes()  # type: ignore[no-untyped-call]
    return gifti


def write_map_of_trials(
    trials: Path,
    path: Path,
    values: str = "noise_ceiling",
    outside: float = float("nan"),
    fsaverage_of: Dataset | None = None,
) -> tuple[Path, ...]:
    """Write a value for each voxel, or vertex, of a file of single trials as a map.

    Parameters
    ----------
    trials : Path
        The file, or Zarr store.
    path : Path
        As in `write_map`; of a surface as in `write_surface_map`.
    values : str
        A column of the voxels, or the path of a ``.npy`` file that holds (n_voxels,) numbers in
        their order.
    outside : float
        What all others get.
    fsaverage_of : Dataset, optional
        The dataset whose transforms bring the map to fsaverage.

    Returns
    -------
    tuple of Path
        The files.

    Raises
    ------
    ParameterError
        There is no such column, the trials are of another dataset, or as `write_map`.
    InputFileError, MissingFilesError, OSError
        A file is not there, or holds something else.
    OutputError
        The disk is full or cannot be written.
    """
    with open_single_trials(trials) as dataset:
        chosen = _values_of_trials(trials, dataset, values)
        space = space_from_attributes(dataset.attrs)
        if fsaverage_of is None and isinstance(space, VolumeSpace):
            write_map(path, chosen, dataset, space.grid, space.affine, outside)
            return (path,)
        sites = space.sites({name: dataset[name].to_numpy() for name in space.columns})
        if chosen.shape != sites.shape:
            raise ParameterError(
                f"The values of a map have the shape {chosen.shape}: expected {sites.shape}, a "
                "value for each voxel or vertex; give those of the same file of trials."
            )
        if fsaverage_of is None:
            everywhere = np.full(space.n_sites, outside, dtype=np.float32)
            everywhere[sites] = chosen
            return write_surface_map(path, everywhere, cast(SurfaceSpace, space))
        with naming_addresses(fsaverage_of.source):
            if fsaverage_of.name != dataset.attrs["dataset"]:
                raise ParameterError(
                    f"{trials} holds trials of {dataset.attrs['dataset']}, and the transforms are "
                    f"of {fsaverage_of.name} at {fsaverage_of.root}: expected those of the same "
                    "dataset; give its root."
                )
            index = read_fsaverage_index(fsaverage_of, int(dataset.attrs["subject"]), space)
        on_cortex = index.values(chosen, sites)
        has_site = np.isin(index.sites, sites)
        return write_surface_map(path, np.where(has_site, on_cortex, outside), index.fsaverage)


def map_beside(values: Path, trials: Path, *, is_surface: bool) -> Path:
    """Return where a map of a ``.npy`` file of values is written unless told otherwise.

    Beside it, under its name: as NIfTI, or MGH where the trials or the map are of a surface.
    """
    if not is_surface:
        with open_single_trials(trials) as dataset:
            is_surface = isinstance(space_from_attributes(dataset.attrs), SurfaceSpace)
    return values.with_suffix(".mgh" if is_surface else ".nii.gz")


def _values_of_trials(trials: Path, dataset: xr.Dataset, values: str) -> NDArray[np.generic]:
    """Return the numbers of the voxels in a column, or in a ``.npy`` file."""
    if values.endswith(".npy"):
        return _read_numbers(Path(values))
    columns = {
        str(name): column
        for name, column in dataset.coords.items()
        if column.dims == ("voxel",) and column.dtype.kind in "biuf"
    }
    if values not in columns:
        raise ParameterError(
            f"{trials} has no numbers {values!r} for its voxels: expected one of "
            f"{', '.join(columns)}, or a .npy file; choose one."
        )
    numbers: NDArray[np.generic] = columns[values].to_numpy()
    return numbers


def _read_numbers(path: Path) -> NDArray[np.generic]:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputFileError(
            f"{path} cannot be read as an array ({error}): expected what numpy.save writes."
        ) from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        raise InputFileError(f"{path} holds no array of real numbers: give one that does.")
    return values
