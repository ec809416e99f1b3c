"""Ranges of bytes: merged over gaps that are cheaper than a request, on a link that is measured."""

from dataclasses import dataclass
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

    @property
    def n_bytes(self) -> int:
        """Bytes in all ranges together."""
        return int((self.stops - self.starts).sum())

    def pieces(self) -> list[tuple[int, int]]:
        """Return (start, stop) of each request: long ranges are cut."""
        return [
            (piece, min(piece + PIECE_BYTES, stop))
            for start, stop in zip(self.starts.tolist(), self.stops.tolist(), strict=True)
            for piece in range(start, stop, PIECE_BYTES)
        ]


def merged(starts: Integers, lengths: Integers, gap: int = 0) -> Ranges:
    """Merge ranges that overlap, touch, or lie no more than a gap of bytes apart.

    Starts and lengths (n,) come in any order; those of no bytes are left out.
    """
    held = lengths > 0
    starts, lengths = starts[held], lengths[held]
    if not len(starts):
        return Ranges(np.zeros(0, np.int64), np.zeros(0, np.int64))
    order = np.argsort(starts, kind="stable")
    starts = starts[order]
    stops = np.maximum.accumulate(starts + lengths[order])
    apart = np.flatnonzero(starts[1:] - stops[:-1] > gap)
    return Ranges(starts[np.r_[0, apart + 1]], stops[np.r_[apart, -1]])
