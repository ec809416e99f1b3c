"""What a run may write into an output folder, and what becomes of the results that are there."""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from nsd_prep import __version__
from nsd_prep.checks.runs import undecided_once
from nsd_prep.core.atomic import write_json
from nsd_prep.core.check import Check, of_vertices
from nsd_prep.core.counts import counted
from nsd_prep.core.digests import is_sha256, sha256_of_json
from nsd_prep.core.errors import ParameterError
from nsd_prep.core.folders import visible
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.pipeline.belonging import (
    Difference,
    differences,
    is_covered,
    makes,
    name_aside,
    options_apart,
    writes,
)
from nsd_prep.pipeline.earlier import (
    UNFINISHED,
    UNKNOWN,
    EarlierRuns,
    Options,
    Output,
    RunRecord,
    identifier,
)
from nsd_prep.pipeline.input_changes import changed_inputs
from nsd_prep.pipeline.inputs import Inputs
from nsd_prep.pipeline.obstacles import require_no_obstacle
from nsd_prep.pipeline.outputs import FOLDERS, MANIFEST
from nsd_prep.pipeline.run import Run

_logger: Final = logging.getLogger(__name__)
_NAMED: Final = 4


class Ownership:
    """What this run makes, and what earlier runs have left, in an output folder.

    A run replaces what it makes again. Results of other regions and subjects stay. What several of
    them share (tables, checks, reports, train and test) is kept under a name with its run's
    identifier where this run does not make all of it again.

    Parameters
    ----------
    folder : Folder
        The output folder; only `begin` and what follows change it.
    run, inputs : Run, Inputs
        This run.

    Attributes
    ----------
    record : dict
        What of the manifest is known of this run before it begins.
    files : dict of str to str
        Digest of what this run has made, by its name in the folder.
    """

    def __init__(self, folder: Folder, run: Run, inputs: Inputs) -> None:
        self._folder = folder
        self._replace = run.replace
        record = _record(run, inputs)
        self._ours = RunRecord.model_validate(record)
        self._id = identifier(self._ours)
        self.record = {"id": self._id} | record
        # Until it ends it is not the run that ended with the same options, if there is one.
        self._unfinished = sha256_of_json([self._id, "unfinished"])[:8]
        self._earlier = EarlierRuns.read(folder)
        self._outputs = self._earlier.outputs
        listed = {"inputs": [file.model_dump() for file in inputs.files]}
        self._changed_inputs = {
            run: changed_inputs(content, self.record | listed)
            for run, content in self._earlier.contents.items()
        }
        self.files: dict[str, str] = {}
        self._checks: list[Check] = []
        self._is_surface = inputs.dataset.is_surface

    def require_that_all_belongs_together(self) -> None:
        """Raise ParameterError where results are of other options, or files are a user's own."""
        require_no_obstacle(self._folder.path, self._ours.parameters)
        if self._replace:
            return
        if own := self._own_files():
            raise ParameterError(
                f"{self._folder.path} holds {_named(own)}, which no run has written, under the "
                "names of this run's results: choose another output_dir=, move them elsewhere, "
                "or give replace=True to replace them."
            )
        why: dict[str, list[Difference]] = {
            run: differences(self._ours, record) for run, record in self._earlier.records.items()
        }
        strangers = [
            name
            for name, output in self._outputs.items()
            if output.run == UNKNOWN or why[output.run]
        ]
        if not strangers:
            return
        first = self._outputs[strangers[0]].run
        reasons = "; ".join(map(str, why.get(first, ["no record of their options"])))
        raise ParameterError(
            f"{self._folder.path} holds {_named(strangers)} of another run with different options "
            f"({reasons}): choose another output_dir=, or give replace=True, which removes "
            "the results that this run does not write."
        )

    def _own_files(self) -> list[str]:
        """Return what this run would overwrite that no run has listed.

        A run that did not finish may have written what it did not list.
        """
        unfinished = self._unfinished_runs().values()
        own = [
            name
            for name in _files_in(self._folder.path)
            if writes(self._ours.parameters, name)
            and name not in self._outputs
            and not any(makes(options, name) for options in unfinished)
        ]
        return own + [name for name in self._earlier.ignored if name == MANIFEST]

    def _unfinished_runs(self) -> dict[str, Options]:
        """Return the options of earlier runs that did not finish, by their identifiers."""
        records = self._earlier.records
        return {run: record.parameters for run, record in records.items() if not record.has_ended}

    def account(self) -> str:
        """Return what becomes of what is there, lines that begin with a line's end, or nothing."""
        again = [name for name in self._outputs if self._makes_again(name)]
        aside = self._names_aside()
        others = [name for name in self._outputs if name not in again]
        replaced = [name for name in again if name not in aside]
        lines = [f"In {self._folder.path} from earlier runs:"]
        if replaced:
            lines.append(f"  replaced by this run: {_named(replaced)}")
        if others:
            becomes = "removed at the end (replace=True)" if self._replace else "left as they are"
            lines.append(f"  {becomes}: {_named(others)}")
        if aside:
            lines.append(f"  kept under another name: {_renamed(aside)}")
            lines += self._why_aside(aside)
        if not self._replace and self._splits_other_images():
            lines.append(
                "  of other subjects: the column nsd_prep of single trials splits the images that "
                "the subjects of each run share"
            )
        if not self._replace and (outdated := self._outdated([*others, *aside])):
            lines.append(f"  made before input files changed: {outdated}")
        if unfinished := [name for name in others if not self._has_ended(name)]:
            lines.append(f"  from a run that did not finish: {_named(unfinished)}")
        if own := self._own_files():
            lines.append(f"  replaced, although no run has written them: {_named(own)}")
        if self._earlier.ignored:
            lines.append(f"  listed, but not files of a run, and left alone: {self._ignored()}")
        return "".join(f"\n{line}" for line in lines) if len(lines) > 1 else ""

    def _why_aside(self, aside: Collection[str]) -> list[str]:
        """Return a line for each reason why files are kept under another name."""
        records = self._earlier.records
        options = {
            name: options_apart(
                name, self._ours.parameters, records[self._outputs[name].run].parameters
            )
            for name in aside
        }
        lines = []
        if not all(options.values()):
            lines.append(
                "  (a single run of all regions and subjects writes one table, from the cache)"
            )
        if others := dict.fromkeys(option for apart in options.values() for option in apart):
            listed = ", ".join(f"{option}=" for option in others)
            kept = dict.fromkeys(name.split("/")[0] for name, apart in options.items() if apart)
            lines.append(
                f"  ({', '.join(sorted(kept))}: made with another {listed} than this run's)"
            )
        return lines

    def begin(self) -> None:
        """Prepare the folder for what this run makes; until then it stays as it was.

        The manifest is removed: it is there only when all that it lists is. What it lists is
        listed in another file until the run ends.
        """
        if self._earlier.ignored:
            _logger.warning(
                "Listed in %s, but not files of a run, and left alone: %s.",
                self._folder.path,
                self._ignored(),
            )
        aside = self._names_aside()
        moved = {aside.get(name, name): output for name, output in self._outputs.items()}
        self._outputs = self._outputs | moved
        self._note()
        (self._folder.path / MANIFEST).unlink(missing_ok=True)
        for name, other in aside.items():
            path = self._folder.path / name
            target = self._folder.path / other
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            _remove_empty_folders(path.parent, self._folder.path)
        self._outputs = moved
        if aside:
            self._note()
            _logger.info("Kept in %s: %s.", self._folder.path, _renamed(aside))

    @property
    def checks(self) -> list[Check]:
        """All checks that this run has made; what none of several subjects can tell stands once."""
        return undecided_once(self._checks)

    def add(self, output: StepOutput) -> StepOutput:
        """Note what this run has made, and return it."""
        self.files |= output.files
        earlier = {
            name: self._outputs[name].digest
            for name in output.files.keys() & self._outputs.keys()
            if is_sha256(self._outputs[name].digest)
        }
        for name in self._folder.held(earlier):
            self._outputs[name] = self._outputs[name]._replace(digest=output.files[name])
        self._checks += map(of_vertices, output.checks) if self._is_surface else output.checks
        if output.files:
            self._note()
        return output

    def end(self, record: Mapping[str, Any]) -> None:
        """Remove what this run made again without some files of before; write the manifest.

        With ``replace`` all that it did not make is removed, and with either what somebody has
        changed since stays. A line of the log names what was removed.

        Parameters
        ----------
        record : mapping
            What the manifest says of this run.
        """
        gone = {
            name: output
            for name, output in self._outputs.items()
            if name not in self.files and (self._replace or self._makes_again(name))
        }
        removed = sorted(self._folder.held({name: output.digest for name, output in gone.items()}))
        for name in removed:
            path = self._folder.path / name
            path.unlink()
            _remove_empty_folders(path.parent, self._folder.path)
        standing = {
            name: output
            for name, output in self._outputs.items()
            if name not in self.files and name not in gone and self._is_as_listed(name, output)
        }
        if outdated := self._outdated(standing):
            _logger.warning(
                "Made before input files changed, and left in %s: %s. Run the commands that made "
                "them again, or all regions and subjects in one.",
                self._folder.path,
                outdated,
            )
        own_outputs = {name: Output(digest, None, self._id) for name, digest in self.files.items()}
        listing = self._listing(record, standing | own_outputs)
        for name, entry in listing["outputs"].items():
            entry["bytes"] = (self._folder.path / name).stat().st_size
        write_json(self._folder.path / MANIFEST, listing)
        (self._folder.path / UNFINISHED).unlink(missing_ok=True)
        if removed:
            _logger.info(
                "Removed from %s what an earlier run wrote and this one did not: %s.",
                self._folder.path,
                _named(removed),
            )

    def _splits_other_images(self) -> bool:
        ours = self._ours.parameters
        return ours.single_trials and any(
            record.parameters.single_trials
            and set(record.parameters.subjects) != set(ours.subjects)
            for record in self._earlier.records.values()
        )

    def _outdated(self, names: Collection[str]) -> str:
        """Say which of some files were made of input files that have changed since."""
        files = [name for name in names if self._changed_inputs.get(self._outputs[name].run)]
        runs = {self._outputs[name].run for name in files}
        changed = {name for run in runs for name in self._changed_inputs[run]}
        return f"{_named(files)}; changed: {_named(changed)}" if files else ""

    def _note(self) -> None:
        """List all that runs have made, so that what a failed run leaves is known too."""
        own_outputs = {
            name: Output(digest, None, self._unfinished)
            for name, digest in self.files.items()
            # The same content may be that of a run that has ended.
            if name not in self._outputs or self._outputs[name].digest != digest
        }
        listing = self._listing(self.record | {"id": self._unfinished}, self._outputs | own_outputs)
        write_json(self._folder.path / UNFINISHED, listing)

    def _listing(self, record: Mapping[str, Any], listed: Mapping[str, Output]) -> dict[str, Any]:
        """Return a manifest: of a run, and of those before as far as something of them stands.

        A step's files are listed when it ends. What one that was interrupted has written is known
        by the options of its run alone, which are kept for as long as there are such files.
        """
        runs = {output.run for output in listed.values()}
        if unfinished := self._unfinished_runs():
            unlisted = [name for name in _files_in(self._folder.path) if name not in listed]
            runs |= {
                run
                for run, options in unfinished.items()
                if any(writes(options, name) for name in unlisted)
            }
        runs -= {record["id"]}
        return {
            **record,
            "outputs": {name: output.as_json() for name, output in listed.items()},
            "earlier_runs": {
                run: content for run, content in self._earlier.contents.items() if run in runs
            },
        }

    def _makes_again(self, name: str) -> bool:
        """Return whether this run makes a file, or made all of its run with the same options."""
        is_own = self._outputs[name].run in (self._id, self._unfinished)
        return is_own or makes(self._ours.parameters, name)

    def _has_ended(self, name: str) -> bool:
        record = self._earlier.records.get(self._outputs[name].run)
        return record is not None and record.has_ended

    def _names_aside(self) -> dict[str, str]:
        """Return the files that this run makes again in part, with the names that they get."""
        if self._replace:
            return {}
        records = self._earlier.records
        return {
            name: name_aside(name, output.run)
            for name, output in self._outputs.items()
            if self._makes_again(name)
            and not is_covered(name, self._ours.parameters, records[output.run].parameters)
        }

    def _is_as_listed(self, name: str, output: Output) -> bool:
        """Return whether a file has its size, at least: of what stays not every byte is read."""
        try:
            size = (self._folder.path / name).stat().st_size
        except OSError:
            return False
        return self._folder.is_own(name) and output.bytes in (None, size)

    def _ignored(self) -> str:
        return _named([repr(name) for name in self._earlier.ignored])


