"""Ranges of one file that are fetched together, in the background."""

from collections import deque
from concurrent.futures import FIRST_EXCEPTION, wait

from nsd_prep.core.errors import RemoteFaultError
from nsd_prep.dataset.hdf5.ranges import Ranges
from nsd_prep.dataset.identity import RemoteIdentity
from nsd_prep.sources.client import CONCURRENCY, Client
from nsd_prep.sources.retry import Deadline
from nsd_prep.sources.traffic import TransferKind


class Batch:
    """Ranges under way; when one of them fails, the others are not waited for.

    Parameters
    ----------
    client : Client
        Who fetches.
    identity : RemoteIdentity
        The file.
    ranges : Ranges
        What is fetched of it.
    deadline : Deadline
        After which nothing is tried.
    kind : str
        What the requests count as.
    """

    def __init__(
        self,
        client: Client,
        identity: RemoteIdentity,
        ranges: Ranges,
        deadline: Deadline,
        kind: TransferKind = "betas",
    ) -> None:
        self._client = client
        self._identity = identity
        self._kind: TransferKind = kind
        self._deadline = deadline
        self._error: BaseException | None = None
        self._waiting = deque(ranges.pieces())
        self._fetched: list[tuple[int, memoryview]] = []
        n_workers = min(CONCURRENCY, len(self._waiting))
        self._workers = [client.submit(self._work) for _ in range(n_workers)]

    def _work(self) -> None:
        """Fetch one piece after the other, until none is left or one has failed."""
        try:
            while (piece := self._next()) is not None:
                content = self._client.fetch(
                    self._identity, *piece, kind=self._kind, deadline=self._deadline
                )
                self._fetched.append((piece[0], content))
        except BaseException as error:
            self._error = self._error or error
            self._waiting.clear()
            raise

    def _next(self) -> tuple[int, int] | None:
        try:
            return self._waiting.popleft()
        except IndexError:  # another worker took the last one
            return None

    def cancel(self) -> None:
        """Fetch nothing more; what was fetched is let go of."""
        self._waiting.clear()
        for worker in self._workers:
            worker.cancel()
        self._fetched = []

    def pieces(self) -> list[tuple[int, memoryview]]:
        """Wait for all ranges, and return where each piece of them begins, and its bytes.

        Raises
        ------
        ChangedFileError, MissingFilesError, InputFileError, RemoteFaultError
            What the first range that failed says.
        """
        wait(self._workers, return_when=FIRST_EXCEPTION)
        if self._error is not None:
            raise self._error
        if any(worker.cancelled() for worker in self._workers):
            raise RemoteFaultError(
                f"{self._identity.path} was not fetched: it was cancelled; run the same command "
                "again."
            )
        fetched, self._fetched = self._fetched, []
        return fetched
