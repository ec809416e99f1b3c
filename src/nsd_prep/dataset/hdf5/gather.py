"""Chunks of many voxels, read in few calls where the file's own index says that they lie.

HDF5 looks up and reads one chunk in a call, and keeps all other threads of Python waiting. Here the
index is searched for all voxels at once, and what lies close together is read in one go.
"""

import struct

import h5py
import numpy as np
from numpy.typing import NDArray

from nsd_prep.dataset.hdf5.content import Content, OutsideError
from nsd_prep.dataset.hdf5.index import ChunkIndex, ChunkTable
from nsd_prep.dataset.hdf5.ranges import Ranges, merged, slices

Integers = NDArray[np.int64]


def find_chunks(content: Content, index: ChunkIndex, voxels: Integers) -> ChunkTable | None:
    """Find the chunks of voxels in the index of their file.

    Parameters
    ----------
    content : Content
        The file. Nodes that are fetched of it stay.
    index : ChunkIndex
        Its index, each chunk all trials of a voxel.
    voxels : ndarray of int64, shape (n_voxels,)
        Sites (0-based), ascending.

    Returns
    -------
    ChunkTable or None
        None where the index is damaged: HDF5 will tell of it.
    """

    def read_nodes(nodes: Integers) -> NDArray[np.uint8]:
        ranges = _checked(content, nodes, index.node_bytes)
        content.will_need(ranges)
        content.fetch(ranges)
        return _pieces(content, nodes, index.node_bytes)

    try:
        return index.find(voxels, read_nodes)
    except (struct.error, ValueError):
        return None


def look_up_chunks(betas: h5py.Dataset, content: Content, voxels: Integers) -> ChunkTable:
    """Find the chunks of voxels by HDF5, one by one, in a file of any kind of index.

    Arguments are those of `find_chunks`, the dataset in place of its index; HDF5's errors are those
    of a damaged file.
    """
    locations = np.zeros((len(voxels), 2), dtype=np.int64)
    look_up = betas.id.get_chunk_info_by_coord
    positions = zip(
        *(axis.tolist() for axis in np.unravel_index(voxels, betas.shape[1:])), strict=True
    )
    for row, position in enumerate(positions):
        chunk = content.complete(lambda: look_up((0, *position)))  # noqa: B023 (called at once)
        if chunk.byte_offset is not None:
            locations[row] = chunk.byte_offset, chunk.size
    return ChunkTable(*locations.T)


def gather_chunks(content: Content, starts: Integers, length: int) -> NDArray[np.uint8] | None:
    """Read chunks of one length.

    Parameters
    ----------
    content : Content
        The file.
    starts : ndarray of int64, shape (n_chunks,)
        The bytes where they begin.
    length : int
        Bytes of each.

    Returns
    -------
    ndarray of uint8, shape (n_chunks, length)
        None where some lie outside of the file.

    Raises
    ------
    OSError
        The disk fails, or gives less than it holds; or the network does.
    """
    try:
        content.will_need(_checked(content, starts, length))
    except OutsideError:
        return None
    chunks = np.empty((len(starts), length), dtype=np.uint8)
    order = np.argsort(starts, kind="stable")
    lengths = np.full(len(starts), length)
    # Ranges, and the chunks that are taken from them, are in memory together.
    for chosen in slices(starts[order], lengths, content.gap, content.bytes_at_once // 2):
        rows = order[chosen]
        keys = content.fetch(merged(starts[rows], lengths[rows], content.gap))
        chunks[rows] = _pieces(content, starts[rows], length)
        content.remove(keys)
    return chunks


def _checked(content: Content, starts: Integers, length: int) -> Ranges:
    """Return the ranges that hold pieces of a file; `OutsideError` where some are not in it."""
    if len(starts) and (starts.min() < 0 or starts.max() + length > content.size):
        raise OutsideError
    return merged(starts, np.full(len(starts), length), content.gap)


def _pieces(content: Content, starts: Integers, length: int) -> NDArray[np.uint8]:
    """Return pieces, shape (n_pieces, length), of a file that gives them."""
    ranges = merged(starts, np.full(len(starts), length), content.gap)
    ends = np.cumsum(ranges.stops - ranges.starts)
    buffer = np.empty(int(ends[-1]), dtype=np.uint8)
    for (start, stop), end in zip(ranges, ends.tolist(), strict=True):
        content.read_into(start, buffer.data[end - (stop - start) : end])
    held_in = np.searchsorted(ranges.starts, starts, side="right") - 1
    offsets = starts - ranges.stops[held_in] + ends[held_in]
    windows = np.ndarray((len(buffer) - length + 1,), f"V{length}", buffer, strides=(1,))
    return windows[offsets].view(np.uint8).reshape(-1, length)
