"""The version-1 B-tree of a file whose chunks lie in another order than NSD's: only what is needed.

HDF5 File Format Specification, III.A.1 (version-1 B-trees) and IV.A (object headers).
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
ReadAt = Callable[[int, int], bytes]
"""Given a place and a length, returns the bytes there."""

_NODE_HEADER: Final = np.dtype(
    [
        ("signature", "S4"),
        ("kind", "u1"),
        ("level", "u1"),
        ("n_used", "<u2"),
        ("siblings", "<u8", (2,)),
    ]
)
_ADDRESS_BYTES: Final = 8
#: Of a full node, by HDF5's default, which can be changed and is not by anyone known.
_CHILDREN: Final = 64
_UNDEFINED: Final = 0xFFFF_FFFF_FFFF_FFFF
_LAYOUT: Final = 0x08
_CONTINUATION: Final = 0x10


class ChunkTable(NamedTuple):
    """Where the chunks of voxels lie.

    Attributes
    ----------
    starts, lengths : ndarray of int64, shape (n_voxels,)
        Bytes; 0 and 0 where a voxel's chunk was never written.
    """

    starts: Integers
    lengths: Integers


@dataclass(frozen=True)
class ChunkIndex:
    """A version-1 B-tree of chunks.

    Attributes
    ----------
    root : int
        Byte where its root lies.
    shape : tuple of int
        Of the dataset's sites: its axes behind that of trials.
    node_bytes : int
        Bytes of a node.
    """

    root: int
    shape: tuple[int, ...]
    node_bytes: int

    @property
    def _entry(self) -> np.dtype[np.void]:
        offsets = ("offsets", "<u8", (len(self.shape) + 2,))
        return np.dtype([("bytes", "<u4"), ("mask", "<u4"), offsets, ("child", "<u8")])

    def find(
        self,
        voxels: Integers,
        read_nodes: Callable[[Integers], NDArray[np.uint8]],
    ) -> ChunkTable | None:
        """Find the chunks of voxels, a level of the tree at a time.

        Parameters
        ----------
        voxels : ndarray of int64
            Sites (0-based), ascending, each one's trials one chunk.
        read_nodes : callable
            Given the places of nodes, returns their bytes (n_nodes, node_bytes).

        Returns
        -------
        ChunkTable or None
            None where the file holds no such tree.
        """
        nodes, level = np.array([self.root], dtype=np.int64), -1
        while True:
            content = read_nodes(nodes)
            header: Any = content[:, : _NODE_HEADER.itemsize].view(_NODE_HEADER)[:, 0]
            level = int(header["level"][0]) if level < 0 else level - 1
            is_node = (header["signature"] == b"TREE") & (header["kind"] == 1)
            if not (is_node & (header["level"] == level) & (header["n_used"] <= _CHILDREN)).all():
                return None
            first = _NODE_HEADER.itemsize
            entries = content[:, first : first + _CHILDREN * self._entry.itemsize]
            entries = np.ascontiguousarray(entries).view(self._entry)
            # In the order of the tree, which is that of the voxels.
            entries = entries[np.arange(_CHILDREN) < header["n_used"][:, np.newaxis]]
            if not len(entries):
                return ChunkTable(*np.zeros((2, len(voxels)), dtype=np.int64))
            keys = self._voxels(entries["offsets"].astype(np.int64))
            at = np.maximum(np.searchsorted(keys, voxels, side="right") - 1, 0)
            children = entries["child"].astype(np.int64)
            if level == 0:
                written = keys[at] == voxels
                lengths = entries["bytes"].astype(np.int64)
                return ChunkTable(children[at] * written, lengths[at] * written)
            nodes = children[at[np.diff(at, prepend=-1) > 0]]

    def _voxels(self, offsets: Integers) -> Integers:
        """Return the sites of chunks; chunks of later trials come behind all sites."""
        voxels = np.zeros(len(offsets), dtype=np.int64)
        for length, offset in zip(self.shape, offsets.T[1:-1], strict=True):
            voxels = voxels * length + offset
        return voxels + np.where(offsets[:, 0] > 0, np.prod(self.shape), 0)


def index_of(betas: h5py.Dataset, read_at: ReadAt) -> ChunkIndex | None:
    """Find the index of a dataset's chunks.

    Parameters
    ----------
    betas : h5py.Dataset
        Open.
    read_at : callable
        Reads bytes of the same file.

    Returns
    -------
    ChunkIndex or None
        None where it has another kind of index, or none.
    """
    creation = betas.file.id.get_create_plist()
    if creation.get_sizes() != (_ADDRESS_BYTES, _ADDRESS_BYTES):
        return None
    header = h5py.h5g.get_objinfo(betas.file.id, betas.name.encode()).objno[0]
    for kind, content in _messages(header, read_at):
        if kind != _LAYOUT or content[:2] != b"\x03\x02":  # version 3, chunked
            continue
        n_dimensions = content[2] - 1
        (root,) = struct.unpack_from("<Q", content, 3)
        if root == _UNDEFINED:
            return None
        if n_dimensions != betas.ndim:
            return None
        key = 8 + 8 * (n_dimensions + 1)
        entries = (_CHILDREN + 1) * key + _CHILDREN * _ADDRESS_BYTES
        return ChunkIndex(root, betas.shape[1:], _NODE_HEADER.itemsize + entries)
    return None


def _messages(header: int, read_at: ReadAt) -> Iterator[tuple[int, bytes]]:
    """Give the kind and content of each message of an object header, of either version."""
    if read_at(header, 4) == b"OHDR":
        flags = read_at(header + 5, 1)[0]
        start = header + 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        width = 1 << (flags & 3)
        blocks = [(start + width, int.from_bytes(read_at(start, width), "little"))]
        prefix, extra, around = struct.Struct("<BHB"), 2 * bool(flags & 0x04), (4, 4)
    else:
        (length,) = struct.unpack("<I", read_at(header + 8, 4))
        blocks = [(header + 16, length)]
        prefix, extra, around = struct.Struct("<HHB3x"), 0, (0, 0)
    while blocks:
        start, length = blocks.pop(0)
        content = read_at(start, length)
        at = 0
        while at + prefix.size + extra <= length:
            kind, n_bytes, _ = prefix.unpack_from(content, at)
            at += prefix.size + extra
            message = content[at : at + n_bytes]
            at += n_bytes
            if kind == _CONTINUATION:
                more, n_more = struct.unpack_from("<QQ", message)
                blocks.append((more + around[0], n_more - sum(around)))
            else:
                yield kind, message
