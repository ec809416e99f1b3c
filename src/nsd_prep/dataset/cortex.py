"""The cortex of fsaverage: its mesh, and values of any space brought to it by transforms."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from nibabel.freesurfer.io import read_geometry, read_morph_data
from numpy.typing import ArrayLike, NDArray

from nsd_prep.core.errors import InputFileError, MissingFilesError, ParameterError
from nsd_prep.core.records import FileRecord
from nsd_prep.dataset.layout import Dataset, Transform
from nsd_prep.dataset.space import (
    FSAVERAGE,
    FUNC1PT8MM,
    HEMISPHERES,
    NATIVESURFACE,
    Hemisphere,
    Sites,
    SurfaceSpace,
    VolumeSpace,
)
from nsd_prep.dataset.surfaces import NO_COUNTERPART, read_vertex_index, read_vertices

#: Files of a mesh that is drawn: its vertices and faces, and the depth of its sulci.
MESH_FILES: Final = ("inflated", "sulc")
#: Where a vertex of fsaverage has no site of the other space.
NO_SITE: Final = -1
#: The transforms that lead from each space to fsaverage, one after the other.
TRANSFORMS_TO_FSAVERAGE: Final[Mapping[str, tuple[Transform, ...]]] = MappingProxyType(
    {
        FSAVERAGE: (),
        NATIVESURFACE: ("white-to-fsaverage",),
        FUNC1PT8MM: ("func1pt8-to-white", "white-to-fsaverage"),
    }
)


@dataclass(frozen=True, eq=False)
class FsaverageIndex:
    """From which site of a subject's space each vertex of fsaverage takes its value.

    Attributes
    ----------
    space : VolumeSpace or SurfaceSpace
        Whose sites these are.
    sites : ndarray of int64, shape (n_vertices,)
        For each vertex of fsaverage, the left hemisphere's and then the right's; `NO_SITE` where
        there is none.
    """

    space: VolumeSpace | SurfaceSpace
    sites: Sites

    @property
    def fsaverage(self) -> SurfaceSpace:
        """The space of the vertices."""
        half = len(self.sites) // 2
        return SurfaceSpace((half, half), FSAVERAGE)

    def values(self, values: ArrayLike, sites: Sites) -> NDArray[np.float32]:
        """Bring values of some sites to fsaverage: (n_vertices,), NaN where there is none."""
        # One more than there are sites, for vertices without: their index is -1.
        everywhere = np.full(self.space.n_sites + 1, np.nan, dtype=np.float32)
        everywhere[sites] = values
        return everywhere[self.sites]


@dataclass(frozen=True, eq=False)
class CortexMesh:
    """The inflated surface of a hemisphere of fsaverage.

    Attributes
    ----------
    coordinates : ndarray of float, shape (n_vertices, 3)
        Along (right, anterior, superior).
    faces : ndarray of int, shape (n_faces, 3)
        0-based vertices.
    sulcal_depth : ndarray of float, shape (n_vertices,)
        Positive in sulci.
    """

    coordinates: NDArray[np.floating]
    faces: NDArray[np.integer]
    sulcal_depth: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Cortex:
    """What values are drawn on, and how a subject's values come there.

    Attributes
    ----------
    indices : mapping of str to FsaverageIndex
        Of each subject (``subj01``).
    meshes : tuple of two CortexMesh, or None
        Left and right, with a vertex for each of fsaverage's; None for fsaverage5, which nilearn
        ships: its vertices are the first of fsaverage's.
    files : tuple of FileRecord
        What was read.
    """

    indices: Mapping[str, FsaverageIndex]
    meshes: tuple[CortexMesh, CortexMesh] | None
    files: tuple[FileRecord, ...] = ()


def read_meshes(dataset: Dataset) -> tuple[CortexMesh, CortexMesh]:
    """Read the inflated hemispheres of fsaverage from a folder: ``{lh,rh}.inflated`` and ``sulc``.

    Raises
    ------
    InputFileError
        A file cannot be read as what FreeSurfer writes.
    OSError
        A file is not there, or the disk fails.
    """
    meshes = []
    for hemisphere in HEMISPHERES:
        surface, sulci = (dataset.mesh_file(name, hemisphere) for name in MESH_FILES)
        try:
            coordinates, faces = read_geometry(surface)  # type: ignore[no-untyped-call]
            depth = read_morph_data(sulci)  # type: ignore[no-untyped-call]
        except (ValueError, IndexError, TypeError, EOFError) as error:
            raise InputFileError(
                f"{surface} and {sulci} cannot be read as a surface ({error}): they are truncated "
                "or of another kind; download them again."
            ) from error
        if len(coordinates) != len(depth):
            raise InputFileError(
                f"{sulci} is of another mesh than {surface}: expected {len(coordinates)} vertices, "
                f"found {len(depth)}; download both again."
            )
        meshes.append(CortexMesh(coordinates, faces, depth))
    return meshes[0], meshes[1]


def transform_files(dataset: Dataset, subject: int, space_name: str) -> list[Path]:
    """Return the files that bring a subject's values from a space to fsaverage.

    Raises
    ------
    ParameterError
        No transform leads from the space to fsaverage.
    """
    if space_name not in TRANSFORMS_TO_FSAVERAGE:
        raise ParameterError(
            f"No transform leads from {space_name} to fsaverage: expected one of "
            f"{', '.join(TRANSFORMS_TO_FSAVERAGE)}."
        )
    return [
        dataset.transform_file(subject, transform, hemisphere)
        for hemisphere in HEMISPHERES
        for transform in TRANSFORMS_TO_FSAVERAGE[space_name]
    ]


def leads_to_fsaverage(dataset: Dataset, subject: int, space_name: str) -> bool:
    """Return whether the dataset has the files that bring a subject's values to fsaverage."""
    return space_name in TRANSFORMS_TO_FSAVERAGE and all(
        dataset.exists(path) for path in transform_files(dataset, subject, space_name)
    )


