"""Ranges of one file that are fetched together, in the background."""

from concurrent.futures import CancelledError, Future

from nsd_prep.core.errors import RemoteFaultError
from nsd_prep.dataset.hdf5.ranges import Ranges
from nsd_prep.dataset.identity import RemoteIdentity
from nsd_prep.sources.client import Client
from nsd_prep.sources.retry import Deadline
from nsd_prep.sources.sparse_file import SparseFile
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
    kind : str
        What the requests count as.
    deadline : Deadline
        After which nothing is tried.
    """

    def __init__(
        self,
        client: Client,
        identity: RemoteIdentity,
        ranges: Ranges,
        *,
        kind: TransferKind,
        deadline: Deadline,
    ) -> None:
        self._client = client
        self._identity = identity
        self._kind: TransferKind = kind
        self._deadline = deadline
        self._is_cancelled = False
        self._error: BaseException | None = None
        self._pieces: list[tuple[int, Future[memoryview]]] = [
            (start, client.submit(self._fetch, start, stop)) for start, stop in ranges.pieces()
        ]

    def _fetch(self, start: int, stop: int) -> memoryview:
        if self._is_cancelled:
            raise CancelledError
        try:
            return self._client.fetch(
                self._identity, start, stop, kind=self._kind, deadline=self._deadline
            )
        except BaseException as error:
            self._error = self._error or error
            self._is_cancelled = True
            raise

    def cancel(self) -> None:
        """Fetch nothing more; what was fetched is let go of."""
        self._is_cancelled = True
        for _, piece in self._pieces:
            piece.cancel()
        self._pieces = []

    def into(self, file: SparseFile) -> list[int]:
        """Wait for all ranges, put them in their places, and return the keys to remove them by.

        Raises
        ------
        ChangedFileError, MissingFilesError, InputFileError, RemoteFaultError
            What the first range that failed says.
        """
        keys = []
        try:
            for start, piece in self._pieces:
                keys += file.add(start, piece.result())
        except CancelledError:
            raise self._error or RemoteFaultError(
                f"{file.name} was not fetched: it was cancelled; run the same command again."
            ) from None
        finally:
            self.cancel()
        return keys
