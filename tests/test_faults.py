"""Faults of the disk at every reading and writing of the library: right, or said and nothing left.

A run is made once without faults, stage by stage. Then each stage is run again from where it
began, once for each of its calls to the disk and each way in which that call can fail.
"""

import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from faulty_disk import FAULTS, FaultyDisk, install
from library_stages import planned
from small_nsd import SmallNSD, write_betas

from nsd_prep.assemblies import stimulus_sets
from nsd_prep.assemblies.assembly_file import read_assembly, write_assembly
from nsd_prep.checks.registry import describe
from nsd_prep.core.content import content
from nsd_prep.core.digests import digest_of_table
from nsd_prep.core.errors import ExtractionFaultError, NSDPrepError, OutputError
from nsd_prep.core.progress import Stages
from nsd_prep.core.records import Folder
from nsd_prep.extraction import sessions as extraction
from nsd_prep.extraction.store import Store
from nsd_prep.pipeline.cache import in_use
from nsd_prep.pipeline.inputs import Inputs
from nsd_prep.pipeline.ownership import Ownership
from nsd_prep.pipeline.preflight import load_inputs
from nsd_prep.pipeline.prepared import Prepared
from nsd_prep.pipeline.repeated_images import RepeatedImages
from nsd_prep.pipeline.steps import assemblies, brainscore, closing, tables
from nsd_prep.pipeline.steps import checks as examination
from nsd_prep.pipeline.steps import checks as validation
from nsd_prep.report.figures.figure import ReportFigure
from nsd_prep.report.record import Report, Section, Table
from nsd_prep.report.write import write_report_files
from nsd_prep.sources.opening import open_dataset

Stage = Callable[[SimpleNamespace], Any]
Content = dict[Path, bytes | None]


def _plan(run: SimpleNamespace) -> Any:
    return planned(
        run.root, run.out / "run", regions=[], regions_file=run.regions, seed=1, subjects=[1]
    )


def _prepared(run: SimpleNamespace) -> Prepared:
    return Prepared(run.plan_run, run.load_inputs, run.extract_sessions, run.store)


def _begun(run: SimpleNamespace) -> Ownership:
    ownership = Ownership(run.output, run.plan_run, run.load_inputs)
    ownership.begin()
    return ownership


def _added(run: SimpleNamespace) -> Ownership:
    for made in (run.write_tables, run.assemble_region):
        run.ownership.add(made)
    return run.ownership


def _report(run: SimpleNamespace) -> Report:
    """Return a report with something of all that is written."""
    picture = ReportFigure("points", "Points", "Some.", 10, png=b"a PNG file")
    table = pd.DataFrame({"region": ["own"], "median": [0.5]})
    section = Section(
        "points", "Points", "Text.", (picture,), (Table("One.", table),), {"t": table}
    )
    checks = tuple(map(describe, run.validate.checks))
    return Report("Title", "Summary.", {"a": "b"}, (section,), checks, ("How.",), ())


#: Each takes what the stages before it returned, by their names.
STAGES: dict[str, Stage] = {
    "plan_run": _plan,
    "load_inputs": lambda run: load_inputs(run.plan_run),
    "ownership": lambda run: _begun(run),
    "extract_sessions": lambda run: extraction.extract_sessions(
        run.load_inputs.requests(run.store, with_probes=True)
    ),
    "prepared": _prepared,
    "write_tables": lambda run: tables.write_tables(run.prepared, run.output),
    "assemble_region": lambda run: assemblies.assemble_region(run.prepared, "own", run.output),
    "validate": lambda run: validation.validate(
        run.prepared,
        run.write_tables,
        assemblies.Representations({"own": run.assemble_region}, run.output),
        run.output,
    ),
    "examine": lambda run: examination.examine(
        _prepared(run),  # without what was gathered while the region was assembled
        RepeatedImages(run.load_inputs, run.extract_sessions, run.store),
        assemblies.Representations({"own": run.assemble_region}, run.output),
        run.output,
    ),
    "make_train_and_test": lambda run: brainscore.make_train_and_test(
        run.prepared, "all", "", run.output
    ),
    "check_train_and_test": lambda run: brainscore.check_written_train_and_test(
        run.prepared, {"own": run.assemble_region}, run.make_train_and_test, "", run.output
    ),
    "make_stimulus_sets": lambda run: brainscore.make_stimulus_sets(
        brainscore.Images.of(run.load_inputs.dataset),
        run.prepared.nsd_ids,
        run.prepared.is_train,
        "",
        run.output,
    ),
    "write_report": lambda run: write_report_files(run.out / "run" / "report", _report(run)),
    "write_checks": lambda run: closing.write_checks(run.validate.checks, run.output),
    "add": lambda run: _added(run),
    "write_manifest": lambda run: closing.write_manifest(run.load_inputs, run.add, Stages()),
}
#: Of these, one of each way to the disk is many already: all of them are slow.
LONG = ("load_inputs", "extract_sessions", "assemble_region", "examine", "make_train_and_test")


