"""Betas of a session: read for some voxels, and z-scored over the session's trials.

This is the only module that touches beta files: voxels go in, (voxel, trial) comes out. Another
way of storing betas is another way to fill `read_voxels`.
"""

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.digests import check_regular
from nsd_prep.core.errors import InputFileError
from nsd_prep.core.hdf5_lock import HDF5_LOCK
from nsd_prep.dataset.hdf5.gather import gather_chunks
from nsd_prep.dataset.hdf5.opening import errno_of, opened_to_read
from nsd_prep.dataset.hdf5.places import ChunkPlaces
from nsd_prep.dataset.published import BETA_SCALE

DATASET_NAME: Final = "betas"
#: Voxels z-scored together: few enough for a core's cache, so many that threads that compute and
#: read seldom wait for each other's turn in the interpreter.
_VOXELS_AT_ONCE: Final = 512
#: Bytes read at once from files that are not stored voxel by voxel.
_BYTES_AT_ONCE: Final = 64_000_000
#: Bytes between two voxels' chunks that a disk reads as fast as it skips them.
_BRIDGED_BYTES: Final = 16_384


def check_session_file(
    path: Path | str, shape: tuple[int, ...], n_trials: int, file: io.RawIOBase | None = None
) -> None:
    """Raise where a session's betas are not of the expected form.

    Arguments and errors are those of `read_voxels`.
    """
    with opened_betas(path, shape, n_trials, file):
        pass


def read_voxels(
    path: Path | str,
    voxels: NDArray[np.int64],
    shape: tuple[int, ...],
    n_trials: int,
    file: io.RawIOBase | None = None,
) -> NDArray[np.int16]:
    """Read all trials of some voxels of a session, and little else.

    Files stored voxel by voxel, as NSD's are, are read chunk by chunk, where a local file's own
    index says that they lie, or else as HDF5 finds them. Any other storage form is read in blocks
    that hold whole chunks.

    Parameters
    ----------
    path : Path
        A session's HDF5 file, its dataset ``betas`` of shape (n_trials, *shape).
    voxels : ndarray of int64, shape (n_voxels,)
        Sites (0-based), ascending: indices into the raveled `shape` (C order).
    shape : tuple of int
        `nsd_prep.dataset.space.Space.shape`: (Z, Y, X) of a volume.
    n_trials : int
        750 in NSD.
    file : file object, optional
        What is read in place of `path`, which is then a name for messages.

    Returns
    -------
    ndarray of int16, shape (n_voxels, n_trials)
        As stored: 300 times the percent signal change.

    Raises
    ------
    OSError
        There is no such file, or the disk fails.
    InputFileError
        The file is truncated, not HDF5, or holds something else.
    """
    with opened_betas(path, shape, n_trials, file) as betas:
        if (
            betas.chunks == (n_trials, *(1 for _ in shape))
            and betas.id.get_create_plist().get_nfilters() == 0
        ):
            gathered = None
            if file is None:
                _ask_ahead(betas, voxels)
                gathered = gather_chunks(Path(path), betas, voxels)
            if gathered is None:
                values = _read_voxel_chunks(betas, voxels)
            else:
                values = gathered.view(betas.dtype)
        else:
            values = _read_blocks(betas, voxels)
    return values.astype(np.int16, copy=False)


def _read_voxel_chunks(betas: h5py.Dataset, voxels: NDArray[np.int64]) -> NDArray[Any]:
    """Return the betas (voxel, trial) of a file where each voxel's trials are one plain chunk."""
    axes = [axis.tolist() for axis in np.unravel_index(voxels, betas.shape[1:])]
    read = _voxel_chunk_reader(betas)
    chunks = b"".join([read(position) for position in zip(repeat(0), *axes, strict=False)])
    values = np.frombuffer(chunks, betas.dtype).reshape(len(voxels), betas.shape[0])
    # What a disk does not give HDF5 fills with zeros, and says nothing: read these voxels twice.
    for index in np.flatnonzero(values[:, -1] == 0).tolist():
        if read((0, *(axis[index] for axis in axes))) != values[index].tobytes():
            raise _given_in_part()
    return values


def _ask_ahead(betas: h5py.Dataset, voxels: NDArray[np.int64]) -> None:
    """Let the system read all that will be wanted at once, while it is asked for piece by piece.

    Only of a file that has the size of one written in one go, where it is known what is going to be
    read. It changes when something is read, never what.
    """
    if not hasattr(os, "posix_fadvise") or not len(voxels):
        return
    with suppress(OSError, RuntimeError, ValueError):
        file = betas.file.id.get_vfd_handle()
        places = ChunkPlaces.predict(betas.shape[1:], betas.shape[0])
        if os.fstat(file).st_size != places.file_bytes:
            return
        ranges = places.ranges(voxels, _BRIDGED_BYTES)
        for start, stop in zip(ranges.starts.tolist(), ranges.stops.tolist(), strict=True):
            os.posix_fadvise(file, start, stop - start, os.POSIX_FADV_WILLNEED)


