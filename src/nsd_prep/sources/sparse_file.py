"""A file for h5py that holds only what was fetched, and raises on any other byte."""

import io
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from nsd_prep.core.errors import RemoteFaultError

#: Bytes that are fetched around a miss; HDF5's index and headers are read a few kB at a time.
BLOCK_BYTES: Final = 64 * 1024


class MissingBytesError(RemoteFaultError):
    """Bytes were asked for that had not been fetched, and are not to be fetched one by one."""


class SparseFile(io.RawIOBase):
    """Ranges of a file, read as if it were whole; a hole is never read as zeros.

    Parameters
    ----------
    name : str
        For messages.
    size : int
        Bytes of the whole file.
    fetch : callable, optional
        Given the start and stop of a hole, returns its bytes. It is called while HDF5 waits, with
        h5py's lock held: it must not wait for another thread of Python's.
    allowed_misses : int, optional
        How many holes may be filled in that way; any number where nothing is said.
    most_bytes : int, optional
        Of the blocks fetched for misses so many bytes are kept, the latest.
    reach : int
        A miss within so many blocks behind the last one follows it, and blocks that follow each
        other grow: for files of which most is going to be read.

    Attributes
    ----------
    error : BaseException or None
        What `fetch` raised, or `MissingBytesError`: h5py tells only that something failed.
    misses : int
        Holes that were met.
    """

    def __init__(
        self,
        name: str,
        size: int,
        *,
        fetch: Callable[[int, int], Any] | None = None,
        allowed_misses: int | None = None,
        most_bytes: int | None = None,
        reach: int = 0,
    ) -> None:
        super().__init__()
        self.name = name
        self.size = size
        self.error: BaseException | None = None
        self.misses = 0
        self._fetch = fetch
        self._allowed_misses = allowed_misses if fetch else 0
        self._most_bytes = most_bytes
        self._reach = reach
        self._starts: list[int] = []
        self._segments: list[memoryview] = []
        self._blocks: deque[tuple[int, int]] = deque()
        self._block_bytes = 0
        self._next_block = BLOCK_BYTES
        self._last_stop = -1
        self._at = 0

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
        found = []
        at = bisect_right(self._starts, start) - 1
        if at >= 0:
            start = max(start, self._starts[at] + len(self._segments[at]))
        while start < stop:
            at += 1
            until = min(stop, self._starts[at] if at < len(self._starts) else stop)
            if until > start:
                found.append((start, until))
            if at >= len(self._starts):
                break
            start = self._starts[at] + len(self._segments[at])
        return found

    def read_at(self, start: int, length: int) -> bytes:
        """Read bytes from a place, without h5py."""
        content = bytearray(length)
        self.seek(start)
        if self.readinto(content) != length:
            raise EOFError(f"{self.name} ends before byte {start + length}")
        return bytes(content)

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
        """Fill a buffer from the current place on; raise where a byte was not fetched."""
        target = memoryview(buffer).cast("B")
        start, stop = self._at, min(self._at + len(target), self.size)
        at = start
        while at < stop:
            index = bisect_right(self._starts, at) - 1
            offset = at - self._starts[index] if index >= 0 else 0
            if index < 0 or offset >= len(self._segments[index]):
                self._fill(at, stop)
                continue
            piece = self._segments[index][offset : offset + stop - at]
            target[at - start : at - start + len(piece)] = piece
            at += len(piece)
        self._at = max(stop, start)
        return self._at - start

    def _fill(self, start: int, stop: int) -> None:
        """Fetch the block in which a hole begins; blocks grow while they follow each other."""
        self.misses += 1
        if self._fetch is None or (
            self._allowed_misses is not None and self.misses > self._allowed_misses
        ):
            self.error = MissingBytesError(
                f"Bytes {start} to {stop} of {self.name} were not fetched: expected them among the "
                "predicted ones; report this with the file's size."
            )
            raise self.error
        if self._most_bytes is not None:
            longest = self._most_bytes // 4
            follows = 0 <= start - self._last_stop <= self._reach * self._next_block
            self._next_block = min(2 * self._next_block, longest) if follows else BLOCK_BYTES
        begin, end = self.holes(start, min(max(stop, start + self._next_block), self.size))[0]
        end = min(end, begin + max(self._next_block, BLOCK_BYTES))
        try:
            content = self._fetch(begin, end)
        except BaseException as error:
            self.error = error
            raise
        self.add(begin, content)
        self._last_stop = end
        self._blocks.append((begin, end - begin))
        self._block_bytes += end - begin
        while self._most_bytes is not None and self._block_bytes > self._most_bytes:
            oldest, length = self._blocks.popleft()
            self._block_bytes -= length
            self.remove([oldest])
