"""Extraction: the responses of a session to the shared images, read, z-scored and stored."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nsd_prep.core.digests import digest_of_json
from nsd_prep.core.errors import (
    ExtractionError,
    ExtractionFaultError,
    InputFileError,
    NotRequestedError,
    NSDPrepError,
    RemoteFaultError,
)
from nsd_prep.core.records import FileSample, Sealed
from nsd_prep.dataset.beta_files import BetaFile, read_of_files
from nsd_prep.dataset.betas import Betas
from nsd_prep.dataset.identity import RemoteIdentity
from nsd_prep.dataset.published import run_lengths
from nsd_prep.dataset.source import Identities, Source
from nsd_prep.extraction.request import KEPT, PROBES_OF, SessionRequest, TrialSelection
from nsd_prep.extraction.statistics import describe_part
from nsd_prep.extraction.store import StoredArray
from nsd_prep.extraction.zscore import without_data, zscore_trials, zscore_vertices


class ReplacedSessionsError(ExtractionError):
    """Sessions could not be extracted, all because their files were replaced by others.

    Parameters
    ----------
    problems : sequence of str
        One sentence each.
    betas : mapping of (int, int) to tuple of RemoteIdentity
        What is there now, by subject and session (1-based).
    """

    def __init__(
        self, problems: Sequence[str], betas: Mapping[tuple[int, int], tuple[RemoteIdentity, ...]]
    ) -> None:
        super().__init__(problems)
        self.betas = dict(betas)

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        """Pickle with the files, too."""
        return type(self), (self.problems, self.betas)


# Prefect's records name this class by its module: those of a cache are read only while it stays.
class SessionRecord(Sealed):
    """What was extracted from a session.

    Attributes
    ----------
    subject, session : int
        1-based.
    betas : tuple of FileIdentity or of RemoteIdentity
        The files.
    parts : dict of str to StoredArray
        z-scores of the kept trials (n_kept_trials, n_voxels), by region.
    all_trials : dict of str to StoredArray
        Betas of all trials as they are stored (n_voxels, n_trials), by region.
    kept : StoredArray or None
        The same of the voxels that are kept for later requests.
    probes : dict of str to StoredArray
        The same of each region's probes.
    """

    subject: int
    session: int
    betas: Identities
    parts: dict[str, StoredArray]
    all_trials: dict[str, StoredArray] = Field(default_factory=dict)
    kept: StoredArray | None = None
    probes: dict[str, StoredArray] = Field(default_factory=dict)

    @property
    def digest(self) -> str:
        """What stands for the session in a cache key: the content of its parts."""
        parts = [
            [kind, region, part.digest]
            for kind, parts in (
                ("shared", self.parts),
                ("all", self.all_trials),
                ("probes", self.probes),
            )
            for region, part in parts.items()
        ]
        return digest_of_json([self.subject, self.session, parts])

    @property
    def files(self) -> dict[str, str]:
        """Digest of each file, by its name in the store."""
        kept = () if self.kept is None else (self.kept,)
        of_regions = (self.parts, self.all_trials, self.probes)
        parts = (*(part for parts in of_regions for part in parts.values()), *kept)
        return {part.file: part.file_digest for part in parts}


def extract_session(request: SessionRequest) -> SessionRecord:
    """Read, z-score and store what a session's request asks for and the store does not hold.

    The voxels of all missing regions are read in one pass, each once; voxels of which the store
    has all trials are not read again. Every trial of the session enters the z-score.

    Raises
    ------
    OSError
        The disk fails.
    InputFileError
        The session's file is not what it should be.
    OutputError
        The store cannot be written.
    """
    stored = {key: request.find(*key) for key in request.parts}
    missing = [key for key, part in stored.items() if part is None]
    files = request.local_files
    sample = FileSample.from_paths(*files) if missing and files else None
    values = _values(request, list(dict.fromkeys(region for _, region in missing)), sample)
    for kind, region in missing:
        stored[kind, region] = _store(request, kind, region, values[region], sample)
    kept = stored.pop(("all", KEPT), None)
    probes = {region: stored.pop(("all", f"{PROBES_OF}{region}")) for region in request.probes}
    parts = {key: part for key, part in stored.items() if part is not None}
    shared, everything = (
        {region: part for (kind, region), part in parts.items() if kind == wanted}
        for wanted in get_args(TrialSelection)
    )
    return SessionRecord(
        subject=request.subject,
        session=request.session,
        betas=request.betas,
        parts=shared,
        all_trials=everything,
        kept=kept,
        probes={region: part for region, part in probes.items() if part is not None},
    )


def voxels_to_read(request: SessionRequest) -> NDArray[np.int64]:
    """Return the voxels that `extract_session` would read from the session's file, ascending."""
    missing = dict.fromkeys(
        region for kind, region in request.parts if not request.find(kind, region)
    )
    voxel_sets = request.voxel_sets()
    to_read = [region for region in missing if request.find_around(region, voxel_sets) is None]
    return _union(request, to_read)


