"""Writers of NSD's file formats: the same data, the same bytes."""

import gzip
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any, Final, Literal, get_args

import h5py
import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

from nsd_prep.core.hdf5_lock import HDF5_LOCK
from nsd_prep.dataset.mgh import MGH_HEADER_BYTES, MGH_TRAILER, mgh_content, mgh_header

Storage = Literal["voxel_chunks", "contiguous", "gzip", "trial_chunks", "odd_chunks"]
STORAGE_FORMS: Final = get_args(Storage)

Block = tuple[NDArray[np.int64], NDArray[np.int16]]
"""Flat indices into the reversed volume, or vertices, ascending, and (n_sites, n_trials) betas."""

_MM_PER_VOXEL: Final = 1.8
_MAT_HEADER: Final = b"MATLAB 5.0 MAT-file, Platform: synthetic"


def with_folder(path: Path) -> Path:
    """Return a path whose folder is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_betas(
    path: Path,
    blocks: Iterable[Block],
    *,
    n_trials: int,
    sites: tuple[int, ...],
    storage: Storage,
) -> None:
    """Write the betas of a session.

    Parameters
    ----------
    path : Path
        ``betas_sessionNN.hdf5``.
    blocks : iterable of Block
        The sites to write, in file order; what is in no block stays unallocated and reads as 0.
    n_trials : int
    sites : tuple of int
        The reversed volume (Z, Y, X), or the number of vertices.
    storage : str
        ``voxel_chunks`` as in NSD: one site's trials are one chunk; the others hold the same
        values in other ways that HDF5 has.
    """
    shape = (n_trials, *sites)
    with HDF5_LOCK, h5py.File(path, "w", libver="earliest") as file:
        site_chunks = (n_trials, *(1,) * len(sites))
        if storage == "voxel_chunks":
            dataset = file.create_dataset("betas", shape, "<i2", chunks=site_chunks)
            write_chunk = dataset.id.write_direct_chunk
            for site_index, betas in blocks:
                coordinates = np.column_stack(np.unravel_index(site_index, sites)).tolist()
                for coordinate, values in zip(coordinates, betas, strict=True):
                    write_chunk((0, *coordinate), values)
            return
        volume = np.zeros((n_trials, prod(sites)), dtype="<i2")
        for site_index, betas in blocks:
            volume[:, site_index] = betas.T
        forms: dict[str, dict[str, object]] = {
            "contiguous": {},
            "gzip": {"chunks": site_chunks, "compression": "gzip", "shuffle": True},
            "trial_chunks": {"chunks": (1, *sites)},
            "odd_chunks": {"chunks": tuple(np.minimum(shape, (7, 4, 3, 5)[: len(shape)]).tolist())},
        }
        file.create_dataset("betas", data=volume.reshape(shape), **forms[storage])


class FrameFile:
    """The betas of a session as an MGH file: a frame for each trial, NaN where nothing is said.

    Parameters
    ----------
    path : Path
        ``betas_sessionNN.mgh``, of one hemisphere.
    n_vertices, n_trials : int
        A frame's values, and the number of frames.
    """

    def __init__(self, path: Path, n_vertices: int, n_trials: int) -> None:
        with path.open("wb") as file:
            file.write(mgh_header(n_vertices, 1, 1, n_trials))
            empty = np.full(n_vertices, np.nan, ">f4").tobytes()
            for _ in range(n_trials):
                file.write(empty)
            file.write(MGH_TRAILER)
        self._frames = np.memmap(path, ">f4", "r+", MGH_HEADER_BYTES, (n_trials, n_vertices))

    def add(self, vertices: NDArray[np.int64], betas: NDArray[np.float32]) -> None:
        """Write the betas, (n, n_trials) percent signal change, of some vertices."""
        for start in range(0, len(self._frames), 32):  # the pages of few frames at a time
            self._frames[start : start + 32, vertices] = betas[:, start : start + 32].T

    def close(self) -> None:
        """Hand what was added to the disk."""
        self._frames.flush()
        del self._frames


def write_pictures(path: Path, pictures: NDArray[np.uint8]) -> None:
    """Write ``nsd_stimuli.hdf5``: ``imgBrick``, (n_images, height, width, 3) uint8."""
    # In memory first: HDF5 ends the process where a full disk takes the file only in part.
    in_memory: dict[str, Any] = {"driver": "core", "backing_store": False}
    with HDF5_LOCK, h5py.File(path, "w", libver="earliest", **in_memory) as file:
        file.create_dataset("imgBrick", data=pictures)
        file.flush()
        content = file.id.get_file_image()
    path.write_bytes(content)


def write_nifti(path: Path, reversed_volume: NDArray[np.generic]) -> None:
    """Write a volume given as (Z, Y, X) as NIfTI (X, Y, Z), gzip-compressed without a time."""
    volume = reversed_volume.transpose(2, 1, 0)
    affine = np.diag([_MM_PER_VOXEL] * 3 + [1.0])
    affine[:3, 3] = -_MM_PER_VOXEL * (np.array(volume.shape) - 1) / 2
    image = nibabel.Nifti1Image(volume, affine, dtype=volume.dtype)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm", "sec")  # type: ignore[no-untyped-call]
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))


def write_mgh(path: Path, values: NDArray[np.generic]) -> None:
    """Write values of vertices, (V,) or (V, n): an .mgz is gzip-compressed without a time."""
    content = mgh_content(values)
    is_compressed = path.suffix == ".mgz"
    path.write_bytes(gzip.compress(content, compresslevel=4, mtime=0) if is_compressed else content)


def write_mat(path: Path, variables: Mapping[str, NDArray[np.generic]]) -> None:
    """Write a MAT v5 file, compressed, without the time that its header would hold."""
    savemat(path, dict(sorted(variables.items())), do_compression=True)
    with path.open("r+b") as file:
        file.write(_MAT_HEADER.ljust(116))


def write_label_table(path: Path, names: Mapping[int, str]) -> None:
    """Write a ``.ctab``: lines of index and name, 0 first."""
    lines = ["0 Unknown", *(f"{label} {name}" for label, name in sorted(names.items()))]
    path.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")
