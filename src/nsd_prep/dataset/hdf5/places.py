"""Where the chunks of a file of betas lie, where it was written in one go, as NSD's were.

HDF5 then appends: chunk after chunk in the order of the sites, and a node of the
version-1 B-tree that indexes them whenever one is full. A node holds up to 64 children; the last
node of a level, when it is full, keeps 57 and gives 7 and the new one to a new node behind the
chunk that did not fit; when that node was the root, its content moves to one more new node and the
root stays where it is (HDF5's `H5B.c`, split ratios 0.1, 0.5 and 0.9).

This is a prediction. It chooses what to fetch; the file's own index decides what is true.
"""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.dataset.hdf5.ranges import Ranges, merged

Integers = NDArray[np.int64]


def node_bytes(n_axes: int) -> int:
    """Return the bytes of a node that indexes chunks of so many dimensions, trials among them.

    A header, 65 keys and 64 addresses: 3656 for volumes, 2616 for surfaces.
    """
    return 24 + 65 * (8 + 8 * (n_axes + 1)) + 64 * 8


#: The same of volumes.
NODE_BYTES: Final = node_bytes(4)
#: Byte where the root of the index lies, behind the superblock and the headers.
ROOT: Final = 1400
#: Bytes that HDF5 reads ahead behind the root of the index.
_AHEAD: Final = 512
#: Children of a full node, and those that the last node of a level keeps when it is split.
_FULL: Final = 64
_KEPT: Final = 57


@dataclass(frozen=True)
class ChunkPlaces:
    """The predicted places in a session's file.

    Attributes
    ----------
    n_voxels : int
        Voxels of the whole file, each with one chunk.
    chunk_bytes : int
        Bytes of a chunk: two for each trial.
    node_bytes : int
        Bytes of a node of the index.
    """

    n_voxels: int
    chunk_bytes: int
    node_bytes: int = NODE_BYTES

    @classmethod
    def predict(cls, shape: tuple[int, ...], n_trials: int) -> "ChunkPlaces":
        """Return the places in a file of int16 betas (n_trials, *shape), a chunk a voxel."""
        chunk_bytes = n_trials * np.dtype(np.int16).itemsize
        return cls(prod(shape), chunk_bytes, node_bytes(1 + len(shape)))

    @cached_property
    def file_bytes(self) -> int:
        """Size of the whole file."""
        return int(self.chunks(np.array([self.n_voxels]))[0])

    @cached_property
    def level_sizes(self) -> tuple[int, ...]:
        """Number of nodes in each level of the index, leaves first, the root last."""
        sizes = [1 + int(_splits(np.array([self.n_voxels]))[0])]
        while sizes[-1] > 1:
            sizes.append(1 + int(_splits(np.array(sizes[-1:]))[0]))
        return tuple(sizes)

    def chunks(self, voxels: Integers) -> Integers:
        """Return the byte, int64, where the chunk of each voxel (0-based) begins."""
        n_nodes = np.zeros(voxels.shape, dtype=np.int64)
        children = voxels.astype(np.int64)
        while (splits := _splits(children)).any():
            n_nodes += splits + (splits > 0)  # the first split of a level is one of the root
            children = np.where(splits > 0, splits + 1, 0)
        first = ROOT + self.node_bytes
        return first + voxels * self.chunk_bytes + n_nodes * self.node_bytes

    def nodes(self, level: int, nodes: Integers) -> Integers:
        """Return the byte (int64) where nodes (0-based) of a level (0 for the leaves) begin."""
        if self.level_sizes[level] == 1:
            return np.full(nodes.shape, ROOT, dtype=np.int64)
        # The first node of a level was the root once: it moved behind the second one.
        child = np.maximum(nodes, 1)
        for _ in range(level + 1):
            child = _FULL + _KEPT * (child - 1)
        behind = self.chunks(child) + self.chunk_bytes
        return behind + (level + (nodes == 0)) * self.node_bytes

    def index_of(self, voxels: Integers) -> Integers:
        """Return the bytes where all nodes begin that lead from the root to some voxels' chunks."""
        addresses = [np.array([ROOT], dtype=np.int64)]
        children = voxels
        for level, n_nodes in enumerate(self.level_sizes):
            children = np.unique(np.minimum(children // _KEPT, n_nodes - 1))
            addresses.append(self.nodes(level, children))
        return np.unique(np.concatenate(addresses))

    def ranges(self, voxels: Integers, gap: int) -> Ranges:
        """Return all that HDF5 reads of the file to find and read the chunks of voxels.

        Parameters
        ----------
        voxels : ndarray of int64
            Sites (0-based), ascending.
        gap : int
            Bytes between two ranges that may be read in vain.

        Returns
        -------
        Ranges
            The head of the file, nodes and chunks.
        """
        nodes, chunks = self.index_of(voxels), self.chunks(voxels)
        ranges = merged(
            np.concatenate([[0], nodes, chunks]),
            np.repeat(
                # The superblock, the headers and the root, then nodes and chunks.
                [ROOT + self.node_bytes + _AHEAD, self.node_bytes, self.chunk_bytes],
                [1, len(nodes), len(chunks)],
            ),
            gap,
        )
        return Ranges(ranges.starts, np.minimum(ranges.stops, self.file_bytes))


def _splits(children: Integers) -> Integers:
    """Return how often the nodes above so many children were split."""
    return np.maximum(-(-(children - _FULL) // _KEPT), 0)