@dataclass
class Undisturbed:
    """A run without faults: what each stage found, returned and left, and its calls."""

    folder: Path
    out: Path
    records: SimpleNamespace
    before: dict[str, Content]
    after: dict[str, Content]
    calls: dict[str, list[tuple[str, str]]]
    origins: dict[str, list[tuple[CodeType, ...]]]


@pytest.fixture(scope="module")
def undisturbed(official: SmallNSD, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("faults")
    root, out, regions = folder / "nsd", folder / "out", folder / "regions.toml"
    shutil.copytree(official.root, root)
    description = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(description | {"sessions": {"1": 3}}))
    # Each session is read in another way: pieces of the file, blocks, and HDF5's chunks.
    for session, storage in ((2, "voxel chunks, gzip"), (3, "voxel chunks, latest format")):
        betas = min(root.rglob(f"betas_session{session:02d}.hdf5"))
        with h5py.File(betas) as file:
            values = file["betas"][()].transpose(0, 3, 2, 1)
        write_betas(betas, values, storage)
    pictures = open_dataset(root).images_file
    pictures.parent.mkdir(parents=True)
    with h5py.File(pictures, "w") as file:
        file["imgBrick"] = np.arange(144 * 48, dtype=np.uint8).reshape(144, 4, 4, 3)
    # By name, so that the table of label names is read too.
    names = root / "nsddata/freesurfer/subj01/label/prf-visualrois.mgz.ctab"
    names.write_text("0 Unknown 0 0 0 0\n1 V1v 255 0 0 0\n2 V1d 0 255 0 0\n")
    regions.write_text('[own]\nhemisphere = "lh"\nlabels.prf-visualrois = ["V1v"]\n')
    out.mkdir()
    records = SimpleNamespace(root=root, out=out, regions=regions)
    records.output = Folder(path=out / "run")
    records.store = Store(path=out / "run" / "cache" / "responses")
    run = Undisturbed(folder, out, records, {}, {}, {}, {})
    for name, stage in STAGES.items():
        run.before[name] = content_of(out)
        disk = FaultyDisk(folder)
        setattr(run.records, name, with_faults(run, stage, disk))
        run.calls[name], run.origins[name] = disk.calls, disk.origins
        run.after[name] = content_of(out)
    return run


def with_faults(run: Undisturbed, stage: Stage, disk: FaultyDisk) -> Any:
    """Return what a stage returns on a disk."""
    with pytest.MonkeyPatch.context() as patch:
        install(disk, patch)
        patch.setattr(stimulus_sets, "_MOST_THREADS", 1)  # the calls come in one order
        return stage(run.records)


def content_of(folder: Path) -> Content:
    """Return the bytes of all files below a folder, and None for the folders."""
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def restore(folder: Path, content: Content) -> None:
    """Make a folder hold some files and folders, and nothing else."""
    held = content_of(folder)
    for path in reversed(held):
        if path not in content:
            (folder / path).rmdir() if held[path] is None else (folder / path).unlink()
    for path, item in content.items():
        if item is None:
            (folder / path).mkdir(parents=True, exist_ok=True)
        elif held.get(path) != item:
            (folder / path).write_bytes(item)


def meaning(result: Any) -> Any:
    """Return what a stage's result stands for: its content, whatever objects hold it."""
    if isinstance(result, Inputs):
        return [
            digest_of_table(result.trials.table),
            content([result.masks, result.noise_ceilings]),
            [sorted(one.selection.regions["own"]) for one in result.masks.values()],
            result.files,
        ]
    if isinstance(result, Prepared):
        return result.digest
    return None if isinstance(result, Ownership) else result


def is_clear(error: BaseException) -> bool:
    """Return whether an error is one that people are meant to see."""
    if isinstance(error, NSDPrepError | ExtractionFaultError):
        return len(str(error)) > 20
    return isinstance(error, OSError) and bool(error.errno) and error.filename is not None