def _voxel_chunk_reader(betas: h5py.Dataset) -> Callable[[tuple[int, ...]], bytes]:
    """Return what reads the chunk at a position: called for every voxel, it does nothing else."""
    read_chunk = betas.id.read_direct_chunk
    bytes_of_voxel = betas.shape[0] * betas.dtype.itemsize

    def read(position: tuple[int, ...]) -> bytes:
        try:
            given: bytes = read_chunk(position)[1]
        except (OSError, RuntimeError, ValueError):  # which of them differs between h5py's versions
            # A chunk that was never allocated reads as the fill value; a failing disk fails again.
            return betas[(slice(None), *position[1:])].tobytes()
        if len(given) != bytes_of_voxel:
            raise _given_in_part()
        return given

    return read


def _given_in_part() -> OSError:
    return OSError(errno.EIO, "The disk gave a voxel's betas only in part")


def _read_blocks(betas: h5py.Dataset, voxels: NDArray[np.int64]) -> NDArray[Any]:
    """Return the betas (voxel, trial) of a file of any storage form, whole chunks at a time."""
    n_trials, *shape = betas.shape
    values = np.empty((len(voxels), n_trials), dtype=betas.dtype)
    chunk = betas.chunks or (1, *shape)
    axes = np.unravel_index(voxels, shape)
    *leading, column = (axis // length for axis, length in zip(axes, chunk[1:], strict=True))
    row = np.zeros(len(voxels), dtype=np.int64)
    for axis, length in zip(leading, shape, strict=False):
        row = row * length + axis
    order = np.lexsort((column, row))
    apart = (np.diff(row[order]) != 0) | (np.diff(column[order]) > 1)
    ends = [0, *(np.flatnonzero(apart) + 1).tolist(), len(voxels)]
    for of_block in (order[start:stop] for start, stop in pairwise(ends) if start < stop):
        corner = [int(axis[of_block].min()) for axis in axes]
        end = [int(axis[of_block].max()) + 1 for axis in axes]
        if betas.chunks is None:  # one long read a trial is faster than many short ones
            corner[1:], end[1:] = [0] * len(corner[1:]), shape[1:]
        size = int(np.prod(np.subtract(end, corner))) * values.itemsize
        step = max(1, _BYTES_AT_ONCE // size // chunk[0]) * chunk[0]
        box = tuple(slice(*side) for side in zip(corner, end, strict=True))
        inside = tuple(axis[of_block] - start for axis, start in zip(axes, corner, strict=True))
        for first in range(0, n_trials, step):
            trials = slice(first, min(first + step, n_trials))
            values[of_block, trials] = betas[(trials, *box)][(slice(None), *inside)].T
    return values


@contextmanager
def opened_betas(
    path: Path | str, shape: tuple[int, ...], n_trials: int, file: io.RawIOBase | None = None
) -> Iterator[h5py.Dataset]:
    """Open a session's betas, checked, with h5py's errors turned into the library's.

    Parameters
    ----------
    path, shape, n_trials, file
        As `read_voxels`.

    Yields
    ------
    h5py.Dataset
        Of shape (n_trials, *shape); no other thread reads betas meanwhile.
    """
    if file is None:
        check_regular(Path(path))  # HDF5 would wait for what a pipe never gives
    with HDF5_LOCK:
        try:
            with opened_to_read(path) if file is None else h5py.File(file, "r") as opened:
                yield _checked(path, opened, shape, n_trials)
        except (OSError, RuntimeError, KeyError) as error:  # h5py at damaged files
            if number := errno_of(error):
                raise OSError(number, os.strerror(number), str(path)) from error
            raise InputFileError(
                f"{path} cannot be read as a session's betas ({error}): it is truncated, empty or "
                "not HDF5; download it again."
            ) from error


def _checked(
    path: Path | str, file: h5py.File, shape: tuple[int, ...], n_trials: int
) -> h5py.Dataset:
    # Of a disk that fails `get` would say that there is no dataset.
    betas = file[DATASET_NAME] if DATASET_NAME in file else None  # noqa: SIM401
    if not isinstance(betas, h5py.Dataset):
        held = ", ".join(sorted(map(str, file))) or "nothing"
        held = held if betas is None else "a group of this name"
        raise InputFileError(
            f"{path} has no dataset '{DATASET_NAME}': expected it to hold the betas, found {held}; "
            "download the file again."
        )
    if betas.is_virtual or betas.external:
        # Where those files are missing HDF5 gives the fill value for them, without an error.
        raise InputFileError(
            f"{path} holds no betas of its own: expected the dataset '{DATASET_NAME}' in the file "
            f"itself, found one whose values lie in {_other_files(betas)}; copy the values into "
            "one file, or download it again."
        )
    if betas.dtype.newbyteorder("=") != np.dtype(np.int16):
        raise InputFileError(
            f"{path} has betas of the type {betas.dtype.name}: expected int16 (percent signal "
            f"change times {BETA_SCALE}); download the file again."
        )
    expected = (n_trials, *shape)
    if betas.shape != expected:
        raise InputFileError(
            f"{path} has betas of the shape {betas.shape}: expected {expected}, the session's "
            "trials in the space of the region labels; download the file or the labels again."
        )
    return betas


def _other_files(betas: h5py.Dataset) -> str:
    sources = betas.virtual_sources() if betas.is_virtual else []
    names = [source.file_name for source in sources] or [name for name, *_ in betas.external or ()]
    return ", ".join(dict.fromkeys(map(str, names))) or "no file"
