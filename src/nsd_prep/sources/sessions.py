"""Sites of a remote session: the ranges that are predicted to hold them, read as a local file."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nsd_prep.dataset import betas
from nsd_prep.dataset.frames import (
    check_frames,
    check_values,
    frame_parts,
    frames_bytes,
    read_some_frames,
)
from nsd_prep.dataset.hdf5.places import ChunkPlaces
from nsd_prep.dataset.hdf5.ranges import Ranges, bridged, slices
from nsd_prep.dataset.identity import RemoteIdentity
from nsd_prep.sources.batch import Batch
from nsd_prep.sources.client import SESSION_SECONDS, Client
from nsd_prep.sources.retry import Deadline
from nsd_prep.sources.sparse_file import GAP, PART_BYTES, SparseFile

Integers = NDArray[np.int64]

#: Sessions of which a first part is fetched before they are read, on surfaces of both files: with
#: two parts of the one being read, some 250 MB.
MOST_PREFETCHED: Final = 3
#: Bytes that may follow the last frame of an MGH file: scan parameters and tags.
_LONGEST_TRAILER: Final = 4096
#: Of a surface's file, the bytes that are fetched between ranges, for each byte that is wanted.
#: fsaverage takes two of three vertices of a larger surface: bridging all gaps would nearly double
#: the bytes, and save time on links beyond some 300 Mbit/s alone.
_BRIDGED_ON_SURFACES: Final = 0.04
#: Ranges that the prediction may miss in a session before what follows is not predicted.
_ALLOWED_MISSES: Final = 16

_logger: Final = logging.getLogger(__name__)


class FetchedPart(NamedTuple):
    """What is fetched together of a session's file.

    Attributes
    ----------
    voxels, trials : slice
        What it holds: of the voxels that were asked for, and of the file's trials.
    ranges : Ranges
        The bytes that hold them.
    """

    voxels: slice
    trials: slice
    ranges: Ranges


def predicted_parts(shape: tuple[int, ...], n_trials: int, voxels: Integers) -> list[FetchedPart]:
    """Return what is to be fetched of an HDF5 file that was written in order.

    Parameters
    ----------
    shape : tuple of int
        Of all sites: (Z, Y, X) of a volume, (V,) of a hemisphere.
    n_trials : int
        750 in NSD.
    voxels : ndarray of int64, shape (n_voxels,)
        Sites (0-based), ascending.

    Returns
    -------
    list of FetchedPart
        At least one; the first holds the head of the file.
    """
    places = ChunkPlaces.predict(shape, n_trials)
    gap = _gap(shape)
    lengths = np.full(len(voxels), places.chunk_bytes, dtype=np.int64)
    chosen = slices(places.chunks(voxels), lengths, gap, PART_BYTES) or [slice(0, 0)]
    parts = []
    for part in chosen:
        ranges = places.ranges(voxels[part], gap)
        if _is_surface(shape):
            ranges = bridged(ranges, int(_BRIDGED_ON_SURFACES * ranges.n_bytes))
        parts.append(FetchedPart(part, slice(0, n_trials), ranges))
    return parts


def frames_to_fetch(n_vertices: int, n_trials: int, vertices: Integers) -> list[FetchedPart]:
    """Return what is to be fetched of an MGH file.

    Arguments are those of `predicted_parts`, of a hemisphere; so is the result.
    """
    parts = frame_parts(vertices, n_vertices, n_trials, GAP, PART_BYTES)
    return [FetchedPart(slice(0, len(vertices)), part.trials, part.ranges) for part in parts]


def _is_surface(shape: tuple[int, ...]) -> bool:
    return len(shape) == 1


def _gap(shape: tuple[int, ...]) -> int:
    """Return the bytes between two chunks that are always fetched."""
    return 0 if _is_surface(shape) else GAP


@dataclass(frozen=True)
class _Prefetched:
    voxels: Integers
    parts: list[FetchedPart]
    first: Batch


def _read_part(
    part: FetchedPart,
    voxels: Integers,
    shape: tuple[int, ...],
    n_trials: int,
    file: SparseFile,
) -> NDArray[Any]:
    """Return the betas (n_part_voxels, n_part_trials) of what was fetched of a file."""
    if not file.name.endswith(betas.MGH):
        return betas.read_voxels(file.name, voxels, shape, n_trials, file)
    if part.trials.start == 0:
        check_frames(file.name, shape[0], n_trials, file)
    return read_some_frames(part.trials, voxels, shape[0], file)


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

        Only files of the predicted size are fetched before they are read.
        """
        if identity in self._prefetched:
            return True
        # Of a surface a session has two files, each of half of it.
        most_files = 2 * MOST_PREFETCHED if _is_surface(shape) else MOST_PREFETCHED
        if len(self._prefetched) >= most_files:
            return False
        if not (parts := self._parts(identity, voxels, shape, n_trials)):
            return False
        first = Batch(self._client, identity, parts[0].ranges, Deadline(SESSION_SECONDS))
        self._prefetched[identity] = _Prefetched(voxels, parts, first)
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
        ahead, parts = None, None
        if (prefetched := self._prefetched.pop(identity, None)) is not None:
            if np.array_equal(prefetched.voxels, voxels):
                ahead, parts = prefetched.first, prefetched.parts
            else:
                prefetched.first.cancel()
        deadline = Deadline(SESSION_SECONDS)
        file = self._file(identity, deadline)
        if parts is None:
            parts = self._parts(identity, voxels, shape, n_trials)
        if not parts:
            return betas.read_voxels(identity.path, voxels, shape, n_trials, file)
        is_mgh = identity.path.endswith(betas.MGH)
        file.gap = GAP if is_mgh else _gap(shape)
        if ahead is None:
            ahead = Batch(self._client, identity, parts[0].ranges, deadline)
        stored = betas.stored_type(Path(identity.path))
        values: NDArray[Any] = np.empty((len(voxels), n_trials), dtype=stored)
        try:
            for part, following in zip(parts, [*parts[1:], None], strict=True):
                keys = [key for start, piece in ahead.pieces() for key in file.add(start, piece)]
                if following is not None:
                    ahead = Batch(self._client, identity, following.ranges, deadline)
                values[part.voxels, part.trials] = _read_part(
                    part, voxels[part.voxels], shape, n_trials, file
                )
                file.remove(keys)
                if file.misses > _ALLOWED_MISSES:
                    _logger.warning(
                        "%s is not laid out as its size suggests: reading its index.",
                        identity.path,
                    )
                    file.gap = GAP
                    rest = slice(part.voxels.stop, None)
                    values[rest] = betas.read_voxels(
                        identity.path, voxels[rest], shape, n_trials, file
                    )
                    break
        finally:
            ahead.cancel()
        if is_mgh:
            check_values(identity.path, voxels, values)
        return values

    def _parts(
        self, identity: RemoteIdentity, voxels: Integers, shape: tuple[int, ...], n_trials: int
    ) -> list[FetchedPart]:
        """Return what is to be fetched; nothing where the file has not the predicted size."""
        if not self.has_predicted_size(identity, shape, n_trials):
            return []
        if identity.path.endswith(betas.MGH):
            return frames_to_fetch(shape[0], n_trials, voxels)
        return predicted_parts(shape, n_trials, voxels)

    def _file(self, identity: RemoteIdentity, deadline: Deadline) -> SparseFile:
        def fetch(ranges: Ranges) -> Iterable[tuple[int, Any]]:
            return Batch(self._client, identity, ranges, deadline).pieces()

        return SparseFile(identity.path, identity.bytes, fetch)
