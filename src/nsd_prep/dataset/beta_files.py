"""The files of a session's betas, and which sites of a space each of them holds."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.digests import digest_of_array
from nsd_prep.core.errors import InputFileError, MissingFilesError
from nsd_prep.dataset import published
from nsd_prep.dataset.layout import Dataset, Transform
from nsd_prep.dataset.space import HEMISPHERES, NATIVESURFACE, Hemisphere, Space, SurfaceSpace
from nsd_prep.dataset.surfaces import read_vertex_index, read_vertex_ncsnr, read_vertices

#: The transforms that are read to find fsaverage's vertices among a subject's own.
NATIVE_TRANSFORMS: Final[tuple[Transform, ...]] = ("white-to-fsaverage", "fsaverage-to-white")


@dataclass(frozen=True, eq=False)
class NativeVertices:
    """Which vertices of a subject's own surface are those of fsaverage.

    Attributes
    ----------
    vertices : tuple of int
        Vertices of the subject's own surface, left and right.
    index : tuple of ndarray of int64, each of shape (n_vertices of fsaverage,)
        For each vertex of fsaverage, one (0-based) of the subject's own surface, left and right.
    ncsnr : ndarray of float32, shape (n_sites of fsaverage,), or None
        The noise ceiling SNR of the subject's own surface at these vertices, where it is there.
    """

    vertices: tuple[int, int]
    index: tuple[NDArray[np.int64], NDArray[np.int64]]
    ncsnr: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class BetaFile:
    """A file of a session's betas.

    Attributes
    ----------
    path : Path
        As the source knows it.
    shape : tuple of int
        Of the file's own sites: the axes of its values behind, or in MGH before, that of trials.
    first, stop : int
        The sites of the space that it holds: the first, and the one behind the last.
    index : ndarray of int64, shape (stop - first,), optional
        For each of these, the file's own site; the same in the same order where none is given.
    """

    path: Path
    shape: tuple[int, ...]
    first: int
    stop: int
    index: NDArray[np.int64] | None = None

    def __eq__(self, other: object) -> bool:
        """Return whether another object is the same file, with the same sites."""
        return isinstance(other, BetaFile) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    def _content(self) -> tuple[object, ...]:
        return self.path, self.shape, self.first, self.stop, self._index_digest

    @cached_property
    def _index_digest(self) -> str:
        return "" if self.index is None else digest_of_array(self.index)

    def rows(self, sites: NDArray[np.int64]) -> slice:
        """Return which of some sites (ascending) the file holds."""
        first, stop = np.searchsorted(sites, (self.first, self.stop)).tolist()
        return slice(first, stop)

    def own_sites(self, sites: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the file's own sites of some of the space's, all of which it holds."""
        own = sites - self.first
        return own if self.index is None else self.index[own]


def read_of_files(
    files: Iterable[BetaFile], sites: NDArray[np.int64]
) -> list[tuple[BetaFile, NDArray[np.int64]]]:
    """Return the files that hold some sites (ascending), and which of its own each is read for.

    These ascend, each once.
    """
    own_sites = [(file, file.own_sites(sites[file.rows(sites)])) for file in files]
    return [
        (file, own if file.index is None else np.unique(own)) for file, own in own_sites if len(own)
    ]


def beta_files(
    dataset: Dataset, subject: int, session: int, space: Space, native: NativeVertices | None
) -> tuple[BetaFile, ...]:
    """Return the files of a session (subject and session 1-based); together they hold all sites.

    One of a volume; of surfaces the left hemisphere's and the right's, which `native` takes from
    the files of the subject's own surface.
    """
    if not isinstance(space, SurfaceSpace):
        return (BetaFile(dataset.session_file(subject, session), space.shape, 0, space.n_sites),)
    files = []
    for side, hemisphere in enumerate(HEMISPHERES):
        path = dataset.session_file(subject, session, hemisphere)
        first, stop = space.hemisphere_sites(hemisphere)
        if native is None:
            files.append(BetaFile(path, (stop - first,), first, stop))
        else:
            shape = (native.vertices[side],)
            files.append(BetaFile(path, shape, first, stop, native.index[side]))
    return tuple(files)


def read_native_vertices(dataset: Dataset, subject: int, space: SurfaceSpace) -> NativeVertices:
    """Read which vertices of a subject's (1-based) own surface are those of fsaverage."""
    vertices, index = [], []
    for hemisphere, n_vertices in zip(HEMISPHERES, space.vertices, strict=True):
        path = dataset.transform_file(subject, "white-to-fsaverage", hemisphere)
        if not dataset.exists(path):
            raise MissingFilesError(
                f"The transform from the surface of subject {subject} to fsaverage is missing: "
                f'expected {path}; download it, or give surface_files="mgh" to read the files of '
                "fsaverage."
            )
        n_native = _count_native_vertices(dataset, subject, hemisphere)
        vertices.append(n_native)
        index.append(read_vertex_index(path, n_vertices, n_native, dataset.read))
    ncsnr = _read_native_ncsnr(dataset, subject, vertices, index)
    return NativeVertices((vertices[0], vertices[1]), (index[0], index[1]), ncsnr)


def _read_native_ncsnr(
    dataset: Dataset, subject: int, vertices: list[int], index: list[NDArray[np.int64]]
) -> NDArray[np.float32] | None:
    """Return the ncsnr of the subject's own surface at fsaverage's vertices; None without files."""
    native = replace(dataset, space=NATIVESURFACE)
    files = [native.ncsnr_file(subject, hemisphere) for hemisphere in HEMISPHERES]
    if not all(map(dataset.exists, files)):
        return None
    ncsnr = [read_vertex_ncsnr(file, dataset.read) for file in files]
    for file, own, n_vertices in zip(files, ncsnr, vertices, strict=True):
        if len(own) != n_vertices:
            raise InputFileError(
                f"{file} has {len(own)} vertices: expected {n_vertices}, those of the subject's "
                "surface in this hemisphere; download it again, and the transforms."
            )
    return np.concatenate(
        [own[vertices_of_file] for own, vertices_of_file in zip(ncsnr, index, strict=True)]
    )


def _count_native_vertices(dataset: Dataset, subject: int, hemisphere: Hemisphere) -> int:
    """Return how many vertices a hemisphere of a subject's own surface has."""
    if dataset.is_nsd:
        return published.NATIVE_VERTICES[subject][HEMISPHERES.index(hemisphere)]
    path = dataset.transform_file(subject, "fsaverage-to-white", hemisphere)
    if not dataset.exists(path):
        raise MissingFilesError(
            f"How many vertices the surface of subject {subject} has in {hemisphere} is not known: "
            f"expected {path}, with a value for each; put it there."
        )
    return len(read_vertices(path, dataset.read))


def check_published_vertices(
    dataset: Dataset, subject: int, space: SurfaceSpace, where: str
) -> None:
    """Raise InputFileError where NSD's own surfaces have not as many vertices as published."""
    expected = (
        published.NATIVE_VERTICES[subject]
        if space.name == NATIVESURFACE
        else published.FSAVERAGE_VERTICES
    )
    if dataset.is_nsd and space.vertices != expected:
        raise InputFileError(
            f"{where} of subject {subject} have {space.vertices[0]} and {space.vertices[1]} "
            f"vertices: expected {expected[0]} and {expected[1]}, as {space.name} has, the left "
            "hemisphere first; download them again."
        )
