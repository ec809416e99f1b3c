"""Requests: how many at once, and how many and how large they were."""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from nsd_prep.dataset.source import Transfer
from nsd_prep.sources.link import LOWEST_CONCURRENCY

TransferKind = Literal["betas", "index", "small files", "images", "sizes"]

#: Seconds between two reductions of the requests under way, so that one bad moment counts once.
_SECONDS_BETWEEN_REDUCTIONS: Final = 1.0


class Counters:
    """Counts requests; counting takes no lock, so that it can be done while h5py's is held."""

    def __init__(self) -> None:
        self._events: deque[tuple[str, TransferKind, int]] = deque()
        self._counts: dict[str, Counter[str]] = {counted: Counter() for counted in Transfer._fields}
        self._reading = threading.Lock()

    def request(self, kind: TransferKind) -> None:
        """Count a request that is made."""
        self._events.append(("requests", kind, 1))

    def received(self, kind: TransferKind, n_bytes: int) -> None:
        """Count the bytes of an answer."""
        self._events.append(("bytes", kind, n_bytes))

    def failure(self, kind: TransferKind) -> None:
        """Count a request that did not succeed."""
        self._events.append(("failures", kind, 1))

    def transfer(self) -> Transfer:
        """Return all that was counted."""
        with self._reading:
            for _ in range(len(self._events)):
                counted, kind, n = self._events.popleft()
                self._counts[counted][kind] += n
            return Transfer(*(dict(self._counts[counted]) for counted in Transfer._fields))


class Gate:
    """Lets so many requests through at once, fewer when the server is overloaded."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._active = 0
        self._reduced_at = 0.0
        self._changed = threading.Condition()

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Wait until a request may be made, and count it as under way."""
        with self._changed:
            self._changed.wait_for(lambda: self._active < self.limit)
            self._active += 1
        try:
            yield
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify()

    def reduce(self) -> None:
        """Let half as many through, at most once a second."""
        with self._changed:
            if time.monotonic() - self._reduced_at > _SECONDS_BETWEEN_REDUCTIONS:
                self._reduced_at = time.monotonic()
                self.limit = max(LOWEST_CONCURRENCY, self.limit // 2)

    def set(self, limit: int) -> None:
        """Let so many through from now on."""
        with self._changed:
            self.limit = limit
            self._changed.notify_all()
