"""Betas of any storage form, read by HDF5 in blocks that hold whole chunks."""

from collections.abc import Iterable, Iterator
from itertools import pairwise, product
from typing import Any, Final, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from nsd_prep.dataset.hdf5.content import Content
from nsd_prep.dataset.hdf5.ranges import Ranges, merged

Integers = NDArray[np.int64]

#: Bytes read at once from files that are not stored voxel by voxel.
_BYTES_AT_ONCE: Final = 64_000_000


class _Block(NamedTuple):
    """A box of voxels in some trials.

    Attributes
    ----------
    rows : ndarray of int64, shape (n_rows,)
        Of the voxels that were asked for, those in the box.
    inside : tuple of ndarray of int64, each of shape (n_rows,)
        Where they lie in the box, along each axis.
    box : tuple of slice
        Trials, and each axis of the sites.
    n_bytes : int
        Of the values in the box.
    """

    rows: Integers
    inside: tuple[Integers, ...]
    box: tuple[slice, ...]
    n_bytes: int


def read_blocks(betas: h5py.Dataset, content: Content, voxels: Integers) -> NDArray[Any]:
    """Return the betas (voxel, trial) of a file of any storage form, whole chunks at a time.

    Parameters
    ----------
    betas : h5py.Dataset
        (n_trials, *shape).
    content : Content
        The file that it lies in.
    voxels : ndarray of int64, shape (n_voxels,)
        Sites (0-based), ascending: indices into the raveled shape.
    """
    values = np.empty((len(voxels), betas.shape[0]), dtype=betas.dtype)
    # What HDF5 would read of a remote file is fetched together, as much as fits into memory.
    n_bytes = _BYTES_AT_ONCE if content.is_local else content.bytes_at_once
    for group in _grouped(_blocks(betas, voxels, n_bytes), n_bytes):
        keys = (
            []
            if content.is_local
            else content.fetch(stored_ranges(betas, content, [block.box for block in group]))
        )
        for block in group:
            read = content.complete(lambda: betas[block.box], keep=False)  # noqa: B023 (called at once)
            values[block.rows, block.box[0]] = read[(slice(None), *block.inside)].T
        content.remove(keys)
    return values


def _blocks(betas: h5py.Dataset, voxels: Integers, n_bytes: int) -> Iterator[_Block]:
    """Give the blocks that hold voxels, each of so many bytes, or of a chunk's trials."""
    n_trials, *shape = betas.shape
    itemsize = betas.dtype.itemsize
    chunk = betas.chunks or (1, *shape)
    axes = np.unravel_index(voxels, shape)
    *leading, column = (axis // length for axis, length in zip(axes, chunk[1:], strict=True))
    row = np.zeros(len(voxels), dtype=np.int64)
    for axis, length in zip(leading, shape, strict=False):
        row = row * length + axis
    order = np.lexsort((column, row))
    apart = (np.diff(row[order]) != 0) | (np.diff(column[order]) > 1)
    ends = [0, *(np.flatnonzero(apart) + 1).tolist(), len(voxels)]
    for rows in (order[start:stop] for start, stop in pairwise(ends) if start < stop):
        corner = [int(axis[rows].min()) for axis in axes]
        end = [int(axis[rows].max()) + 1 for axis in axes]
        if betas.chunks is None:  # one long read a trial is faster than many short ones
            corner[1:], end[1:] = [0] * len(corner[1:]), shape[1:]
        size = int(np.prod(np.subtract(end, corner))) * itemsize
        step = max(1, n_bytes // size // chunk[0]) * chunk[0]
        box = tuple(slice(*side) for side in zip(corner, end, strict=True))
        inside = tuple(axis[rows] - start for axis, start in zip(axes, corner, strict=True))
        for first in range(0, n_trials, step):
            trials = slice(first, min(first + step, n_trials))
            yield _Block(rows, inside, (trials, *box), size * (trials.stop - first))


def _grouped(blocks: Iterator[_Block], n_bytes: int) -> Iterator[list[_Block]]:
    """Give blocks in groups of so many bytes, or of one block."""
    group: list[_Block] = []
    total = 0
    for block in blocks:
        if group and total + block.n_bytes > n_bytes:
            yield group
            group, total = [], 0
        group.append(block)
        total += block.n_bytes
    if group:
        yield group


def stored_ranges(
    dataset: h5py.Dataset, content: Content, boxes: Iterable[tuple[slice, ...]]
) -> Ranges:
    """Return where the values in boxes lie; none where HDF5 does not tell.

    It chooses what to fetch together: what is missing of it HDF5 asks for when it reads. Where the
    values lie in one block, boxes are whole from their third axis on.
    """
    locations: list[tuple[int, int]] = []
    if dataset.file.userblock_size:
        boxes = []
    if dataset.chunks is None:
        first = dataset.id.get_offset()
        plane = int(np.prod(dataset.shape[2:])) * dataset.dtype.itemsize
        for outer, inner, *_ in boxes if first is not None else ():
            locations += [
                (
                    first + (at * dataset.shape[1] + inner.start) * plane,
                    (inner.stop - inner.start) * plane,
                )
                for at in range(outer.start, outer.stop)
            ]
    else:
        for box in boxes:
            corners = (
                range(side.start // length * length, side.stop, length)
                for side, length in zip(box, dataset.chunks, strict=True)
            )
            for corner in product(*corners):
                chunk = content.complete(lambda: dataset.id.get_chunk_info_by_coord(corner))  # noqa: B023
                if chunk.byte_offset is not None:
                    locations.append((chunk.byte_offset, chunk.size))
    inside = [(start, length) for start, length in locations if 0 <= start <= content.size - length]
    starts, lengths = np.array(inside, dtype=np.int64).reshape(-1, 2).T
    return merged(starts, lengths, content.gap)
