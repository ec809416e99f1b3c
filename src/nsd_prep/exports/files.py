"""Arrays written block by block into files that NumPy and h5py read: whole, or not at all."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from nsd_prep.core.atomic import written_whole
from nsd_prep.core.errors import OutputError
from nsd_prep.core.hdf5_lock import HDF5_LOCK

_BYTES_AT_ONCE: Final = 2**24


class Rows:
    """The rows of an array that lies in one piece in a file, to be written in order."""

    def __init__(self, path: Path, file: BinaryIO, shape: tuple[int, ...], dtype: Any) -> None:
        self._path, self._file = path, file
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._start = file.tell()
        self._written = 0
        self._checksum = 0

    def append(self, block: NDArray[Any]) -> None:
        """Write the next rows (n_some_rows, ...)."""
        if block.shape[1:] != self._shape[1:]:
            raise ValueError(f"rows of the shape {block.shape[1:]}, not {self._shape[1:]}")
        stored = np.ascontiguousarray(block, dtype=self._dtype)
        content = stored.reshape(-1).view(np.uint8).data
        self._file.write(content)
        self._checksum = zlib.crc32(content, self._checksum)
        self._written += len(stored)

    def finish(self) -> None:
        """Raise where rows are missing, or the disk gives back something else."""
        if self._written != self._shape[0]:
            raise ValueError(f"{self._path} has {self._written} rows, not {self._shape[0]}")
        self._file.flush()
        self._file.seek(self._start)
        length = int(np.prod(self._shape, dtype=np.int64)) * self._dtype.itemsize
        checksum = 0
        while length:
            content = self._file.read(min(length, _BYTES_AT_ONCE))
            if not content:
                break
            checksum = zlib.crc32(content, checksum)
            length -= len(content)
        if length or checksum != self._checksum:
            raise OutputError(
                f"{self._path} was not written correctly: reading it back gives different bytes; "
                "check the disk and run the same command again."
            )


@contextmanager
def npy_rows(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> Iterator[Rows]:
    """Give the rows of a ``.npy`` file, the bytes of which are those of `numpy.save`.

    Raises
    ------
    OutputError
        The disk is full, cannot be written, or gives back something else.
    """
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    with written_whole(path) as partial, partial.open("wb+") as file:
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        rows = Rows(path, file, shape, dtype)
        yield rows
        rows.finish()


def write_npy(path: Path, values: NDArray[Any]) -> None:
    """Write an array as `numpy.save` does, whole or not at all."""
    with npy_rows(path, values.shape, values.dtype) as rows:
        rows.append(values)


@contextmanager
def hdf5_rows(path: Path, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Iterator[Rows]:
    """Give the rows of the one dataset of an HDF5 file, which lies in one piece.

    The values are written beside HDF5, which ends the process where a full disk takes a file only
    in part.

    Raises
    ------
    OutputError
        As `npy_rows`.
    """
    with written_whole(path) as partial:
        with HDF5_LOCK, h5py.File(partial, "w", libver="earliest") as file:
            creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            creation.set_layout(h5py.h5d.CONTIGUOUS)
            creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            creation.set_obj_track_times(False)
            space = h5py.h5s.create_simple(shape)
            kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
            dataset = h5py.h5d.create(file.id, name.encode(), kind, space, creation)
            offset = dataset.get_offset()
            del dataset
        with partial.open("rb+") as plain:
            plain.seek(offset)
            rows = Rows(path, plain, shape, dtype)
            yield rows
            rows.finish()
