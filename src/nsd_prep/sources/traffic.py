"""Requests: how many at once, and how many and how large they were."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from nsd_prep.dataset.source import Transfer

TransferKind = Literal["betas", "small files", "images", "sizes"]

#: Seconds between two reductions of the requests under way, so that one bad moment counts once.
_SECONDS_BETWEEN_REDUCTIONS: Final = 1.0
_LOWEST_CONCURRENCY: Final = 4


class Counters:
    """Counts requests, of any number of threads."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {counted: Counter() for counted in Transfer._fields}
        self._lock = threading.Lock()

    def request(self, kind: TransferKind) -> None:
        """Count a request that is made."""
        self._add("requests", kind, 1)

    def received(self, kind: TransferKind, n_bytes: int) -> None:
        """Count the bytes of an answer."""
        self._add("bytes", kind, n_bytes)

    def failure(self, kind: TransferKind) -> None:
        """Count a request that did not succeed."""
        self._add("failures", kind, 1)

    def _add(self, counted: str, kind: TransferKind, n: int) -> None:
        with self._lock:
            self._counts[counted][kind] += n

    def transfer(self) -> Transfer:
        """Return all that was counted."""
        with self._lock:
            return Transfer(*(dict(self._counts[counted]) for counted in Transfer._fields))


class Gate:
    """Lets so many requests through at once: half as many after an overload, then ever more again.

    Parameters
    ----------
    highest : int
        Requests under way while all is well.
    """

    def __init__(self, highest: int) -> None:
        self._highest = highest
        self._limit = float(highest)
        self._active = 0
        self._reduced_at = 0.0
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """Requests that may be under way."""
        return int(self._limit)

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
                # One more for each round of all that may be under way.
                self._limit = min(self._highest, self._limit + 1 / self._limit)
                self._changed.notify()

    def reduce(self) -> None:
        """Let half as many through, at most once a second."""
        with self._changed:
            if time.monotonic() - self._reduced_at > _SECONDS_BETWEEN_REDUCTIONS:
                self._reduced_at = time.monotonic()
                self._limit = max(_LOWEST_CONCURRENCY, self._limit / 2)
