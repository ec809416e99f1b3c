"""Voxels of a remote session: the ranges that hold them, read by HDF5 as from a local file."""

import logging
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset import betas
from nsd_prep.dataset.hdf5.index import ChunkIndex, ChunkTable, index_of
from nsd_prep.dataset.hdf5.places import ChunkPlaces
from nsd_prep.dataset.hdf5.ranges import Ranges, merged
from nsd_prep.dataset.identity import RemoteIdentity
from nsd_prep.sources.batch import Batch
from nsd_prep.sources.client import SESSION_SECONDS, Client
from nsd_prep.sources.retry import Deadline
from nsd_prep.sources.sparse_file import MissingBytesError, SparseFile
from nsd_prep.sources.traffic import TransferKind

Integers = NDArray[np.int64]
_Result = TypeVar("_Result")

#: Bytes of a session's ranges that are fetched, and kept, together: two of these are under way.
_PART_BYTES: Final = 30_000_000
#: Sessions that are fetched before they are read: with the one being read, some 250 MB.
MOST_PREFETCHED: Final = 3
#: Holes that the prediction may leave in a session before its index is read in place of it.
_ALLOWED_MISSES: Final = 16
#: Bytes of blocks kept of a file whose voxels cannot be fetched alone.
_BLOCK_BYTES: Final = 40_000_000
#: Of such a file all trials are read in turn, a part of each: blocks reach from one to the next.
_REACH: Final = 4
_VOXEL_CHUNKS: Final = "chunks of a voxel"

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


def predicted_fetches(places: ChunkPlaces, voxels: Integers, gap: int) -> list[FetchedVoxels]:
    """Return what is to be fetched of a session that was written in order.

    At least one part; the first holds the head of the file.

    Parameters
    ----------
    places : ChunkPlaces
        The predicted places in its file.
    voxels : ndarray of int64, shape (n_voxels,)
        Sites (0-based), ascending.
    gap : int
        Bytes that may be fetched in vain between two ranges.
    """
    starts = places.chunks(voxels)
    lengths = np.full(len(voxels), places.chunk_bytes, dtype=np.int64)
    return [
        FetchedVoxels(chosen, places.ranges(voxels[chosen], gap))
        for chosen in _slices(starts, lengths, gap)
    ]


