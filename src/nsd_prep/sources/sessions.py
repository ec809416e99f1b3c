"""Voxels of a remote session: the ranges that are predicted to hold them, read as a local file."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nsd_prep.dataset import betas
from nsd_prep.dataset.frames import frames_bytes
from nsd_prep.dataset.hdf5.places import ChunkPlaces
from nsd_prep.dataset.hdf5.ranges import Ranges, slices
from nsd_prep.dataset.identity import RemoteIdentity
from nsd_prep.sources.batch import Batch
from nsd_prep.sources.client import SESSION_SECONDS, Client
from nsd_prep.sources.retry import Deadline
from nsd_prep.sources.sparse_file import GAP, SparseFile

Integers = NDArray[np.int64]

#: Bytes of a session's ranges that are fetched, and kept, together: two of these are under way.
_PART_BYTES: Final = 30_000_000
#: Sessions that are fetched before they are read: with the one being read, some 250 MB.
MOST_PREFETCHED: Final = 3
#: Bytes that may follow the last frame of an MGH file: scan parameters and tags.
_LONGEST_TRAILER: Final = 4096
#: Ranges that the prediction may miss in a session before what follows is not predicted.
_ALLOWED_MISSES: Final = 16

_logger: Final = logging.getLogger(__name__)


class FetchedVoxels(NamedTuple):
    """Voxels of a session that are fetched together.

    Attributes
    ----------
    voxels : slice
        Of the voxels that were asked for.
    ranges : Ranges
        What holds them.
    """

    voxels: slice
    ranges: Ranges


def predicted_fetches(places: ChunkPlaces, voxels: Integers) -> list[FetchedVoxels]:
    """Return what is to be fetched of a session that was written in order.

    At least one part; the first holds the head of the file.

    Parameters
    ----------
    places : ChunkPlaces
        The predicted places in its file.
    voxels : ndarray of int64, shape (n_voxels,)
        Sites (0-based), ascending.
    """
    lengths = np.full(len(voxels), places.chunk_bytes, dtype=np.int64)
    chosen = slices(places.chunks(voxels), lengths, GAP, _PART_BYTES) or [slice(0, 0)]
    return [FetchedVoxels(part, places.ranges(voxels[part], GAP)) for part in chosen]


@dataclass(frozen=True)
class _Prefetched:
    voxels: Integers
    parts: list[FetchedVoxels]
    first: Batch
    deadline: Deadline


class SessionReader:
    """Reads the betas of remote sessions, and fetches those of the next ones meanwhile.

    Parameters
    ----------
    client : Client
        Who fetches.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._prefetched: dict[RemoteIdentity, _Prefetched] = {}

    def check(self, identity: RemoteIdentity, shape: tuple[int, ...], n_trials: int) -> None:
        """Raise where a session's betas are not of the expected form; one request.

        Arguments and errors are those of `read_voxels`.
        """
        file = self._file(identity, Deadline(SESSION_SECONDS))
        betas.check_session_file(identity.path, shape, n_trials, file)

    def has_predicted_size(
        self, identity: RemoteIdentity, shape: tuple[int, ...], n_trials: int
    ) -> bool:
        """Return whether a file has the size of one that was written as NSD's were."""
        if identity.path.endswith(betas.MGH):
            return 0 <= identity.bytes - frames_bytes(shape[0], n_trials) <= _LONGEST_TRAILER
        return identity.bytes == ChunkPlaces.predict(shape, n_trials).file_bytes

    def prefetch(
        self,
        identity: RemoteIdentity,
        voxels: Integers,
        shape: tuple[int, ...],
        n_trials: int,
    ) -> bool:
        """Begin to fetch what `read_voxels` will be asked for, where there is room; return whether.

        Only files of the predicted size are fetched before they are read, and no frames of MGH
        files: all of them would be.
        """
        if identity in self._prefetched:
            return True
        if identity.path.endswith(betas.MGH):
            return False
        places = ChunkPlaces.predict(shape, n_trials)
        # Of a surface a session has two files, each of half of it.
        most_files = MOST_PREFETCHED if len(shape) > 1 else 2 * MOST_PREFETCHED
        if identity.bytes != places.file_bytes or len(self._prefetched) >= most_files:
            return False
        parts = predicted_fetches(places, voxels)
        deadline = Deadline(SESSION_SECONDS)
        first = Batch(self._client, identity, parts[0].ranges, deadline)
        self._prefetched[identity] = _Prefetched(voxels, parts, first, deadline)
        return True

    def cancel(self) -> None:
        """Let go of all that was fetched and not read."""
        while self._prefetched:
            self._prefetched.popitem()[1].first.cancel()

    def read_voxels(
        self,
        identity: RemoteIdentity,
        voxels: Integers,
        shape: tuple[int, ...],
        n_trials: int,
    ) -> NDArray[Any]:
        """Read all trials of some voxels of a session, and little else.

        Arguments and result are those of `nsd_prep.dataset.betas.read_voxels`, as it would be given
        a local copy of the file.

        Raises
        ------
        InputFileError
            The file is truncated, not HDF5, or holds something else, or its server does not
            answer ranges.
        ChangedFileError
            It is not the one of `identity` any more.
        RemoteFaultError
            The server does not answer.
        MissingFilesError
            It is gone, or may not be read.
        """
        if identity.path.endswith(betas.MGH):
            file = self._file(identity, Deadline(SESSION_SECONDS))
            return betas.read_voxels(identity.path, voxels, shape, n_trials, file)
        prefetched = self._prefetched.pop(identity, None)
        if prefetched is not None and not np.array_equal(prefetched.voxels, voxels):
            prefetched.first.cancel()
            prefetched = None
        places = ChunkPlaces.predict(shape, n_trials)
        if prefetched is not None:
            deadline, parts, ahead = prefetched.deadline, prefetched.parts, prefetched.first
        else:
            deadline = Deadline(SESSION_SECONDS)
            if identity.bytes != places.file_bytes:
                file = self._file(identity, deadline)
                return betas.read_voxels(identity.path, voxels, shape, n_trials, file)
            parts = predicted_fetches(places, voxels)
            ahead = Batch(self._client, identity, parts[0].ranges, deadline)
        file = self._file(identity, deadline)
        values = np.empty((len(voxels), n_trials), dtype=np.int16)
        try:
            for part, following in zip(parts, [*parts[1:], None], strict=True):
                keys = [key for start, piece in ahead.pieces() for key in file.add(start, piece)]
                if following is not None:
                    ahead = Batch(self._client, identity, following.ranges, deadline)
                chosen = voxels[part.voxels]
                values[part.voxels] = betas.read_voxels(
                    identity.path, chosen, shape, n_trials, file
                )
                file.remove(keys)
                if file.misses > _ALLOWED_MISSES:
                    _logger.warning(
                        "%s has the size of a file written in order, and is not: its index is "
                        "read.",
                        identity.path,
                    )
                    rest = slice(part.voxels.stop, None)
                    values[rest] = betas.read_voxels(
                        identity.path, voxels[rest], shape, n_trials, file
                    )
                    break
        finally:
            ahead.cancel()
        return values

    def _file(self, identity: RemoteIdentity, deadline: Deadline) -> SparseFile:
        def fetch(ranges: Ranges) -> Iterable[tuple[int, Any]]:
            return Batch(self._client, identity, ranges, deadline).pieces()

        return SparseFile(identity.path, identity.bytes, fetch)
