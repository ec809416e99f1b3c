"""Ranges of bytes: merged over gaps that are cheaper than a request."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
#: Longer ranges are fetched in pieces: they fill the link together, and none meets its timeout.
PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Ranges:
    """Ranges of bytes of a file, ascending, none touching another.

    `starts` and `stops`, int64 (n_ranges,): first byte (0-based), and the one behind the last.
    """

    starts: Integers
    stops: Integers

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Give (start, stop) of each."""
        return zip(self.starts.tolist(), self.stops.tolist(), strict=True)

    @property
    def n_bytes(self) -> int:
        """Bytes in all ranges together."""
        return int((self.stops - self.starts).sum())

    def pieces(self) -> list[tuple[int, int]]:
        """Return (start, stop) of each request: long ranges are cut."""
        return [
            (piece, min(piece + PIECE_BYTES, stop))
            for start, stop in self
            for piece in range(start, stop, PIECE_BYTES)
        ]


def merged(starts: Integers, lengths: Integers, gap: int = 0) -> Ranges:
    """Merge ranges that overlap, touch, or lie no more than a gap of bytes apart.

    Starts and lengths (n,) come in any order; those of no bytes are left out.
    """
    is_present = lengths > 0
    starts, lengths = starts[is_present], lengths[is_present]
    if not len(starts):
        return Ranges(np.zeros(0, np.int64), np.zeros(0, np.int64))
    order = np.argsort(starts, kind="stable")
    starts = starts[order]
    stops = np.maximum.accumulate(starts + lengths[order])
    apart = np.flatnonzero(starts[1:] - stops[:-1] > gap)
    return Ranges(starts[np.r_[0, apart + 1]], stops[np.r_[apart, -1]])


def bridged(ranges: Ranges, n_bytes: int) -> Ranges:
    """Merge ranges over the narrowest gaps between them, of no more than so many bytes together."""
    gaps = ranges.starts[1:] - ranges.stops[:-1]
    order = np.argsort(gaps, kind="stable")
    n_bridged = int(np.searchsorted(np.cumsum(gaps[order]), n_bytes, side="right"))
    apart = np.sort(order[n_bridged:])
    return Ranges(ranges.starts[np.r_[0, apart + 1]], ranges.stops[np.r_[apart, -1]])


def slices(starts: Integers, lengths: Integers, gap: int, n_bytes: int) -> list[slice]:
    """Cut pieces of a file, ascending, so that the merged ranges of each slice are not too long.

    Parameters
    ----------
    starts, lengths : ndarray of int64, shape (n,)
        The pieces.
    gap : int
        As `merged` takes it.
    n_bytes : int
        Bytes of a slice's ranges, beside those of its last piece.
    """
    if not len(starts):
        return []
    ranges = merged(starts, lengths, gap)
    before = np.concatenate([[0], np.cumsum(ranges.stops - ranges.starts)])
    at = np.searchsorted(ranges.starts, starts, side="right") - 1
    part = (before[at] + starts - ranges.starts[at]) // n_bytes
    cuts = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(starts)]
    return [slice(first, stop) for first, stop in pairwise(cuts)]
