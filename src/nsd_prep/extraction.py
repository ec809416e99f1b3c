"""Extraction: the responses of a session to the shared images, read, z-scored and stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.betas import zscore_trials
from nsd_prep.errors import ExtractionError, ExtractionFaultError, InputFileError, NSDPrepError
from nsd_prep.files import Sealed, digest_of_array, sha256_of_json
from nsd_prep.source import Identity, Source
from nsd_prep.store import Part, Store

#: Raise this when the same inputs give other responses: stored ones are then not used any more.
EXTRACTION_VERSION: Final = 2


@dataclass(frozen=True)
class SessionRequest:
    """What is to be extracted from a session.

    Attributes
    ----------
    subject, session : int
        1-based.
    source : Source
        What gives the session's file.
    path : Path
        The session's file, as the source knows it.
    betas : FileIdentity or RemoteIdentity
        What tells whether it is still the same.
    n_trials : int
        Trials in the session.
    trials : tuple of int
        Trials in session (0-based, ascending) that are kept.
    grid : tuple of int
        (Z, Y, X).
    regions : mapping of str to ndarray of int64, shape (n_voxels,)
        For each region, indices into the raveled grid (C order, 0-based), ascending.
    store : Store
        Where the responses are kept.
    """

    subject: int
    session: int
    source: Source = field(compare=False)
    path: Path
    betas: Identity
    n_trials: int
    trials: tuple[int, ...]
    grid: tuple[int, int, int]
    regions: Mapping[str, NDArray[np.int64]]
    store: Store

    @cached_property
    def part_keys(self) -> dict[str, str]:
        """For each region, the digest of all that determines its responses in this session."""
        common = {
            "version": EXTRACTION_VERSION,
            "betas": self.betas.model_dump(),
            "n_trials": self.n_trials,
            "trials": self.trials,
            "grid": self.grid,
        }
        return {
            region: sha256_of_json(common | {"voxels": digest_of_array(voxels)})
            for region, voxels in self.regions.items()
        }

    @property
    def digest(self) -> str:
        """What stands for the request in a cache key."""
        return sha256_of_json([self.subject, self.session, self.part_keys])

    def invalidate(self) -> None:
        """Make the store drop what this request gives, so that it is extracted again."""
        for region in self.regions:
            self.store.invalidate(self.part_name(region))

    def part_name(self, region: str) -> str:
        """Return the name in the store of a region's part."""
        folder = f"subj{self.subject:02d}-session{self.session:02d}"
        return f"{folder}/{self.part_keys[region][:24]}"


class SessionRecord(Sealed):
    """What was extracted from a session.

    Attributes
    ----------
    subject, session : int
        1-based.
    parts : dict of str to Part
        For each region of the request.
    """

    subject: int
    session: int
    parts: dict[str, Part]

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of each file, by its name in the store."""
        return {part.file: part.sha256 for part in self.parts.values()}


def extract_session(request: SessionRequest) -> SessionRecord:
    """Read, z-score and store what a session's request asks for and the store does not hold.

    The voxels of all missing regions are read in one pass, each once; every trial of the session
    enters the z-score, and those that show a shared image are kept.

    Parameters
    ----------
    request : SessionRequest
        What is wanted.

    Returns
    -------
    SessionRecord
        Where it lies.

    Raises
    ------
    OSError
        The disk fails.
    InputFileError
        The session's file is not what it should be.
    OutputError
        The store cannot be written.
    """
    parts: dict[str, Part] = {}
    for region, key in request.part_keys.items():
        if part := request.store.find_whole(request.part_name(region), key):
            parts[region] = part
    missing = [region for region in request.regions if region not in parts]
    if missing:
        parts |= _extract(request, missing)
    return SessionRecord(
        subject=request.subject,
        session=request.session,
        parts={region: parts[region] for region in request.regions},
    )


def _extract(request: SessionRequest, regions: Sequence[str]) -> dict[str, Part]:
    voxels = np.unique(np.concatenate([request.regions[region] for region in regions]))
    source, path = request.source, request.path
    values = source.read_voxels(path, voxels, request.grid, request.n_trials)
    found = source.identity(path)
    if found != request.betas:
        raise InputFileError(
            f"{source.where(path)} was changed during the run: expected the {request.betas.bytes} "
            "bytes that were there when it began; see that nothing writes it, and run the same "
            "command again."
        )
    zscores, constant = zscore_trials(values)
    kept = np.ascontiguousarray(zscores[:, list(request.trials)].T)
    parts = {}
    for region in regions:
        columns = np.searchsorted(voxels, request.regions[region])
        parts[region] = request.store.write(
            request.part_name(region),
            request.part_keys[region],
            np.take(kept, columns, axis=1),
            constant[columns],
            {},
        )
    return parts


def extract_sessions(requests: Sequence[SessionRequest]) -> list[SessionRecord]:
    """Extract several sessions, all that can be, whatever becomes of the others.

    Parameters
    ----------
    requests : sequence of SessionRequest
        What is wanted.

    Returns
    -------
    list of SessionRecord
        In the order of the requests.

    Raises
    ------
    ExtractionFaultError
        Some sessions failed, and a retry may help.
    ExtractionError
        Some sessions failed, and it would not.
    """
    records = []
    errors: dict[str, Exception] = {}
    for request in requests:
        try:
            records.append(extract_session(request))
        except (NSDPrepError, OSError) as error:
            errors[f"subject {request.subject}, session {request.session}: {error}"] = error
    if errors:
        may_help = any(not isinstance(error, NSDPrepError) for error in errors.values())
        raise (ExtractionFaultError if may_help else ExtractionError)(list(errors))
    return records