def _union(request: SessionRequest, regions: Sequence[str]) -> NDArray[np.int64]:
    voxels = [request.voxels(region) for region in regions]
    return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *voxels]))


def _values(
    request: SessionRequest, regions: Sequence[str], sample: FileSample | None
) -> dict[str, Betas]:
    """Return the betas (n_voxels, n_trials) of some regions, from the store where it has them."""
    values: dict[str, Betas] = {}
    voxel_sets = request.voxel_sets() if regions else []
    for region in regions:
        if (stored := request.find_around(region, voxel_sets)) is not None:
            part, rows = stored
            values[region] = request.store.read(part)[rows]
    to_read = [region for region in regions if region not in values]
    if not to_read:
        return values
    voxels = _union(request, to_read)
    read = read_files(request.source, request.files, voxels, request.n_trials)
    source = request.source
    identities = tuple(map(source.identity, request.paths))
    changed = sample is not None and sample.renewed(*request.local_files) is None
    if identities != request.betas or changed:
        expected = zip(request.paths, request.betas, strict=True)
        files = [
            (path, identity.bytes)
            for (path, identity), now in zip(expected, identities, strict=True)
            if changed or now != identity
        ]
        message = (
            f"{source.where(files[0][0])} changed during the run: expected the file of "
            f"{files[0][1]} bytes that was there when it began; make sure that nothing writes it, "
            "and run the same command again."
        )
        # A server has a whole file or another; in a folder it may be half written.
        if remote := [identity for identity in identities if isinstance(identity, RemoteIdentity)]:
            replaced = {(request.subject, request.session): tuple(remote)}
            raise ReplacedSessionsError([message], replaced)
        raise InputFileError(message)
    for region in to_read:
        values[region] = read[np.searchsorted(voxels, request.voxels(region))]
    return values


def read_files(
    source: Source, files: Sequence[BetaFile], sites: NDArray[np.int64], n_trials: int
) -> Betas:
    """Read all trials of some sites (ascending) from the files that hold them."""
    values: Betas | None = None
    for file, own in read_of_files(files, sites):
        read = source.read_voxels(file.path, own, file.shape, n_trials)
        rows = file.rows(sites)
        if file.index is not None:  # sites may share one of the file's, which is read once
            read = read[np.searchsorted(own, file.own_sites(sites[rows]))]
        if rows == slice(0, len(sites)):
            return read
        if values is None:
            values = np.empty((len(sites), n_trials), dtype=read.dtype)
        values[rows] = read
    assert values is not None
    return values


def _store(
    request: SessionRequest,
    kind: TrialSelection,
    region: str,
    values: Betas,
    sample: FileSample | None,
) -> StoredArray:
    if kind == "all":
        request.store.write_voxels(request.group, request.voxels(region))
        kept: NDArray[Any] = values
        constant = without_data(values)
    else:
        zscore = zscore_vertices if request.is_surface else zscore_trials
        zscores, constant = zscore(values, request.trials)
        kept = zscores.T
    name, key = request.part_name(kind, region), request.part_keys[kind, region]
    statistics = describe_part(values, run_lengths(request.n_trials))
    return request.store.write(name, key, kept, constant, statistics, sample)


def extract_sessions(requests: Sequence[SessionRequest]) -> list[SessionRecord]:
    """Extract several sessions in order, all that can be, whatever becomes of the others.

    Where a server is given up, those that follow are not tried.

    Raises
    ------
    ExtractionFaultError
        Some sessions failed, and a retry may help.
    ReplacedSessionsError
        Some sessions failed, and would not with the files that are there now.
    ExtractionError
        Some sessions failed, and nothing of this would help.
    """
    records = []
    errors: dict[str, Exception] = {}
    replaced: dict[tuple[int, int], tuple[RemoteIdentity, ...]] = {}
    for request in requests:
        try:
            records.append(extract_session(request))
        except (NSDPrepError, OSError) as error:
            errors[f"subject {request.subject}, session {request.session}: {error}"] = error
            if isinstance(error, ReplacedSessionsError):
                replaced |= error.betas
            if isinstance(error, NotRequestedError):
                break
    if errors and len(replaced) == len(errors):
        raise ReplacedSessionsError(list(errors), replaced)
    if errors:
        judged = (NSDPrepError, RemoteFaultError)  # the latter was tried again where it arose
        may_help = any(not isinstance(error, judged) for error in errors.values())
        raise (ExtractionFaultError if may_help else ExtractionError)(list(errors))
    return records
