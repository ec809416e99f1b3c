"""A client for a remote dataset: sizes and ETags, ranges, whole files and listings.

Threads wait for the answers; obstore, which is Rust, does the work without Python's lock.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, Literal, NamedTuple, TypeVar

import numpy as np
import obstore
from pydantic import BaseModel, ConfigDict

from nsd_prep.errors import InputFileError, MissingFilesError
from nsd_prep.remote.address import Address
from nsd_prep.remote.attempts import (
    ATTEMPTS,
    Deadline,
    ShortAnswerError,
    attempt,
    changed,
    is_overload,
)
from nsd_prep.remote.faults import RemoteFaultError
from nsd_prep.remote.ranges import HIGHEST_CONCURRENCY, LOWEST_CONCURRENCY, Link

Kind = Literal["betas", "index", "small files", "images", "sizes"]

_Result = TypeVar("_Result")

#: Seconds within which everything that a session needs must have come.
SESSION_SECONDS: Final = 900.0
#: Requests whose time is kept, to choose by it what suits the link.
_MOST_SAMPLES: Final = 4000
#: Seconds between two reductions of the requests under way, so that one bad moment counts once.
_SECONDS_BETWEEN_REDUCTIONS: Final = 1.0


class RemoteIdentity(BaseModel):
    """What tells whether a remote file is still the same.

    Attributes
    ----------
    path : str
        Its URL.
    bytes : int
        Size.
    etag : str
        As the server gives it; "" where it gives none.
    modified : str
        When it was last modified, for a file without an ETag; else "".
    """

    model_config = ConfigDict(frozen=True)

    path: str
    bytes: int
    etag: str
    modified: str = ""

    @property
    def condition(self) -> dict[str, str]:
        """The condition of a request; a weak ETag never matches, by RFC 9110."""
        return {"if_match": self.etag} if self.etag and not self.etag.startswith("W/") else {}


class Transfer(NamedTuple):
    """What was requested so far.

    Attributes
    ----------
    requests, bytes, failures : dict of str to int
        For each kind: requests made, bytes received, and requests that had to be tried again.
    """

    requests: Mapping[str, int]
    bytes: Mapping[str, int]
    failures: Mapping[str, int]


class _Gate:
    """Lets so many requests through at once, fewer when the server is overloaded."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._active = 0
        self._reduced_at = 0.0
        self._changed = threading.Condition()

    @contextmanager
    def passed(self) -> Iterator[None]:
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
        with self._changed:
            if time.monotonic() - self._reduced_at > _SECONDS_BETWEEN_REDUCTIONS:
                self._reduced_at = time.monotonic()
                self.limit = max(LOWEST_CONCURRENCY, self.limit // 2)

    def set(self, limit: int) -> None:
        with self._changed:
            self.limit = limit
            self._changed.notify_all()


class Client:
    """Reads a remote dataset.

    It can be pickled: a copy in another process opens connections of its own.

    Parameters
    ----------
    url : str
        As `Address.parse` takes it.
    environment : mapping, optional
        Variables for `Address.store`; the process's own where not given.

    Attributes
    ----------
    link : Link
        What is chosen for the link so far.
    """

    def __init__(self, url: str, environment: Mapping[str, str] | None = None) -> None:
        self.address = Address.parse(url)
        self.link = Link()
        self._environment = environment
        self._start()

    def _start(self) -> None:
        self._store = self.address.store(self._environment)
        self._gate = _Gate(self.link.concurrency)
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        # Appending to a deque takes no lock: `fetch` may run while h5py's lock is held.
        self._events: deque[tuple[str, str, int]] = deque()
        self._samples: deque[tuple[int, float]] = deque(maxlen=_MOST_SAMPLES)
        self._counts: dict[str, Counter[str]] = {counted: Counter() for counted in Transfer._fields}

    def __getstate__(self) -> tuple[Address, Link, Mapping[str, str] | None]:
        return self.address, self.link, self._environment

    def __setstate__(self, state: tuple[Address, Link, Mapping[str, str] | None]) -> None:
        self.address, self.link, self._environment = state
        self._start()

    def close(self) -> None:
        """Cancel what waits to be fetched, and end the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    @property
    def transfer(self) -> Transfer:
        """What was requested so far, by kind."""
        with self._lock:
            while self._events:
                counted, kind, n = self._events.popleft()
                self._counts[counted][kind] += n
            return Transfer(*(dict(self._counts[counted]) for counted in Transfer._fields))

    def url(self, name: str) -> str:
        """Return the URL of a file, by its path below the root."""
        return f"{self.address.url}/{name}"

    def identity(
        self, name: str, *, deadline: Deadline | None = None, attempts: int = ATTEMPTS
    ) -> RemoteIdentity:
        """Look up the size and ETag of a file.

        Parameters
        ----------
        name : str
            Its path below the root.
        deadline : Deadline, optional
            After which nothing is tried.
        attempts : int
            How often it is tried.

        Returns
        -------
        RemoteIdentity
            One request.

        Raises
        ------
        MissingFilesError, RemoteFaultError
            As `nsd_prep.remote.attempts.attempt`.
        """

        def request() -> RemoteIdentity:
            with self._counted("sizes"):
                return self._identity(name, obstore.head(self._store, name))

        return attempt(
            self.url(name),
            request,
            deadline=deadline or Deadline(SESSION_SECONDS),
            attempts=attempts,
            on_failure=lambda error: self._failed("sizes", error),
        )

    def identities(self, names: Sequence[str]) -> dict[str, RemoteIdentity]:
        """Look up the sizes and ETags of files, many at once.

        Parameters
        ----------
        names : sequence of str
            Their paths below the root.

        Returns
        -------
        dict of str to RemoteIdentity
            Each of them.

        Raises
        ------
        MissingFilesError
            Some are not there: it lists all of these.
        RemoteFaultError
            The server does not answer.
        """
        futures = {name: self.submit(self.identity, name) for name in names}
        found, missing = {}, []
        for name, future in futures.items():
            try:
                found[name] = future.result()
            except MissingFilesError as error:
                missing.append(str(error))
        if len(missing) == 1:
            raise MissingFilesError(missing[0])
        if missing:
            listed = "".join(f"\n  - {problem}" for problem in missing)
            raise MissingFilesError(f"{len(missing)} files cannot be read:{listed}")
        return found

    def fetch(
        self,
        identity: RemoteIdentity,
        start: int,
        stop: int,
        *,
        kind: Kind,
        deadline: Deadline,
        at_once: bool = False,
    ) -> memoryview:
        """Fetch a range of a file, in the calling thread.

        Parameters
        ----------
        identity : RemoteIdentity
            The file; an answer from another one is an error.
        start, stop : int
            First byte (0-based), and the one behind the last.
        kind : str
            What it counts as.
        deadline : Deadline
            After which nothing is tried.
        at_once : bool
            Not to wait for other requests, nor for any thread of Python's: for a caller that holds
            h5py's lock, which a thread that collects garbage may need.

        Returns
        -------
        memoryview
            ``stop - start`` bytes.

        Raises
        ------
        ChangedFileError, MissingFilesError, InputFileError, RemoteFaultError
            As `nsd_prep.remote.attempts.attempt`.
        """
        name = identity.path.removeprefix(f"{self.address.url}/")
        options: Any = {"range": (start, stop), **identity.condition}

        def answered() -> memoryview:
            self._events.append(("requests", kind, 1))
            answer = obstore.get(self._store, name, options=options)
            if self._identity(name, answer.meta) != identity:
                raise changed(identity.path)
            content = memoryview(answer.bytes())
            if len(content) != stop - start:
                raise ShortAnswerError(f"{len(content)} in place of {stop - start} bytes")
            self._events.append(("bytes", kind, len(content)))
            return content

        def in_turn() -> memoryview:
            with self._gate.passed():
                begun = time.monotonic()
                content = answered()
                self._samples.append((len(content), time.monotonic() - begun))
            return content

        def failed(error: Exception) -> None:
            self._events.append(("failures", kind, 1))
            if is_overload(error) and not at_once:
                self._gate.reduce()

        request = answered if at_once else in_turn
        return attempt(identity.path, request, deadline=deadline, on_failure=failed)

    def submit(self, function: Callable[..., _Result], *arguments: Any) -> "Future[_Result]":
        """Let a function run in one of the threads that wait for answers."""
        return self._threads().submit(function, *arguments)

    def read(self, name: str, *, kind: Kind = "small files") -> tuple[RemoteIdentity, bytes]:
        """Fetch a whole file, and what tells whether it is still the same.

        Parameters
        ----------
        name : str
            Its path below the root.
        kind : str
            What it counts as.

        Returns
        -------
        identity : RemoteIdentity
            One request gives both.
        content : bytes
            All of it.

        Raises
        ------
        MissingFilesError, RemoteFaultError
            As `nsd_prep.remote.attempts.attempt`.
        """

        def request() -> tuple[RemoteIdentity, bytes]:
            with self._counted(kind):
                answer = obstore.get(self._store, name)
                identity = self._identity(name, answer.meta)
                content = bytes(answer.bytes())
            if len(content) != identity.bytes:
                raise ShortAnswerError(f"{len(content)} in place of {identity.bytes} bytes")
            self._events.append(("bytes", kind, len(content)))
            return identity, content

        return attempt(
            self.url(name),
            request,
            deadline=Deadline(SESSION_SECONDS),
            on_failure=lambda error: self._failed(kind, error),
        )

    def names(self, folder: str) -> list[str]:
        """List the files below a folder, by their paths below the root, ascending.

        Parameters
        ----------
        folder : str
            Its path below the root.

        Returns
        -------
        list of str
            Empty where there is no such folder.

        Raises
        ------
        InputFileError
            The server lists no folders, as most web servers do not.
        """

        def request() -> list[str]:
            with self._counted("sizes"):
                pages = obstore.list(self._store, folder)
                return sorted(str(file["path"]) for page in pages for file in page)

        try:
            return attempt(self.url(folder), request, deadline=Deadline(60), attempts=3)
        except (RemoteFaultError, MissingFilesError) as error:
            if self.address.scheme == "s3":
                raise
            raise InputFileError(
                f"{self.url(folder)} cannot be listed: its server does not answer PROPFIND."
            ) from error

    def adapt(self) -> None:
        """Choose what suits the link, by how long the requests since the last time took."""
        samples = [self._samples.popleft() for _ in range(len(self._samples))]
        n_bytes, seconds = np.array(samples, dtype=np.float64).reshape(-1, 2).T
        # An overload lowered the gate's limit: the way up begins there.
        so_far = Link(self.link.gap, self._gate.limit)
        self.link = so_far.adapted(n_bytes.astype(np.int64), seconds)
        self._gate.set(self.link.concurrency)

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(HIGHEST_CONCURRENCY, "nsd-prep-fetch")
            return self._pool

    @contextmanager
    def _counted(self, kind: Kind) -> Iterator[None]:
        with self._gate.passed():
            self._events.append(("requests", kind, 1))
            yield

    def _failed(self, kind: Kind, error: Exception) -> None:
        self._events.append(("failures", kind, 1))
        if is_overload(error):
            self._gate.reduce()

    def _identity(self, name: str, meta: Any) -> RemoteIdentity:
        etag = meta["e_tag"] or ""
        modified = "" if etag else meta["last_modified"].isoformat()
        return RemoteIdentity(path=self.url(name), bytes=meta["size"], etag=etag, modified=modified)
