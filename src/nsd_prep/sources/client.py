"""A client for a remote dataset: sizes and ETags, ranges, whole files and listings.

Threads wait for the answers; obstore, which is Rust, does the work without Python's lock.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

import obstore

from nsd_prep.core.errors import InputFileError, MissingFilesError, RemoteFaultError
from nsd_prep.core.threads import require_not_forked
from nsd_prep.dataset.identity import RemoteIdentity
from nsd_prep.dataset.source import Transfer
from nsd_prep.sources.address import Address
from nsd_prep.sources.retry import (
    Budget,
    Deadline,
    ShortAnswerError,
    attempt,
    changed,
    is_overload,
)
from nsd_prep.sources.traffic import Counters, Gate, TransferKind

_Result = TypeVar("_Result")

#: Seconds within which everything that a session needs must have come.
SESSION_SECONDS: Final = 900.0
#: Requests under way at once.
CONCURRENCY: Final = 128


class Client:
    """Reads a remote dataset.

    It can be pickled: a copy in another process opens connections of its own.

    Parameters
    ----------
    url : str
        As `Address.parse` takes it.
    """

    def __init__(self, url: str) -> None:
        self.address = Address.parse(url)
        self._start()

    def _start(self) -> None:
        self._store = self.address.store()
        self._gate = Gate(CONCURRENCY)
        self._budget = Budget()
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._counters = Counters()

    def __getstate__(self) -> Address:
        return self.address

    def __setstate__(self, state: Address) -> None:
        self.address = state
        self._start()

    def close(self) -> None:
        """Cancel what waits to be fetched, and end the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    @property
    def transfer(self) -> Transfer:
        """What was requested so far, by kind."""
        return self._counters.transfer()

    def url(self, name: str) -> str:
        """Return the URL of a file, by its path below the root."""
        return f"{self.address.url}/{name}"

    def identity(self, name: str) -> RemoteIdentity:
        """Look up the size and ETag of a file, by its path below the root, in one request.

        Raises
        ------
        MissingFilesError, RemoteFaultError
            As `nsd_prep.sources.retry.attempt`.
        """
        url = self.url(name)

        def answered() -> RemoteIdentity:
            self._counters.request("sizes")
            return RemoteIdentity.of(url, obstore.head(self._store, name))

        return self._in_turn(url, "sizes", answered, Deadline(SESSION_SECONDS))

    def identities(self, names: Sequence[str]) -> dict[str, RemoteIdentity]:
        """Look up the sizes and ETags of files, by their paths below the root, many at once.

        Raises
        ------
        MissingFilesError
            Some are not there: it lists all of these.
        RemoteFaultError
            The server does not answer.
        """
        futures = {name: self.submit(self.identity, name) for name in names}
        results, missing = {}, []
        for name, future in futures.items():
            try:
                results[name] = future.result()
            except MissingFilesError as error:
                missing.append(str(error))
        if len(missing) == 1:
            raise MissingFilesError(missing[0])
        if missing:
            listed = "".join(f"\n  - {problem}" for problem in missing)
            raise MissingFilesError(f"{len(missing)} files cannot be read:{listed}")
        return results

    def fetch(
        self,
        identity: RemoteIdentity,
        start: int,
        stop: int,
        *,
        kind: TransferKind,
        deadline: Deadline,
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

        Returns
        -------
        memoryview
            ``stop - start`` bytes.

        Raises
        ------
        ChangedFileError, MissingFilesError, InputFileError, RemoteFaultError
            As `nsd_prep.sources.retry.attempt`.
        """
        name = identity.path.removeprefix(f"{self.address.url}/")
        options: Any = {"range": (start, stop), **identity.condition}

        def answered() -> memoryview:
            self._counters.request(kind)
            answer = obstore.get(self._store, name, options=options)
            if RemoteIdentity.of(identity.path, answer.meta) != identity:
                raise changed(identity.path)
            content = memoryview(answer.bytes())
            if len(content) != stop - start:
                raise ShortAnswerError(f"{len(content)} in place of {stop - start} bytes")
            self._counters.received(kind, len(content))
            return content

        return self._in_turn(identity.path, kind, answered, deadline)

    def submit(self, function: Callable[..., _Result], *arguments: Any) -> "Future[_Result]":
        """Let a function run in one of the threads that wait for answers."""
        require_not_forked("obstore", self.address.url)
        return self._threads().submit(function, *arguments)

    def read(
        self,
        name: str,
        *,
        kind: TransferKind = "small files",
        expected: RemoteIdentity | None = None,
    ) -> tuple[RemoteIdentity, bytes]:
        """Fetch a whole file, and what tells whether it is still the same, in one request.

        Parameters
        ----------
        name : str
            Its path below the root.
        kind : str
            What it counts as.
        expected : RemoteIdentity, optional
            What was looked up: another size under the same ETag is a short answer.

        Raises
        ------
        MissingFilesError, RemoteFaultError
            As `nsd_prep.sources.retry.attempt`.
        """
        url = self.url(name)

        def answered() -> tuple[RemoteIdentity, bytes]:
            self._counters.request(kind)
            answer = obstore.get(self._store, name)
            identity = RemoteIdentity.of(url, answer.meta)
            content = bytes(answer.bytes())
            is_known = expected is not None and identity.is_version_of(expected)
            n_bytes = expected.bytes if expected is not None and is_known else identity.bytes
            if len(content) != n_bytes:
                raise ShortAnswerError(f"{len(content)} in place of {n_bytes} bytes")
            self._counters.received(kind, len(content))
            if content[:200].lstrip().lower().startswith((b"<!doctype html", b"<html")):
                raise InputFileError(
                    f"{url} returns a web page, such as a login page: expected the file; check "
                    "the address, and that this network lets you through without logging in."
                )
            return identity, content

        return self._in_turn(url, kind, answered, Deadline(SESSION_SECONDS))

    def names(self, folder: str) -> list[str]:
        """List the files below a folder, by their paths below the root, ascending.

        Empty where there is no such folder.

        Raises
        ------
        InputFileError
            The server lists no folders, as most web servers do not.
        """
        url = self.url(folder)

        def answered() -> list[str]:
            self._counters.request("sizes")
            pages = obstore.list(self._store, folder)
            return sorted(str(file["path"]) for page in pages for file in page)

        try:
            return self._in_turn(url, "sizes", answered, Deadline(SESSION_SECONDS))
        except (RemoteFaultError, MissingFilesError) as error:
            if self.address.scheme == "s3":
                raise
            raise InputFileError(
                f"{url} cannot be listed: its server does not answer PROPFIND."
            ) from error

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(CONCURRENCY, "nsd-prep-fetch")
            return self._pool

    def _in_turn(
        self,
        url: str,
        kind: TransferKind,
        answered: Callable[[], _Result],
        deadline: Deadline,
    ) -> _Result:
        """Return an answer, each attempt one of the requests that may be under way at once."""
        require_not_forked("obstore", url)

        def request() -> _Result:
            with self._gate.passed():
                return answered()

        def failed(error: Exception) -> None:
            self._counters.failure(kind)
            if is_overload(error):
                self._gate.reduce()

        return attempt(url, request, deadline=deadline, budget=self._budget, on_failure=failed)
