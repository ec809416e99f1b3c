"""The folder of an export, which resumes there where an interrupted one stopped."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import pandas as pd

from nsd_prep import __version__
from nsd_prep.core.atomic import write_json
from nsd_prep.core.digests import (
    as_recorded,
    digest_of_json,
    recorded_digest,
    sha256_of_json,
)
from nsd_prep.core.errors import ParameterError
from nsd_prep.core.folders import require_folder
from nsd_prep.core.locks import new_folders_removed, only_one_in
from nsd_prep.core.records import Folder
from nsd_prep.exports.manifest import KIND, MANIFEST, read_manifest
from nsd_prep.exports.source import TrialsFile

README: Final = "README.md"
#: Who writes a folder, and what else can be done where something stands in its place.
_IN_WORDS: Final = ("this export", "choose another folder")
#: What the manifest says of a source beside its digest, so that it need not be read to know that.
STATE: Final = "state"
#: Names the subjects of a folder whose manifest does not: versions up to 0.4 did not list them.
_METADATA: Final = "voxel_metadata.csv"
_SUBJECT: Final = re.compile(r"(?:^|_)subj(\d\d)[_./]")


class _Planned(NamedTuple):
    """Files that are written together."""

    names: list[str]
    write: Callable[[], Mapping[str, Any] | None]
    #: What the manifest is to say of each: what it was made from.
    facts: dict[str, Any]
    #: By subject, what the manifest is to say of it when they are there.
    subjects: dict[str, dict[str, Any]]
    trials: Sequence[TrialsFile]


@contextmanager
def opened_export(path: Path, like: str) -> Iterator["ExportFolder"]:
    """Give the folder of an export, made where it is missing, and keep others out of it.

    Where nothing was written into a new one it is gone at the end.

    Raises
    ------
    ParameterError
        Another export or run is writing into it, or it holds something else than such an export.
    OutputError
        It cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise ParameterError(f"{path} is a file: give a folder for the export.")
    sentence = (
        f"Another export or run is writing into {path}: wait until it ends, or choose another "
        "folder."
    )
    with new_folders_removed(path), only_one_in(path, sentence):
        yield ExportFolder(path, like)