def read_fsaverage_index(
    dataset: Dataset, subject: int, space: VolumeSpace | SurfaceSpace
) -> FsaverageIndex:
    """Read from which site of a subject's (1-based) space each vertex of fsaverage is taken.

    A vertex of fsaverage is taken from the vertex of the subject's own surface that
    ``white-to-fsaverage`` names, and that from the voxel in which ``func1pt8-to-white`` lays it.

    Raises
    ------
    MissingFilesError
        A transform is not there.
    InputFileError
        A transform cannot be read, or does not fit the space.
    ParameterError
        No transform leads from the space to fsaverage.
    """
    files = transform_files(dataset, subject, space.name)
    missing = [str(path) for path in files if not dataset.exists(path)]
    if missing:
        raise MissingFilesError(
            f"The transforms of subject {subject} from {space.name} to fsaverage are missing: "
            f"expected {', '.join(missing)}; download them."
        )
    if isinstance(space, SurfaceSpace) and space.name == FSAVERAGE:
        return FsaverageIndex(space, np.arange(space.n_sites))
    sides = []
    for hemisphere in HEMISPHERES:
        if isinstance(space, SurfaceSpace):
            first, end = space.hemisphere_sites(hemisphere)
            own = np.arange(first, end)
        else:
            path = dataset.transform_file(subject, "func1pt8-to-white", hemisphere)
            own = _voxels_of_vertices(path, read_vertices(path, dataset.read), space)
        sides.append(own[_native_vertices(dataset, subject, hemisphere, len(own))])
    if len(sides[0]) != len(sides[1]):
        raise InputFileError(
            f"The hemispheres of fsaverage differ in the transforms of subject {subject}: expected "
            f"as many vertices in both, found {len(sides[0])} and {len(sides[1])}; download "
            f"{', '.join(map(str, files))} again."
        )
    return FsaverageIndex(space, np.concatenate(sides))


def _native_vertices(
    dataset: Dataset, subject: int, hemisphere: Hemisphere, n_native: int
) -> NDArray[np.int64]:
    """Return the vertex of the subject's surface for each of fsaverage's, (n_fsaverage,)."""
    path = dataset.transform_file(subject, "white-to-fsaverage", hemisphere)
    content = dataset.read(path)
    n_fsaverage = len(read_vertices(path, lambda _: content))
    return read_vertex_index(path, n_fsaverage, n_native, lambda _: content)


def _voxels_of_vertices(path: Path, positions: NDArray[np.float32], space: VolumeSpace) -> Sites:
    """Return the voxel in which each vertex lies, (n_vertices,); `NO_SITE` outside the volume.

    `place` (n_vertices, 3) counts NIfTI voxels from 1.
    """
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise InputFileError(
            f"{path} has values of the shape {positions.shape}: expected (V, 3), where each vertex "
            "lies in the volume; download it again."
        )
    known = np.isfinite(positions).all(axis=1) & (positions != NO_COUNTERPART).all(axis=1)
    voxel = np.rint(np.where(known[:, np.newaxis], positions, 1)).astype(np.int64) - 1
    known &= (voxel >= 0).all(axis=1) & (voxel < space.grid[::-1]).all(axis=1)
    sites = np.full(len(positions), NO_SITE)
    sites[known] = np.ravel_multi_index(tuple(voxel[known].T[::-1]), space.grid)
    return sites