def _slices(starts: Integers, lengths: Integers, gap: int) -> list[slice]:
    """Cut voxels, in the order of the file, so that the ranges of each slice fit into memory."""
    if not len(starts):
        return [slice(0, 0)]
    ranges = merged(starts, lengths, gap)
    before = np.concatenate([[0], np.cumsum(ranges.stops - ranges.starts)])
    at = np.searchsorted(ranges.starts, starts, side="right") - 1
    part = (before[at] + starts - ranges.starts[at]) // _PART_BYTES
    cuts = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(starts)]
    return [slice(first, stop) for first, stop in pairwise(cuts)]


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
        file = self._file(identity, "index", Deadline(SESSION_SECONDS))
        name = identity.path
        _read(file, lambda: betas.check_session_file(name, shape, n_trials, file))

    def prefetch(
        self,
        identity: RemoteIdentity,
        voxels: Integers,
        shape: tuple[int, ...],
        n_trials: int,
    ) -> bool:
        """Begin to fetch what `read_voxels` will be asked for, where there is room; return whether.

        Only files of the predicted size are fetched before they are read.
        """
        if identity in self._prefetched:
            return True
        places = ChunkPlaces.predict(shape, n_trials)
        if identity.bytes != places.file_bytes or len(self._prefetched) >= MOST_PREFETCHED:
            return False
        parts = predicted_fetches(places, voxels, self._client.link.gap)
        deadline = Deadline(SESSION_SECONDS)
        first = self._batch(identity, parts[0].ranges, "betas", deadline)
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
    ) -> NDArray[np.int16]:
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
        prefetched = self._prefetched.pop(identity, None)
        places = ChunkPlaces.predict(shape, n_trials)
        if identity.bytes == places.file_bytes:
            if prefetched is not None and not np.array_equal(prefetched.voxels, voxels):
                prefetched.first.cancel()
                prefetched = None
            try:
                return self._read_predicted(identity, voxels, shape, n_trials, prefetched)
            except MissingBytesError:
                _logger.warning(
                    "%s has the size of a file written in order, and is not: its index is read.",
                    identity.path,
                )
        return self._read_otherwise(identity, voxels, shape, n_trials)

    def _read_predicted(
        self,
        identity: RemoteIdentity,
        voxels: Integers,
        shape: tuple[int, ...],
        n_trials: int,
        prefetched: _Prefetched | None,
    ) -> NDArray[np.int16]:
        if prefetched is None:
            places = ChunkPlaces.predict(shape, n_trials)
            deadline = Deadline(SESSION_SECONDS)
            parts, first = predicted_fetches(places, voxels, self._client.link.gap), None
        else:
            deadline = prefetched.deadline
            parts, first = prefetched.parts, prefetched.first
        file = self._file(identity, "index", deadline, allowed_misses=_ALLOWED_MISSES)
        return self._read_parts(identity, file, parts, first, voxels, shape, n_trials, deadline)

    def _read_parts(
        self,
        identity: RemoteIdentity,
        file: SparseFile,
        parts: list[FetchedVoxels],
        first: Batch | None,
        voxels: Integers,
        shape: tuple[int, ...],
        n_trials: int,
        deadline: Deadline,
    ) -> NDArray[np.int16]:
        """Read a part while the next one is fetched."""
        values = np.empty((len(voxels), n_trials), dtype=np.int16)
        ahead = first or self._batch(identity, parts[0].ranges, "betas", deadline)
        try:
            for at, part in enumerate(parts):
                keys = ahead.into(file)
                self._client.adapt()
                if at + 1 < len(parts):
                    ahead = self._batch(identity, parts[at + 1].ranges, "betas", deadline)
                chosen = voxels[part.voxels]
                values[part.voxels] = _read(
                    file,
                    lambda chosen=chosen: betas.read_voxels(  # type: ignore[misc]
                        identity.path, chosen, shape, n_trials, file
                    ),
                )
                file.remove(keys)
        finally:
            ahead.cancel()
        return values

    def _read_otherwise(
        self,
        identity: RemoteIdentity,
        voxels: Integers,
        shape: tuple[int, ...],
        n_trials: int,
    ) -> NDArray[np.int16]:
        """Read a file whose chunks lie where only its index tells, or that has none."""
        deadline = Deadline(SESSION_SECONDS)
        file = self._file(identity, "index", deadline)
        form, index = _read(file, lambda: _form(identity.path, shape, n_trials, file))
        table = None
        if index is not None:

            def read_nodes(nodes: Integers) -> NDArray[np.uint8]:
                ranges = merged(nodes, np.full(len(nodes), index.node_bytes), gap)
                ranges = Ranges(ranges.starts, np.minimum(ranges.stops, identity.bytes))
                self._batch(identity, ranges, "index", deadline).into(file)
                content = b"".join(file.read_at(node, index.node_bytes) for node in nodes.tolist())
                return np.frombuffer(content, np.uint8).reshape(len(nodes), index.node_bytes)

            gap = self._client.link.gap
            with suppress(EOFError, struct.error, ValueError):  # damaged: HDF5 will tell of it
                table = index.find(voxels, read_nodes)
        if table is not None:
            parts = _table_parts(table, gap)
            return self._read_parts(identity, file, parts, None, voxels, shape, n_trials, deadline)
        _logger.warning(
            "%s is stored as %s, so that its voxels cannot be fetched alone: up to %.1f MB of it "
            "are fetched for %.1f MB of betas.",
            identity.path,
            form,
            identity.bytes / 1e6,
            len(voxels) * n_trials * np.dtype(np.int16).itemsize / 1e6,
        )
        reach = 0 if form.startswith(_VOXEL_CHUNKS) else _REACH
        blocks = self._file(identity, "betas", deadline, most_bytes=_BLOCK_BYTES, reach=reach)
        return _read(
            blocks, lambda: betas.read_voxels(identity.path, voxels, shape, n_trials, blocks)
        )

    def _batch(
        self, identity: RemoteIdentity, ranges: Ranges, kind: TransferKind, deadline: Deadline
    ) -> Batch:
        return Batch(self._client, identity, ranges, kind=kind, deadline=deadline)

    def _file(
        self, identity: RemoteIdentity, kind: TransferKind, deadline: Deadline, **bounds: int
    ) -> SparseFile:
        def fetch(start: int, stop: int) -> Any:
            return self._client.fetch(
                identity, start, stop, kind=kind, deadline=deadline, at_once=True
            )

        return SparseFile(identity.path, identity.bytes, fetch=fetch, **bounds)


def _table_parts(table: ChunkTable, gap: int) -> list[FetchedVoxels]:
    """Return what is to be fetched of a session whose chunks were looked up."""
    n_voxels = len(table.starts)
    n_parts = max(1, -(-merged(table.starts, table.lengths, gap).n_bytes // _PART_BYTES))
    bounds = np.linspace(0, n_voxels, n_parts + 1).astype(int).tolist()
    return [
        FetchedVoxels(slice(a, b), merged(table.starts[a:b], table.lengths[a:b], gap))
        for a, b in pairwise(bounds)
    ]


def _form(
    name: str, shape: tuple[int, ...], n_trials: int, file: SparseFile
) -> tuple[str, ChunkIndex | None]:
    """Return how a session's betas are stored, and the index of chunks that are a voxel each."""
    with betas.opened_betas(name, shape, n_trials, file) as opened:
        if opened.chunks != (n_trials, *(1 for _ in shape)):
            return f"chunks of {opened.chunks}" if opened.chunks else "one block", None
        with suppress(EOFError, struct.error, ValueError):
            return _VOXEL_CHUNKS, index_of(opened, file.read_at)
    return f"{_VOXEL_CHUNKS} with a damaged index", None


def _read(file: SparseFile, action: Callable[[], _Result]) -> _Result:
    """Return what reading a file gives; where bytes of it did not come, raise what said so."""
    try:
        result = action()
    except (InputFileError, OSError):
        if file.error is not None:
            raise file.error from None
        raise
    if file.error is not None:
        raise file.error
    return result