class ExportFolder:
    """A folder that an export writes into: see `opened_export`, which locks it.

    What is to be written is planned first, by `write`, and written by `finish`, after all has been
    looked at that could be in its way.

    Parameters
    ----------
    path : Path
        The folder.
    like : str
        What is exported.

    Attributes
    ----------
    n_resumed : int
        Files that were there, whole, from the same trials.
    subjects : dict of str to dict
        What is recorded of each subject (1-based) whose files are there.

    Raises
    ------
    ParameterError
        It holds something else than such an export.
    """

    def __init__(self, path: Path, like: str) -> None:
        self.path, self._like = path, like
        self._made_from: dict[str, Any] | None = None
        self._folder = Folder(path=path)
        self._outputs: dict[str, dict[str, Any]] = {}
        # Names of files that an export began to write; it noted them before.
        self._unfinished: set[str] = set()
        self._planned: list[_Planned] = []
        self._noted: dict[str, Any] | None = None
        self.subjects: dict[str, dict[str, Any]] = {}
        self.n_resumed = 0
        self._noted_of: dict[int, dict[str, Any]] = {}
        self._read()

    def _read(self) -> None:
        facts = read_manifest(self.path, self._like)
        if facts is None:
            return
        self._noted = facts
        self._made_from = facts.get("made_from", {})
        self._outputs = {name: dict(entry) for name, entry in facts["outputs"].items()}
        self._unfinished = set(facts.get("unfinished", []))
        self.subjects = {name: dict(own) for name, own in facts.get("subjects", {}).items()}

    def require(
        self, subjects: Iterable[int], facts: Mapping[str, Any], design: str | None
    ) -> None:
        """Raise where an export would mix what does not belong together, or lose subjects.

        Parameters
        ----------
        subjects : iterable of int
            1-based; of the export.
        facts : mapping of str to Any
            What all files of the folder have in common, or a part of it; None where that is not.
        design : str or None
            Digest of the experiment's design; None where it is not known.

        Raises
        ------
        ParameterError
            It holds files that were made from something else, or files of several subjects of whom
            the export has not all.
        """
        there = facts if self._made_from is None else self._made_from
        if different := [name for name in facts if there.get(name) != facts[name]]:
            differences = ", ".join(
                f"{name}={there.get(name)} there, {name}={facts[name]} in this export"
                for name in sorted(different)
            )
            raise ParameterError(
                f"{self.path} holds an export that cannot be combined with this one "
                f"({differences}): choose another folder."
            )
        given = set(subjects)
        for subject in sorted(given):
            require_folder(self.path / f"subj{subject:02d}", *_IN_WORDS)
        self._require_all_subjects(given)
        staying = [name for name in self._outputs if not self._subjects_of(name) <= given]
        self._require_same_design(staying, given, design)

    def _require_all_subjects(self, given: set[int]) -> None:
        lost: set[int] = set()
        names = []
        for name in sorted(self._outputs):
            if _SUBJECT.search(name) or not (self.path / name).exists():
                continue
            if missing := self._subjects_of(name) - given:
                lost |= missing
                names.append(name)
        if lost:
            raise ParameterError(
                f"{self.path} holds {_listed(lost)} in files of all subjects ({', '.join(names)}), "
                f"and this export has only {_listed(given)}: give all subjects together, "
                f"subjects={sorted(lost | given)} or the single trials of each, or choose another "
                "folder."
            )

    def _require_same_design(
        self, names: Iterable[str], given: set[int], design: str | None
    ) -> None:
        """Raise where files that stay were made from another design than an export's."""
        for name in sorted(names):
            there = self._outputs[name].get("design")
            if there is None or design is None or there == design:
                continue
            if not (self.path / name).exists():
                continue
            own = self._subjects_of(name)
            raise ParameterError(
                f"{self.path} holds {name} from another dataset, or from this one before its "
                f"design of the experiment changed (design {there[:8]} there, {design[:8]} in this "
                f"export): give all subjects, subjects={sorted(own | given)}, so that all files "
                "are made again, or choose another folder."
            )

    def _subjects_of(self, name: str) -> set[int]:
        """Return the subjects (1-based) that a file is of, as far as that is known."""
        recorded = self._outputs[name].get("subjects")
        if isinstance(recorded, list):
            return {subject for subject in recorded if isinstance(subject, int)}
        if match := _SUBJECT.search(name):
            return {int(match[1])}
        if name == README:
            return set()
        with suppress(OSError, ValueError):
            table = pd.read_csv(self.path / _METADATA, usecols=["subj_id"])
            return set(map(int, table["subj_id"].unique()))
        return set()

    def write(
        self,
        names: Iterable[str],
        made_of: str,
        write: Callable[[], Mapping[str, Any] | None],
        trials: Sequence[TrialsFile] = (),
        **facts: Any,
    ) -> None:
        """Plan to write files, where they are not there from the same source.

        Parameters
        ----------
        names : iterable of str
            Of the files that `write` writes.
        made_of : str
            Digest of the content that they are made of.
        write : callable
            Writes them, each whole or not at all, and may return more facts. Where it fails, those
            that it wrote are removed; where the process is killed, the next export knows them by
            the manifest.
        trials : sequence of TrialsFile, optional
            Whose responses they show.
        **facts
            What else they are made of, by digest, and `STATE`. What was made by a version that did
            not record it counts as made of the same.
        """
        recorded: dict[str, Any] = {"content": made_of}
        if trials:
            recorded["subjects"] = [one.subject for one in trials]
            recorded["tables"] = digest_of_json([one.digest_of_tables for one in trials])
        if designs := {one.design for one in trials if one.design is not None}:
            (recorded["design"],) = designs
        subjects = {
            str(one.subject): one.facts() | self._noted_of.get(one.subject, {}) for one in trials
        }
        self._planned.append(_Planned(list(names), write, recorded | facts, subjects, trials))

    def recorded(self, name: str) -> dict[str, Any]:
        """Return what the manifest says of a file; nothing where it does not list it."""
        return dict(self._outputs.get(name, {}))

    def note(self, trials: TrialsFile, **facts: Any) -> None:
        """Record more of a subject than `TrialsFile.facts`, for the README; before its files."""
        self._noted_of.setdefault(trials.subject, {}).update(facts)

    def finish(self, made_from: Mapping[str, Any], subjects: Iterable[int]) -> None:
        """Write what is planned.

        Parameters
        ----------
        made_from : mapping
            What all files of the folder have in common: the dataset, and how voxels were chosen.
        subjects : iterable of int
            1-based; of the export.

        Raises
        ------
        ParameterError
            As `require`; or a file is there that no export has written, or one that was made from
            other trials and that this export does not make again. Nothing is written then.
        """
        planned, self._planned = self._planned, []
        given = set(subjects)
        facts = dict(made_from)
        designs = {plan.facts["design"] for plan in planned if "design" in plan.facts}
        design = next(iter(designs), None)
        self.require(given, dict.fromkeys(self._made_from or ()) | facts, design)
        again = {name for plan in planned for name in plan.names} | {README}
        self._require_same_design(self._outputs.keys() - again, given, design)
        self._require_nothing_left(planned, again)
        for name in sorted(again):
            for folder in PurePosixPath(name).parents[:-1]:
                require_folder(self.path / folder, *_IN_WORDS)
        todo = [plan for plan in planned if not self._is_there(plan)]
        for name in sorted({README}.union(*(plan.names for plan in todo))):
            if not self._is_own(name) and name not in self._unfinished:
                raise ParameterError(
                    f"{self.path / name} exists and was not written by an export: move it away, or "
                    "choose another folder."
                )
        self._made_from = facts
        for plan in planned:
            if plan in todo:
                self._write(plan)
            else:
                self.n_resumed += len(plan.names)
            self._unfinished -= set(plan.names)
            for name in plan.names:
                # Of these nothing is known where an earlier version wrote the file.
                known = {
                    key: value
                    for key, value in plan.facts.items()
                    if key not in ("images", "tables", "content") or key in self._outputs[name]
                }
                self._outputs[name] |= plan.facts if plan in todo else known
            self.subjects |= plan.subjects
            self._note()

    def _require_nothing_left(self, planned: Sequence[_Planned], again: set[str]) -> None:
        """Raise where a subject's file stays that other trials gave than those of this export."""
        plans = {subject: plan for plan in planned for subject in plan.subjects}
        for name in sorted(self._outputs.keys() - again):
            entry = self._outputs[name]
            if not (self.path / name).exists():
                continue
            for subject in self._subjects_of(name):
                plan = plans.get(str(subject))
                if plan is not None and not self._is_of(name, entry, plan):
                    raise ParameterError(
                        f"{self.path} holds {name} of {_listed([subject])} from other trials, and "
                        "this export does not make it again: give what it is made of too "
                        "(images=, or trials of the same regions), or choose another folder."
                    )

    def _is_there(self, plan: _Planned) -> bool:
        """Return whether files are there, whole and made from the same."""
        entries = {name: self._outputs.get(name, {}) for name in plan.names}
        expected = [
            (key, value) for key, value in plan.facts.items() if key not in ("content", STATE)
        ]
        same = all(
            self._is_of(name, entry, plan)
            and all(entry.get(fact, value) == value for fact, value in expected)
            for name, entry in entries.items()
        )
        digests = {name: recorded_digest(entry) for name, entry in entries.items()}
        return same and self._folder.holds(digests)

    def _is_of(self, name: str, entry: Mapping[str, Any], plan: _Planned) -> bool:
        """Return whether a file was made of the content that a plan has.

        Versions up to 0.4 recorded some blocks of the trials alone. Trials that were changed since
        the file was written are others.
        """
        if entry.get("tables") not in (None, plan.facts.get("tables")):
            return False
        if "content" in entry:
            return bool(entry["content"] == plan.facts["content"])
        if not plan.trials:
            return entry.get("source") == plan.facts["content"]
        samples = [trials.sample for trials in plan.trials]
        sources = {sha256_of_json(samples)} | (set(samples) if len(samples) == 1 else set())
        written = (self.path / name).stat().st_mtime if (self.path / name).exists() else 0.0
        is_older = max(trials.changed for trials in plan.trials) <= written
        return entry.get("source") in sources and is_older

    def _write(self, plan: _Planned) -> None:
        self._unfinished |= set(plan.names)
        self._note()
        try:
            plan.facts.update(plan.write() or {})
        except BaseException:
            self._remove_unfinished(plan.names)
            raise
        for name in plan.names:
            path = self.path / name
            digest = as_recorded(self._folder.digest_of(name))
            self._outputs[name] = {**digest, "bytes": path.stat().st_size}

    def _is_own(self, name: str) -> bool:
        """Return whether a file is not there, or is one that an export wrote to its end."""
        if not (self.path / name).exists():
            return True
        entry = self._outputs.get(name, {})
        return bool(entry) and self._folder.holds({name: recorded_digest(entry)})

    def _remove_unfinished(self, names: Iterable[str]) -> None:
        """Remove what a writer that failed wrote of some files; no error of that hides its own."""
        with suppress(OSError):
            for name in names:
                if not self._is_own(name):
                    (self.path / name).unlink()
                if not (self.path / name).exists():
                    self._outputs.pop(name, None)
                self._unfinished.discard(name)
            if self._outputs or self._unfinished:
                self._note()
            else:
                (self.path / MANIFEST).unlink()

    def _note(self) -> None:
        """Write the manifest, where it does not say so already."""
        manifest = {
            "kind": KIND,
            "like": self._like,
            "made_from": self._made_from or {},
            "software": {"nsd-prep": __version__},
            "subjects": dict(sorted(self.subjects.items())),
            "outputs": dict(sorted(self._outputs.items())),
        }
        if self._unfinished:
            manifest["unfinished"] = sorted(self._unfinished)
        if manifest != self._noted:
            write_json(self.path / MANIFEST, manifest)
            self._noted = json.loads(json.dumps(manifest))

    def names(self) -> dict[str, set[int]]:
        """Return the files that the manifest lists, with the subjects (1-based) that each is of."""
        return {name: self._subjects_of(name) for name in sorted(self._outputs)}

    def readme(self) -> str:
        """Return the README that an export wrote; empty where there is none."""
        with suppress(OSError, ValueError):
            if self._is_own(README):
                return (self.path / README).read_text(encoding="utf-8")
        return ""

    def files(self) -> list[Path]:
        """Return all files that the manifest lists, and the manifest."""
        return [self.path / name for name in (*sorted(self._outputs), MANIFEST)]


def _listed(subjects: Iterable[int]) -> str:
    numbers = sorted(subjects)
    return f"subject{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
