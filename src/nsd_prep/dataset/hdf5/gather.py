"""Chunks of many voxels, read from a local file in few calls where its own index says they lie.

HDF5 looks up and reads one chunk in a call, and keeps all other threads of Python waiting. Here the
index is searched for all voxels at once, and what lies close together is read in one go.
"""

import errno
import io
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

import h5py
import numpy as np
from numpy.typing import NDArray

from nsd_prep.dataset.hdf5.index import index_of
from nsd_prep.dataset.hdf5.ranges import merged

Integers = NDArray[np.int64]

#: Bytes between two pieces that are read rather than skipped.
_GAP: Final = 8192
#: Bytes of the file in memory at once, beside what is returned.
_BYTES_AT_ONCE: Final = 8_000_000


def gather_chunks(path: Path, betas: h5py.Dataset, voxels: Integers) -> NDArray[np.uint8] | None:
    """Read the chunks of voxels (sites), each all trials of one, without filters.

    Returns
    -------
    ndarray of uint8, shape (n_voxels, n_trials * itemsize)
        The bytes of each voxel's chunk. None where the file has another kind of index or a damaged
        one, or a voxel has no chunk: HDF5 knows what that means.
    """
    bytes_of_voxel = betas.shape[0] * betas.dtype.itemsize
    if not len(voxels) or betas.file.userblock_size:
        return None
    if not path.samefile(betas.file.filename):  # behind a link to another file
        return None
    with path.open("rb", buffering=0) as file:

        def read_at(place: int, length: int) -> bytes:
            return _pieces(file, np.array([place]), length).tobytes()

        with suppress(_OutsideError, struct.error, ValueError):  # damaged: HDF5 will tell of it
            if (index := index_of(betas, read_at)) is None:
                return None
            node_bytes = index.node_bytes
            table = index.find(voxels, lambda nodes: _pieces(file, nodes, node_bytes))
            if table is not None and (table.lengths == bytes_of_voxel).all():
                return _pieces(file, table.starts, bytes_of_voxel)
    return None


class _OutsideError(Exception):
    """Bytes were asked for that lie outside of the file."""


def _pieces(file: io.FileIO, starts: Integers, length: int) -> NDArray[np.uint8]:
    """Return pieces of a file, shape (n_pieces, length), that begin at some bytes."""
    end = int(starts.max()) + length
    if length <= 0 or starts.min() < 0 or end > os.fstat(file.fileno()).st_size:
        raise _OutsideError
    pieces = np.empty((len(starts), length), dtype=np.uint8)
    order = np.argsort(starts, kind="stable")
    bytes_before = np.arange(len(starts)) * length
    for rows in np.split(order, np.flatnonzero(np.diff(bytes_before // _BYTES_AT_ONCE)) + 1):
        wanted = starts[rows]
        ranges = merged(wanted, np.full(len(rows), length), _GAP)
        ends = np.cumsum(ranges.stops - ranges.starts)
        content = np.empty(int(ends[-1]), dtype=np.uint8)
        for start, stop, end in zip(ranges.starts, ranges.stops, ends, strict=True):
            _read_into(file, int(start), content.data[end - (stop - start) : end])
        held_in = np.searchsorted(ranges.starts, wanted, side="right") - 1
        places = wanted - ranges.stops[held_in] + ends[held_in]
        windows = np.ndarray((len(content) - length + 1,), f"V{length}", content, strides=(1,))
        pieces[rows] = windows[places].view(np.uint8).reshape(-1, length)
    return pieces


def _read_into(file: io.FileIO, start: int, content: memoryview) -> None:
    file.seek(start)
    while len(content):
        if not (given := file.readinto(content)):
            raise OSError(errno.EIO, "The disk gave a session's betas only in part")
        content = content[given:]