def problems_with(run: Undisturbed, name: str, at: int, fault: str) -> list[str]:
    """Let one call of a stage fail; return what is wrong with what comes of it."""
    stage, after = STAGES[name], run.after[name]
    operation, file = run.calls[name][at]
    restore(run.out, run.before[name])
    found: list[str] = []
    disk = FaultyDisk(run.folder, at, fault)
    try:
        result = with_faults(run, stage, disk)
    except Exception as error:
        assert disk.calls[: at + 1] == run.calls[name][: at + 1], "the fault hit another call"
        if not is_clear(error):
            found.append(f"unclear: {error!r}")
        left = content_of(run.out)
        for path, content in left.items():
            is_partial = path.suffix == ".partial"
            if content is None:
                continue
            if is_partial and operation != "remove":
                found.append(f"left {path}")
            expected = whole({one: run.before[name].get(one) for one in (path,)})
            expected_after = whole({one: after.get(one) for one in (path,)})
            if not is_partial and whole({path: content}) not in (expected, expected_after):
                found.append(f"wrong content of {path}")
    else:
        if meaning(result) != meaning(getattr(run.records, name)):
            found.append("silently another result")
        if whole(content_of(run.out)) != whole(after):
            found.append("silently other files")
        return [f"{fault} at call {at}, {operation} {file}: {problem}" for problem in found]
    again = stage(run.records)
    if meaning(again) != meaning(getattr(run.records, name)):
        found.append("another result when run again")
    if whole(content_of(run.out)) != whole(after):
        found.append("other files when run again")
    return [f"{fault} at call {at}, {operation} {file}: {problem}" for problem in found]


def whole(content: Content) -> Content:
    """Return the files that are not temporary; the manifest without its date."""
    return {
        path: re.sub(rb'"written": "[^"]*"', b"", held) if held else held
        for path, held in content.items()
        if path.suffix != ".partial"
    }


class TestEveryCall:
    @pytest.mark.parametrize(
        ("name", "calls"),
        [
            *((name, "one of each way to the disk") for name in STAGES if name not in LONG),
            *(pytest.param(name, "all", marks=pytest.mark.slow) for name in STAGES),
        ],
    )
    def test_a_fault_gives_a_right_result_or_a_clear_failure(
        self, undisturbed: Undisturbed, name: str, calls: str
    ) -> None:
        seen: set[Any] = set()
        problems = []
        for at, (operation, _) in enumerate(undisturbed.calls[name]):
            kind = (operation, undisturbed.origins[name][at])
            if calls == "all" or kind not in seen:
                for fault in FAULTS[operation]:
                    problems += problems_with(undisturbed, name, at, fault)
            seen.add(kind)
        assert problems == []

    def test_every_kind_of_call_is_there(self, undisturbed: Undisturbed) -> None:
        called = {operation for calls in undisturbed.calls.values() for operation, _ in calls}
        assert called == set(FAULTS)


class TestFullDisk:
    """The limit of a file's size stands for a full disk: the C libraries meet it as such."""

    def test_an_assembly_is_written_whole_or_not_at_all(
        self, undisturbed: Undisturbed, tmp_path: Path
    ) -> None:
        name = "Allen2022.own.nc"
        content = undisturbed.after["write_manifest"][Path("run", name)]
        undisturbed.folder.joinpath(name).write_bytes(content)
        assembly = read_assembly(undisturbed.folder / name)
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        for size in range(0, len(content), len(content) // 40):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, unlimited[1]))
            try:
                with pytest.raises(OutputError, match="cannot be written"):
                    write_assembly(assembly, tmp_path / name)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
            assert list(tmp_path.iterdir()) == []
        write_assembly(assembly, tmp_path / name)
        assert (tmp_path / name).read_bytes() == content


def test_what_killed_runs_left_in_a_cache_elsewhere_is_removed(
    official: SmallNSD, tmp_path: Path
) -> None:
    script = (
        "import os, sys; from pathlib import Path; from nsd_prep.core.atomic import replaced\n"
        "with replaced(Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half'); os._exit(9)\n"
    )
    cache = tmp_path / "cache"
    with in_use(cache):
        left = cache / "responses" / "subj01-session01" / "key.npy"
    subprocess.run([sys.executable, "-c", script, str(left)], check=False)
    assert len(list(left.parent.iterdir())) == 1
    load_inputs(planned(official.root, tmp_path / "out", regions=["V1"], cache_dir=cache))
    assert list(left.parent.iterdir()) == []