def _record(run: Run, inputs: Inputs) -> dict[str, Any]:
    nsd_ids = inputs.trials.nsd_ids
    return {
        "software": {"nsd-prep": __version__},
        "written": None,
        "parameters": run.model_dump(mode="json"),
        "dataset": {
            "name": inputs.dataset.name,
            "layout": inputs.dataset.layout,
            "preparation": inputs.dataset.preparation,
            **run.space_facts(),
        },
        "images": {
            "number": len(nsd_ids),
            "sha256_of_nsd_ids": sha256_of_json(nsd_ids.tolist()),
        },
    }


def _named(names: Collection[str]) -> str:
    """Return a few names, and how many there are."""
    first = ", ".join(sorted(names)[:_NAMED])
    return f"{counted(len(names), 'file')} ({first}{', ...' if len(names) > _NAMED else ''})"


def _renamed(aside: Mapping[str, str]) -> str:
    """Return what gets another name; of a folder's files the folder, once."""
    return ", ".join(dict.fromkeys(_folder_renamed(*names) for names in sorted(aside.items())))


def _folder_renamed(name: str, other: str) -> str:
    parts, others = name.split("/"), other.split("/")
    depth = next(index for index, part in enumerate(parts) if part != others[index]) + 1
    end = "/" if depth < len(parts) else ""
    return f"{'/'.join(parts[:depth])}{end} as {'/'.join(others[:depth])}{end}"


def _files_in(folder: Path) -> list[str]:
    """Return the files and links of an output folder, by name: of the folders that runs write."""
    names = []
    for path in visible(folder):
        is_runs = path.name in FOLDERS or path.suffix == ".zarr"
        inside = path.rglob("[!.]*") if is_runs and path.is_dir() else [path]
        files = [child for child in inside if child.is_symlink() or child.is_file()]
        names += sorted(file.relative_to(folder).as_posix() for file in files)
    return names


def _remove_empty_folders(folder: Path, root: Path) -> None:
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
