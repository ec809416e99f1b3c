"""Faults of the disk at every reading and writing of the library: right, or said and nothing left.

A run is made once without faults, stage by stage. Then each stage is run again from where it
began, once for each of its calls to the disk and each way in which that call can fail.
"""

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from faulty_disk import FAULTS, FaultyDisk, install
from small_nsd import SmallNSD, write_betas

from nsd_prep import extraction, stages
from nsd_prep.analysis.picture import Picture
from nsd_prep.assembly import read_assembly, write_assembly
from nsd_prep.brainscore import stimulus_sets
from nsd_prep.dataset import open_dataset
from nsd_prep.errors import ExtractionFaultError, NSDPrepError, OutputError
from nsd_prep.files import read_table
from nsd_prep.preflight import check_inputs
from nsd_prep.report.record import Report, Section, Table
from nsd_prep.report.stage import facts_of_run, write_report
from nsd_prep.run import Extracted, plan_run

Stage = Callable[[SimpleNamespace], Any]
Content = dict[Path, bytes | None]


def _extracted(of: SimpleNamespace) -> Path:
    return Extracted(
        trials=of.map_trials,
        masks=of.load_masks,
        noise_ceilings=of.load_noise_ceilings,
        sessions=of.extract_sessions,
    ).write(of.plan_run.cache_dir)


def _plan(of: SimpleNamespace) -> Any:
    return plan_run(of.root, of.out / "run", None, [], of.regions, None, None, 1, 0.8, "keep")


def _report(of: SimpleNamespace) -> Report:
    """Return a report with something of all that is written."""
    picture = Picture("points", "Points", "Some.", 10, png=b"a PNG file", pdf=b"a PDF file")
    table = pd.DataFrame({"region": ["own"], "median": [0.5]})
    section = Section(
        "points", "Points", "Text.", (picture,), (Table("One.", table),), {"t": table}
    )
    return Report("Title", "Summary.", {"a": "b"}, (section,), tuple(of.validate), ("How.",), ())


#: Each takes what the stages before it returned, by their names.
STAGES: dict[str, Stage] = {
    "plan_run": _plan,
    "check_inputs": lambda of: check_inputs(of.plan_run),
    "map_trials": lambda of: stages.map_trials(of.plan_run),
    "load_masks": lambda of: [stages.load_masks(of.plan_run, 1)],
    "load_noise_ceilings": lambda of: [
        stages.load_noise_ceilings(of.plan_run, masks) for masks in of.load_masks
    ],
    "session_requests": lambda of: stages.session_requests(
        of.plan_run, of.load_masks, of.map_trials, of.check_inputs.files
    ),
    "extract_sessions": lambda of: extraction.extract_sessions(of.session_requests),
    "extracted": _extracted,
    "read_extracted": lambda of: Extracted.read(of.extracted),
    "split_images": lambda of: stages.split_images(of.plan_run, of.map_trials),
    "tabulate_voxels": lambda of: stages.tabulate_voxels(of.plan_run, of.read_extracted),
    "assemble_region": lambda of: stages.assemble_region(of.plan_run, of.read_extracted, "own"),
    "validate": lambda of: stages.validate(of.plan_run, of.read_extracted),
    "examine": lambda of: stages.examine(of.plan_run, of.read_extracted),
    "make_train_and_test": lambda of: stages.make_train_and_test(of.plan_run, of.read_extracted),
    "make_stimulus_sets": lambda of: stages.make_stimulus_sets(of.plan_run, of.read_extracted),
    "check_brainscore": lambda of: stages.check_brainscore(of.plan_run, of.read_extracted),
    "facts_of_run": lambda of: facts_of_run(
        of.plan_run, of.map_trials, read_table(of.plan_run.voxels_file)
    ),
    "write_report": lambda of: write_report(_report(of), of.out / "run" / "report"),
    "write_checks": lambda of: stages.write_checks(of.plan_run, of.validate),
    "write_manifest": lambda of: stages.write_manifest(
        of.plan_run, of.check_inputs, of.map_trials, [], {}
    ),
}


@dataclass
class Undisturbed:
    """A run without faults: what each stage found, returned and left, and its calls."""

    folder: Path
    out: Path
    records: SimpleNamespace
    before: dict[str, Content]
    after: dict[str, Content]
    calls: dict[str, list[tuple[str, str]]]


@pytest.fixture(scope="module")
def undisturbed(official: SmallNSD, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("faults")
    root, out, regions = folder / "nsd", folder / "out", folder / "regions.toml"
    shutil.copytree(official.root, root)
    description = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(description | {"sessions": {"1": 3}}))
    betas = min(root.rglob("betas_session02.hdf5"))
    with h5py.File(betas) as file:
        values = file["betas"][()].transpose(0, 3, 2, 1)
    write_betas(betas, values, "voxel chunks, gzip")  # which is read in another way
    pictures = open_dataset(root).images_file
    pictures.parent.mkdir(parents=True)
    with h5py.File(pictures, "w") as file:
        file["imgBrick"] = np.arange(144 * 48, dtype=np.uint8).reshape(144, 4, 4, 3)
    # By name, so that the table of label names is read too.
    names = root / "nsddata/freesurfer/subj01/label/prf-visualrois.mgz.ctab"
    names.write_text("0 Unknown 0 0 0 0\n1 V1v 255 0 0 0\n2 V1d 0 255 0 0\n")
    regions.write_text('[own]\nhemisphere = "lh"\nlabels.prf-visualrois = ["V1v"]\n')
    out.mkdir()
    run = Undisturbed(folder, out, SimpleNamespace(root=root, out=out, regions=regions), {}, {}, {})
    for name, stage in STAGES.items():
        run.before[name] = content_of(out)
        disk = FaultyDisk(folder)
        setattr(run.records, name, with_faults(run, stage, disk))
        run.calls[name] = disk.calls
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
    for path, of in content.items():
        if of is None:
            (folder / path).mkdir(parents=True, exist_ok=True)
        elif held.get(path) != of:
            (folder / path).write_bytes(of)


def meaning(result: Any) -> Any:
    """Return a stage's result without what tells how it was come by."""
    if isinstance(result, list):
        return [meaning(of) for of in result]
    if isinstance(result, extraction.SessionRecord):
        return result.model_copy(update={"voxels_read": 0})
    return result


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
            if not is_partial and content not in (run.before[name].get(path), after.get(path)):
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
    """Return the files that are not temporary."""
    return {path: of for path, of in content.items() if path.suffix != ".partial"}


class TestEveryCall:
    @pytest.mark.parametrize("name", STAGES)
    def test_a_fault_gives_a_right_result_or_a_clear_failure(
        self, undisturbed: Undisturbed, name: str
    ) -> None:
        problems = [
            problem
            for at, (operation, _) in enumerate(undisturbed.calls[name])
            for fault in FAULTS[operation]
            for problem in problems_with(undisturbed, name, at, fault)
        ]
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
        "import os, sys; from pathlib import Path; from nsd_prep.files import replaced\n"
        "with replaced(Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half'); os._exit(9)\n"
    )
    cache = tmp_path / "cache"
    left = cache / "responses" / "subj01-session01" / "key.npy"
    subprocess.run([sys.executable, "-c", script, str(left)], check=False)
    assert len(list(left.parent.iterdir())) == 1
    run = plan_run(official.root, tmp_path / "out", None, ["V1"], None, None, cache, 1, 0.8, "keep")
    check_inputs(run)
    assert list(left.parent.iterdir()) == []
