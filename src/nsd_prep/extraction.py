"""Responses of a session to the shared images, extracted once and kept in a store."""

import contextlib
import hashlib
import io
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from nsd_prep.betas import read_voxels, zscore_trials
from nsd_prep.errors import (
    ExtractionError,
    ExtractionFaultError,
    InputFileError,
    NSDPrepError,
    OutputError,
)
from nsd_prep.files import (
    FileIdentity,
    has_sha256,
    read_whole,
    replaced,
    sha256_of_file,
    sha256_of_json,
)
from nsd_prep.voxels_file import read_voxels_file

#: Raise this when the same inputs give other responses: stored ones are then not used any more.
EXTRACTION_VERSION: Final = 2

_logger: Final = logging.getLogger(__name__)


class SessionRequest(BaseModel):
    """What is to be extracted from a session.

    Attributes
    ----------
    dataset : str
        Name of the dataset.
    preparation : str
        Which betas.
    subject, session : int
        1-based.
    betas_file : FileIdentity
        The session's file.
    n_trials : int
        Trials in the session.
    trials : tuple of int
        Trials in session (0-based, ascending) that show a shared image.
    voxels_file : str
        A file as `nsd_prep.voxels_file.write_voxels` writes it.
    regions : dict of str to str
        For each region, the digest of its voxels.
    store : str
        Folder of the store.
    """

    model_config = ConfigDict(frozen=True)

    dataset: str
    preparation: str
    subject: int
    session: int
    betas_file: FileIdentity
    n_trials: int
    trials: tuple[int, ...]
    voxels_file: str
    regions: dict[str, str]
    store: str

    def part_key(self, region: str) -> str:
        """Return the digest of all that determines a region's responses in this session."""
        return sha256_of_json(
            {
                "version": EXTRACTION_VERSION,
                "dataset": self.dataset,
                "preparation": self.preparation,
                "subject": self.subject,
                "session": self.session,
                "betas_file": self.betas_file.model_dump(),
                "n_trials": self.n_trials,
                "trials": self.trials,
                "voxels": self.regions[region],
            }
        )

    def key(self) -> str:
        """Return the digest of all that determines what this request gives."""
        return sha256_of_json({region: self.part_key(region) for region in self.regions})


