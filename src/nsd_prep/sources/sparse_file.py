"""What was fetched of a remote file, as a file for h5py that raises on any other byte."""

import io
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import numpy as np

from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.hdf5.ranges import Ranges

_Result = TypeVar("_Result")
Fetch = Callable[[Ranges], Iterable[tuple[int, Any]]]
"""Given ranges of a file, returns (start, bytes) of pieces that make them up."""

#: Bytes between two ranges that are fetched rather than skipped: more requests than those that
#: this leaves take longer, and more bytes cost NSD's host more, on any link that was measured.
GAP: Final = 24 * 1024
#: Bytes of a session's ranges that are fetched, and kept, together.
PART_BYTES: Final = 30_000_000
#: Bytes that are fetched around a miss; HDF5's index and headers are read a few kB at a time.
BLOCK_BYTES: Final = 64 * 1024
#: The longest block, of those that follow each other while one thing is read.
_LONGEST_BLOCK: Final = 8 * 1024 * 1024


class SparseFile(io.RawIOBase):
    """Ranges of a file, read as if it were whole; a hole is never read as zeros.

    It is a `nsd_prep.dataset.hdf5.content.Content`. HDF5 never waits for the network, and is never
    told of it: where it meets a hole it gets an error, and what it was asked for is asked again
    when the hole is filled.

    Parameters
    ----------
    name : str
        For messages.
    size : int
        Bytes of the whole file.
    fetch : callable
        Fetches ranges.

    Attributes
    ----------
    gap : int
        Bytes between two ranges that are fetched rather than skipped; `GAP`, unless it is set.
    misses : int
        Ranges that had to be fetched because something was read of them.
    """

    bytes_at_once: int = PART_BYTES
    is_local: bool = False

    def __init__(self, name: str, size: int, fetch: Fetch) -> None:
        super().__init__()
        self.name = name
        self.size = size
        self.gap = GAP
        self.misses = 0
        self._fetch = fetch
        self._hole: tuple[int, int] | None = None
        self._starts: list[int] = []
        self._segments: list[memoryview] = []
        self._at = 0

    @property
    def hdf5_file(self) -> io.RawIOBase:
        """What h5py opens."""
        return self

    def complete(self, action: Callable[[], _Result], *, keep: bool = True) -> _Result:
        """Return what an action gives that reads the file, called again until it meets no hole.

        Parameters
        ----------
        action : callable
            Reads the file.
        keep : bool
            Whether the blocks that are fetched for it stay. Where they do not, they grow: data are
            read on and on.

        Raises
        ------
        Exception
            What the action raises without a hole, and what fetching raises. No error of HDF5's is
            handled meanwhile, which would become its context: h5py's frames would lead from it to
            this file, and HDF5 from there to them, a cycle that no collection of garbage sees.
        """
        keys: list[int] = []
        n_bytes = BLOCK_BYTES
        while True:
            self._hole = None
            try:
                result = action()
            except (InputFileError, OSError, RuntimeError, KeyError):
                if self._hole is None:
                    raise
            else:
                if self._hole is None:
                    self.remove([] if keep else keys)
                    return result
            (start, stop), self._hole = self._hole, None
            start, stop = self.holes(start, min(max(stop, start + n_bytes), self.size))[0]
            keys += self.fetch(Ranges(np.array([start]), np.array([stop])))
            n_bytes = BLOCK_BYTES if keep else min(2 * n_bytes, _LONGEST_BLOCK)

    def will_need(self, ranges: Ranges) -> None:
        """Do nothing: what is fetched together is said to `fetch`."""

    def fetch(self, ranges: Ranges) -> list[int]:
        """Fetch what of some ranges is not there, and return the keys by which to remove it."""
        holes = [hole for start, stop in ranges for hole in self.holes(start, stop)]
        if not holes:
            return []
        starts, stops = np.array(holes, dtype=np.int64).T
        self.misses += len(holes)
        keys = []
        for start, content in self._fetch(Ranges(starts, stops)):
            keys += self.add(start, content)
        return keys

    def add(self, start: int, content: Any) -> list[int]:
        """Put fetched bytes in their place, and return the keys by which to remove them."""
        view = memoryview(content).cast("B")
        keys = []
        for first, stop in self.holes(start, start + len(view)):
            at = bisect_right(self._starts, first)
            self._starts.insert(at, first)
            self._segments.insert(at, view[first - start : stop - start])
            keys.append(first)
        return keys

    def remove(self, keys: Iterable[int]) -> None:
        """Let go of bytes that are not needed any more."""
        for key in keys:
            at = bisect_left(self._starts, key)
            if at < len(self._starts) and self._starts[at] == key:
                del self._starts[at], self._segments[at]

    def holes(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the (start, stop) of what is not there between two bytes."""
        gaps = []
        at = bisect_right(self._starts, start) - 1
        if at >= 0:
            start = max(start, self._starts[at] + len(self._segments[at]))
        while start < stop:
            at += 1
            until = min(stop, self._starts[at] if at < len(self._starts) else stop)
            if until > start:
                gaps.append((start, until))
            if at >= len(self._starts):
                break
            start = self._starts[at] + len(self._segments[at])
        return gaps

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill a buffer with the bytes from `start` on; OSError where some were not fetched."""
        at, stop = start, start + len(buffer)
        while at < stop:
            index = bisect_right(self._starts, at) - 1
            offset = at - self._starts[index] if index >= 0 else 0
            if index < 0 or offset >= len(self._segments[index]):
                self._hole = (at, stop)
                raise OSError(f"Bytes {at} to {stop} of {self.name} were not fetched")
            piece = self._segments[index][offset : offset + stop - at]
            buffer[at - start : at - start + len(piece)] = piece
            at += len(piece)

    def readable(self) -> bool:  # noqa: D102
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def tell(self) -> int:  # noqa: D102
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:  # noqa: D102
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer from the current place on; OSError where a byte was not fetched."""
        target = memoryview(buffer).cast("B")
        n_bytes = max(0, min(len(target), self.size - self._at))
        self.read_into(self._at, target[:n_bytes])
        self._at += n_bytes
        return n_bytes
