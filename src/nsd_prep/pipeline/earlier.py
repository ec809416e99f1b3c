"""What the records in an output folder say of the runs that wrote into it."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from nsd_prep.core.digests import as_recorded, read_whole, recorded_digest, sha256_of_json
from nsd_prep.core.errors import ParameterError
from nsd_prep.core.records import Folder
from nsd_prep.dataset.space import FUNC1PT8MM
from nsd_prep.pipeline.outputs import MANIFEST

#: The same as a manifest, of a run that has not ended.
UNFINISHED: Final = ".nsd-prep-owned.json"
#: The identifier of a run whose record is missing, or is no record.
UNKNOWN: Final = ""
_IDENTIFIER: Final = re.compile(r"[0-9a-f]{8}")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Options(_Record):
    """The parameters of a run that decide what it makes, as `nsd_prep.pipeline.run.Run`."""

    subjects: tuple[int, ...]
    regions: dict[str, Any]
    assemblies: bool
    brainscore: bool
    report: bool
    single_trials: bool
    seed: int
    train_fraction: float
    invalid_voxels: str
    zscore_images: str
    suffix: str
    features: str | None
    crossnobis: bool
    normalise: str
    images: str
    average: bool
    split: str
    split_file: str | None = None
    coco_annotations: str | None = None
    min_ncsnr: float | None = None
    min_noise_ceiling: float | None = None
    min_reliability: float | None = None
    dtype: str
    format: str
    space: str = FUNC1PT8MM

    @model_serializer(mode="wrap")
    def _without_usual_space(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what older records do not have: the identifier of a run stays what it is."""
        fields: dict[str, Any] = serialize(self)
        if self.space == FUNC1PT8MM:
            del fields["space"]
        return fields


class RunRecord(_Record):
    """What a manifest says of a run, as far as its results depend on it."""

    software: dict[str, str]
    parameters: Options
    dataset: dict[str, str]
    images: dict[str, int | str]
    written: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the run came to its end."""
        return self.written is not None


class Output(NamedTuple):
    """What a manifest says of a file: its content, its size where that is listed, and its run."""

    digest: str
    bytes: int | None
    run: str

    def as_json(self) -> dict[str, Any]:
        """Return its entry in a manifest."""
        return {**as_recorded(self.digest), "bytes": self.bytes, "run": self.run}


class EarlierRuns(NamedTuple):
    """What stands in an output folder of earlier runs.

    Attributes
    ----------
    outputs : dict of str to Output
        By name in the folder: regular files, no link on the way to any.
    records : dict of str to RunRecord
        By the run's identifier.
    contents : dict of str to dict
        The same, as they were read.
    ignored : tuple of str
        What was listed and cannot be a run's: other paths, links, what is no record, and what
        another program's manifest lists.
    other : str
        What the folder holds in place of a run's results, as its manifest says; or "".
    """

    outputs: dict[str, Output]
    records: dict[str, RunRecord]
    contents: dict[str, dict[str, Any]]
    ignored: tuple[str, ...]
    other: str = ""

    @classmethod
    def read(cls, folder: Folder) -> Self:
        """Read the manifest of a folder, or the record of the run that has not ended."""
        ignored = []
        for file in (MANIFEST, UNFINISHED):
            try:
                if not folder.is_own(file):
                    continue
                content = json.loads(read_whole(folder.path / file))
                json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
            except (OSError, ValueError, RecursionError):
                ignored.append(file)
                continue
            if isinstance(content, dict) and file == MANIFEST and not _is_of_runs(content):
                ignored.append(file)
                if "kind" in content:
                    return cls({}, {}, {}, tuple(ignored), _other(content))
                continue
            if isinstance(content, dict) and file == UNFINISHED and "outputs" not in content:
                content = {"outputs": content}  # as versions up to 0.4 wrote it
            if isinstance(content, dict) and isinstance(content.get("outputs"), dict):
                return cls._of(folder, content, ignored)
            ignored.append(file)
        return cls({}, {}, {}, tuple(ignored))

    @classmethod
    def _of(cls, folder: Folder, content: dict[str, Any], ignored: list[str]) -> Self:
        listed, earlier = content["outputs"], content.get("earlier_runs")
        top = {
            name: value
            for name, value in content.items()
            if name not in ("outputs", "earlier_runs", "state")
        }
        last, record = content.get("id"), _record_of(top)
        if not isinstance(last, str):
            last = identifier(record) if record else UNKNOWN
        contents = {**(earlier if isinstance(earlier, dict) else {}), last: top}
        records = {
            run: record
            for run, values in contents.items()
            if _IDENTIFIER.fullmatch(run) and (record := _record_of(values))
        }
        outputs = {}
        for name, entry in listed.items():
            fields = entry if isinstance(entry, dict) else {"sha256": entry}
            digest = recorded_digest(fields)
            size, run = fields.get("bytes"), fields.get("run", last)
            state = _state(folder, name)
            if state == "own" and digest:
                known = isinstance(run, str) and run in records
                size = size if isinstance(size, int) else None
                outputs[name] = Output(digest, size, run if known else UNKNOWN)
            elif state != "gone":
                ignored.append(name)
        return cls(outputs, records, contents, tuple(ignored))


def identifier(record: RunRecord) -> str:
    """Return a short name for a run: the same where version, options and dataset are."""
    facts = record.model_dump(mode="json", exclude={"software", "written"})
    return sha256_of_json([record.software.get("nsd-prep"), facts])[:8]


def require_folder_of_runs(path: Path) -> None:
    """Raise ParameterError where a folder holds something else than results of runs: an export."""
    if other := EarlierRuns.read(Folder(path=path)).other:
        raise ParameterError(f"{path} holds {other}: choose another folder.")


def _is_of_runs(manifest: Mapping[str, Any]) -> bool:
    """Return whether a manifest is one of runs: an export's says its kind, others no nsd-prep."""
    software = manifest.get("software")
    return "kind" not in manifest and isinstance(software, dict) and "nsd-prep" in software


def _other(manifest: Mapping[str, Any]) -> str:
    """Return what a manifest that says its kind is of."""
    if manifest["kind"] == "nsd-prep export":
        return f"an export like {manifest.get('like')} ({MANIFEST})"
    return f"something else than results of runs ({manifest['kind']!r} in {MANIFEST})"


def _record_of(content: object) -> RunRecord | None:
    try:
        return RunRecord.model_validate(content)
    except ValidationError:
        return None


def _state(folder: Folder, name: str) -> Literal["own", "gone", "strange"]:
    """Return whether a file is the folder's own; no link is followed, and no name leads out."""
    try:
        if folder.is_own(name):
            return "own"
        parts = name.split("/")
        is_plain = not any(part in ("", ".", "..") or "\0" in part for part in parts)
        return "strange" if not is_plain or os.path.lexists(folder.path / name) else "gone"
    except (OSError, ValueError):  # no file can have such a name
        return "strange"