class Part(BaseModel):
    """A region's responses in a session, as they lie in the store.

    Attributes
    ----------
    key : str
        Digest of all that determines them.
    file : str
        Path of a ``.npy`` file: float32, little-endian, C order, shape (n_trials, n_voxels).
    sha256 : str
        Digest of that file.
    shape : tuple of int
        (n_trials, n_voxels).
    constant_voxels : tuple of int
        Positions (0-based) among the region's voxels of those without data in this session.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    file: str
    sha256: str
    shape: tuple[int, int]
    constant_voxels: tuple[int, ...]

    def is_whole(self) -> bool:
        """Return whether the file is there with the bytes that were written."""
        return has_sha256(self.file, self.sha256)

    def read(self) -> NDArray[np.float32]:
        """Read the responses.

        Returns
        -------
        ndarray of float32, shape (n_trials, n_voxels)
            z-scores.

        Raises
        ------
        OSError
            The disk fails.
        InputFileError
            The file is gone or altered.
        """
        content = b""
        with contextlib.suppress(FileNotFoundError):
            content = read_whole(Path(self.file))
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise InputFileError(
                f"The extracted responses {self.file} are gone or altered since they were checked: "
                "run the same command again, it extracts them anew."
            )
        # Shape and dtype stand in the record: numpy.load would parse the header through `ast`,
        # which CPython 3.11 cannot do in two threads at once (gh-106905).
        values = np.frombuffer(content, np.float32, offset=len(content) - 4 * math.prod(self.shape))
        return values.reshape(self.shape)


class _StoredPart(BaseModel):
    """The record of a part in the store, with the digest that tells whether it was altered."""

    part: Part
    sha256: str


def _digest_of(part: Part) -> str:
    return sha256_of_json(part.model_dump(mode="json"))


class SessionRecord(BaseModel):
    """What was extracted from a session.

    Attributes
    ----------
    subject, session : int
        1-based.
    parts : dict of str to Part
        For each region of the request.
    voxels_read : int
        How many voxels were read from the betas; 0 where all parts lay in the store.
    """

    model_config = ConfigDict(frozen=True)

    subject: int
    session: int
    parts: dict[str, Part]
    voxels_read: int


def stored_part(request: SessionRequest, region: str) -> Part | None:
    """Return what the store says of a region's responses in a session.

    Parameters
    ----------
    request : SessionRequest
        The session.
    region : str
        One of its regions.

    Returns
    -------
    Part or None
        None where nothing is recorded. Whether the file is whole is `Part.is_whole`'s to say.
    """
    key = request.part_key(region)
    try:
        stored = _StoredPart.model_validate_json(_record_file(request, key).read_bytes())
    except (OSError, ValidationError):
        return None
    part = stored.part
    if part.key != key or stored.sha256 != _digest_of(part):
        return None
    return part.model_copy(update={"file": str(_array_file(request, key))})


def stored_session(request: SessionRequest) -> SessionRecord:
    """Return what the store says of a session that was extracted.

    Parameters
    ----------
    request : SessionRequest
        The session.

    Returns
    -------
    SessionRecord
        Its files where the store lies now, also where it was moved since they were written.

    Raises
    ------
    InputFileError
        The store does not hold all that is asked for.
    """
    parts = {region: stored_part(request, region) for region in request.regions}
    found = {region: part for region, part in parts.items() if part is not None}
    if len(found) < len(parts):
        raise InputFileError(
            f"The store {request.store} lost what was extracted of subject {request.subject}, "
            f"session {request.session}: run the same command again, it extracts it anew."
        )
    return _record(request, found, voxels_read=0)


def is_stored(request: SessionRequest) -> bool:
    """Return whether the store holds all that a request asks for, whole."""
    parts = [stored_part(request, region) for region in request.regions]
    return all(part is not None and part.is_whole() for part in parts)


def forget(request: SessionRequest) -> None:
    """Make the store forget what a request asks for, so that it is extracted anew."""
    for region in request.regions:
        _record_file(request, request.part_key(region)).unlink(missing_ok=True)


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
    for region in request.regions:
        part = stored_part(request, region)
        if part is not None and part.is_whole():
            parts[region] = part
        elif (record := _record_file(request, request.part_key(region))).exists():
            _logger.warning(
                "The stored responses %s are gone or altered: extracting them again.",
                record.with_suffix(".npy"),
            )
    missing = [region for region in request.regions if region not in parts]
    if not missing:
        return _record(request, parts, voxels_read=0)
    grid, regions = read_voxels_file(Path(request.voxels_file))
    voxels = np.unique(np.concatenate([regions[region] for region in missing]))
    values = read_voxels(Path(request.betas_file.path), voxels, grid, request.n_trials)
    request.betas_file.check_unchanged()
    zscores, constant = zscore_trials(values)
    kept = np.ascontiguousarray(zscores[:, list(request.trials)].T)
    for region in missing:
        columns = np.searchsorted(voxels, regions[region])
        parts[region] = _store(request, region, kept[:, columns], constant[columns])
    return _record(request, parts, voxels_read=len(voxels))


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
        Some sessions failed, and a second try may mend that.
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
        may_pass = any(not isinstance(error, NSDPrepError) for error in errors.values())
        raise (ExtractionFaultError if may_pass else ExtractionError)(list(errors))
    return records


def _record(request: SessionRequest, parts: dict[str, Part], voxels_read: int) -> SessionRecord:
    return SessionRecord(
        subject=request.subject,
        session=request.session,
        parts={region: parts[region] for region in request.regions},
        voxels_read=voxels_read,
    )


def _store(
    request: SessionRequest,
    region: str,
    responses: NDArray[np.float32],
    constant: NDArray[np.bool_],
) -> Part:
    """Write a region's responses, then the record that says they are whole."""
    key = request.part_key(region)
    path = _array_file(request, key)
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(responses, "<f4"), allow_pickle=False)
    sha256 = hashlib.sha256(content.getbuffer()).hexdigest()
    with replaced(path) as partial:
        partial.write_bytes(content.getbuffer())
        if sha256_of_file(partial) != sha256:
            raise OutputError(
                f"{path} was not written as it should be: what the disk gives back differs; check "
                "the disk and run the same command again."
            )
    part = Part(
        key=key,
        file=str(path),
        sha256=sha256,
        shape=(responses.shape[0], responses.shape[1]),
        constant_voxels=tuple(np.flatnonzero(constant).tolist()),
    )
    with replaced(_record_file(request, key)) as partial:
        stored = _StoredPart(part=part, sha256=_digest_of(part))
        partial.write_text(stored.model_dump_json(), encoding="utf-8")
    return part


def _array_file(request: SessionRequest, key: str) -> Path:
    session = f"subj{request.subject:02d}-session{request.session:02d}"
    return Path(request.store) / session / f"{key[:24]}.npy"


def _record_file(request: SessionRequest, key: str) -> Path:
    return _array_file(request, key).with_suffix(".json")
