"""What a run owns in its output folder, and its single trials, on data that are noise."""

import contextlib
import gzip
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from blake3 import blake3
from earlier_versions import state_sha256_in_manifest
from PIL import Image
from small_nsd import SmallNSD, write_small_nsd

import nsd_prep
from nsd_prep.checks import subject_agreement
from nsd_prep.core.errors import FailedChecksError, InputFileError, ParameterError, PreflightError
from nsd_prep.core.records import Folder
from nsd_prep.extraction.store import Store
from nsd_prep.flows.command import main
from nsd_prep.pipeline import step_table
from nsd_prep.pipeline.earlier import EarlierRuns
from nsd_prep.pipeline.steps import checks as steps_of_checks
from nsd_prep.report.stamp import without_stamp

REGIONS = '[FFA]\nlabels.floc-faces = ["FFA-1", "FFA-2"]\n'


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> SmallNSD:
    """Return a small dataset with images; tests do not change it."""
    small = write_small_nsd(tmp_path_factory.mktemp("content") / "nsd")
    images = small.root / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"
    images.parent.mkdir(parents=True)
    with h5py.File(images, "w") as file:
        file["imgBrick"] = np.arange(144 * 48, dtype=np.uint8).reshape(144, 4, 4, 3)
    return small


@pytest.fixture
def small(written: SmallNSD, tmp_path: Path) -> SmallNSD:
    """Return a copy that the test may change."""
    shutil.copytree(written.root, tmp_path / "nsd")
    return replace(written, root=tmp_path / "nsd")


def run(small: SmallNSD, out: Path, **asked: Any) -> dict[str, str]:
    """Prepare; return the BLAKE3 of every output but the manifest."""
    regions = small.root.parent / "regions.toml"
    regions.write_text(REGIONS)
    options = {"regions": ["V1", "IT"], "regions_file": regions, "report": False}
    options |= {"single_trials": True} | asked
    # The small dataset is noise, and the checks find that.
    with contextlib.suppress(FailedChecksError):
        nsd_prep.prepare(nsd_root=small.root, output_dir=out, progress=False, **options)
    return digests(out)


def digests(out: Path) -> dict[str, str]:
    """Return the BLAKE3 of every output but the manifest; of a page without its date."""
    return {
        str(path.relative_to(out)): blake3(
            without_stamp(path.read_bytes()) if path.suffix == ".html" else path.read_bytes()
        ).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
        and "cache" not in path.relative_to(out).parts
        and path.name not in ("manifest.json", ".nsd-prep.lock")
    }


#: Options of a run that makes nothing but the assemblies of built-in regions and their tables.
ASSEMBLIES = {"regions_file": None, "brainscore": False, "single_trials": False}
#: Of one that makes nothing but single trials.
TRIALS = {"regions_file": None, "assemblies": False, "regions": ["V1"]}


def manifest(out: Path) -> dict[str, Any]:
    """Return what a manifest holds."""
    content: dict[str, Any] = json.loads((out / "manifest.json").read_text())
    return content


def fail(*_: Any) -> Any:
    """Stand for a step that fails."""
    raise InputFileError("no more")


def test_an_image_that_was_corrected_is_written_again(tiny_nsd: Path, tmp_path: Path) -> None:
    root, out = shutil.copytree(tiny_nsd, tmp_path / "nsd"), tmp_path / "out"
    options = {"nsd_root": root, "output_dir": out, "subjects": [1], "regions": ["V1"]}
    options |= {"report": False, "progress": False}
    nsd_prep.prepare(**options)
    picture = sorted(out.glob("brainscore/stimuli_test/*.png"))[0]
    before = np.asarray(Image.open(picture))
    (images,) = root.rglob("nsd_stimuli.hdf5")
    status = images.stat()
    with h5py.File(images, "a") as file:
        file["imgBrick"][int(picture.stem.removeprefix("nsd_")), 0, 0] ^= 255
    os.utime(images, ns=(status.st_atime_ns, status.st_mtime_ns))  # as cp -p and rsync -t do
    nsd_prep.prepare(**options)
    after = np.asarray(Image.open(picture))
    assert np.array_equal(after[0, 0], 255 - before[0, 0])


class TestOwnership:
    def test_results_of_other_regions_stay_and_are_listed_with_their_run(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        before = run(small, out, regions=["V1", "V2"], regions_file=None, single_trials=False)
        first = manifest(out)
        after = run(small, out, regions=["IT"], **ASSEMBLIES)
        contents = sorted(after.values())
        assert [digest for digest in before.values() if digest not in contents] == []
        assert (
            after.items()
            >= {
                name: digest for name, digest in before.items() if name.endswith((".nc", ".png"))
            }.items()
        )
        second = manifest(out)
        assert {name: entry["blake3"] for name, entry in second["outputs"].items()} == after
        of_first = {
            name for name, entry in second["outputs"].items() if entry["run"] == first["id"]
        }
        assert {"Allen2022.V1.nc", f"voxels-{first['id']}.csv"} <= of_first
        assert {second["outputs"][name]["run"] for name in after.keys() - of_first} == {
            second["id"]
        }
        del first["outputs"], first["earlier_runs"], first["state"]
        assert second["earlier_runs"] == {first["id"]: first}
        regions = pd.read_csv(out / f"voxels-{first['id']}.csv")["region"]
        assert set(regions) == {"V1", "V2"}

    @pytest.mark.parametrize(
        "name", ["brainscore", "brainscore/stimuli_train", "report/figures", "trials"]
    )
    @pytest.mark.parametrize("replace", [False, True])
    def test_nothing_is_written_through_a_link_to_a_folder(
        self, small: SmallNSD, tmp_path: Path, name: str, replace: bool
    ) -> None:
        victim = tmp_path / "victim"
        victim.mkdir()
        (victim / "mine").write_text("mine")
        link = tmp_path / "out" / name
        link.parent.mkdir(parents=True)
        link.symlink_to(victim)
        options = {"regions": ["V1"], "regions_file": None, "report": True, "replace": replace}
        with pytest.raises(ParameterError, match=f"{link} is a link, where this run writes a fol"):
            run(small, tmp_path / "out", **options)
        assert [path.name for path in victim.iterdir()] == ["mine"]

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("Allen2022.V1.nc", "folder"),
            ("checks.csv", "pipe"),
            ("manifest.json", "folder"),
            ("manifest.json", "link"),
            ("report", "file"),
            ("report/index.html", "folder"),
            ("trials", "pipe"),
        ],
    )
    def test_what_cannot_be_replaced_is_said_before_anything_is_extracted(
        self,
        small: SmallNSD,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        kind: str,
    ) -> None:
        monkeypatch.setattr("nsd_prep.pipeline.composition.extract", lambda *_: 1 / 0)
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True)
        make = {
            "folder": path.mkdir,
            "pipe": lambda: os.mkfifo(path),
            "file": path.touch,
            "link": lambda: path.symlink_to("elsewhere"),
        }
        make[kind]()
        options = {"regions": ["V1"], "regions_file": None, "report": True, "replace": True}
        with pytest.raises(ParameterError, match=f"{path} is a {kind}.*, where this run writes a"):
            run(small, tmp_path / "out", **options)

    def test_a_run_that_is_refused_leaves_nothing_behind(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        mine = tmp_path / "mine" / "checks.csv"
        mine.parent.mkdir()
        mine.write_text("mine")
        for out, root in ((mine.parent, small.root), (tmp_path / "a" / "b", tmp_path)):
            (tmp_path / "nsddata").mkdir(exist_ok=True)
            with pytest.raises((ParameterError, PreflightError)):
                nsd_prep.prepare(nsd_root=root, output_dir=out, subjects=[1], progress=False)
        visible = [path for path in mine.parent.iterdir() if not path.name.startswith(".")]
        assert visible == [mine]
        assert not (tmp_path / "a").exists()

    def test_a_zarr_store_of_a_run_is_no_obstacle_to_the_next(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        options = {"subjects": [1], "regions": ["V1"], "regions_file": None, "format": "zarr"}
        before = run(small, tmp_path / "out", **options)
        assert any(name.startswith("trials/subj01.zarr/response/") for name in before)
        assert run(small, tmp_path / "out", seed=42, refresh=True, **options) == before

    def test_single_trials_of_other_subjects_stay(self, small: SmallNSD, tmp_path: Path) -> None:
        out = tmp_path / "out"
        before = run(small, out, subjects=[1], **TRIALS)
        after = run(small, out, subjects=[2], **TRIALS)
        assert {"subj01.nc", "subj01.csv", "subj02.nc", "subj02.csv"} <= after.keys()
        assert after["subj01.nc"] == before["subj01.nc"]
        assert set(manifest(out)["outputs"]) == set(after)

    @pytest.mark.slow
    def test_the_same_run_again_replaces_all_and_keeps_no_other(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        before = run(small, out, regions=["V1"], regions_file=None)
        first = manifest(out)["id"]
        assert run(small, out, regions=["V1"], regions_file=None, workers=1) == before
        assert manifest(out)["id"] == first
        assert manifest(out)["earlier_runs"] == {}

    @pytest.mark.slow
    def test_more_regions_replace_the_shared_tables(self, small: SmallNSD, tmp_path: Path) -> None:
        out, both = tmp_path / "out", {"regions": ["V1", "V2"], **ASSEMBLIES}
        run(small, out, regions=["V1"], **ASSEMBLIES)
        assert run(small, out, **both) == run(small, tmp_path / "empty", **both)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("options", "others", "difference"),
        [
            (ASSEMBLIES, {"seed": 43}, "seed=42 there, seed=43 in this run"),
            (ASSEMBLIES, {"subjects": [1]}, r"subjects=\[1, 2.*\] there, subjects=\[1\] in"),
            (TRIALS, {"normalise": "none"}, "normalise='session' there, normalise='none' in"),
            (TRIALS, {"regions": ["V2"]}, r"regions=\['V1'\] there, regions=\['V2'\] in"),
            (TRIALS, {"min_ncsnr": 0.01}, "min_ncsnr=None there, min_ncsnr=0.01 in this run"),
            (TRIALS, {"subjects": [1], "seed": 43}, "seed=42 there, seed=43 in this run"),
        ],
    )
    def test_other_options_stop_before_anything_is_computed_unless_all_is_to_be_replaced(
        self,
        small: SmallNSD,
        tmp_path: Path,
        options: dict[str, Any],
        others: dict[str, Any],
        difference: str,
    ) -> None:
        out = tmp_path / "out"
        options = {"regions": ["V1"], **options}
        before = run(small, out, **options)
        listed = (out / "manifest.json").read_bytes()
        for check in (True, False):
            with pytest.raises(ParameterError, match=difference) as error:
                run(small, out, **options | others, check=check, cache_dir=tmp_path / "cache")
        assert re.search(r"holds \d+ files? \(.*\) of another run", str(error.value))
        assert "choose another output_dir=, or give replace=True, which" in str(error.value)
        assert "--" not in str(error.value).replace(str(out), "")
        assert digests(out) == before
        assert (out / "manifest.json").read_bytes() == listed
        assert not (tmp_path / "cache" / "responses").exists()
        expected = run(small, tmp_path / "empty", **options | others)
        assert run(small, out, **options | others, replace=True) == expected
        assert manifest(out)["earlier_runs"] == {}

    @pytest.mark.slow
    def test_replace_removes_what_is_not_made_again_but_nothing_of_others(
        self, small: SmallNSD, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        out = tmp_path / "out"
        run(small, out, regions=["V1", "V2"], regions_file=None)
        (out / "notes.txt").write_text("mine")
        (out / "brainscore" / "notes.txt").write_text("mine")
        (out / "voxels.csv").write_text("mine")
        (out / "Allen2022.V2.nc").write_text("mine")
        with caplog.at_level("INFO"):
            run(small, out, regions=["V1"], replace=True, **ASSEMBLIES)
        left, mine = set(digests(out)), {"notes.txt", "brainscore/notes.txt", "Allen2022.V2.nc"}
        assert set(manifest(out)["outputs"]) == left - mine
        assert mine <= left
        assert not (out / "trials").exists()
        assert "Removed from" in caplog.text
        assert "brainscore/Allen2022_fmri_test.nc" in caplog.text

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("Allen2022.V1.nc", ASSEMBLIES),
            ("voxels.csv", ASSEMBLIES),
            ("manifest.json", ASSEMBLIES),
            ("subj01.csv", TRIALS),
        ],
    )
    def test_a_user_s_own_file_is_not_overwritten(
        self, small: SmallNSD, tmp_path: Path, name: str, options: dict[str, Any]
    ) -> None:
        out, options = tmp_path / "out", {"regions": ["V1"], **options}
        out.mkdir()
        (out / name).write_text('{"mine": 1}')
        (out / "notes.txt").write_text("mine")
        (out / "Allen2022.V2.nc").write_text("mine")
        for check in (True, False):
            with pytest.raises(
                ParameterError, match=f"1 file .*{name}.* no run has written.* or give replace=True"
            ):
                run(small, out, **options, check=check, cache_dir=tmp_path / "cache")
        assert (out / name).read_text() == '{"mine": 1}'
        assert not (tmp_path / "cache" / "responses").exists()
        run(small, out, **options, replace=True)
        assert (out / name).read_bytes() != b'{"mine": 1}'
        assert (out / "notes.txt").read_text() == (out / "Allen2022.V2.nc").read_text() == "mine"

    def test_what_a_killed_run_wrote_and_did_not_list_is_written_again(
        self, small: SmallNSD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out"

        def killed(*_: Any) -> Any:
            (out / "Allen2022.V1.nc").write_text("half")
            raise InputFileError("no more")

        with monkeypatch.context() as patch:
            step = replace(step_table.ASSEMBLE_REGION, function=killed)
            patch.setattr(step_table, "ASSEMBLE_REGION", step)
            with pytest.raises(InputFileError, match="no more"):
                run(small, out, regions=["V1"], **ASSEMBLIES)
        run(small, out, regions=["V1"], **ASSEMBLIES)
        assert "Allen2022.V1.nc" in manifest(out)["outputs"]

    @pytest.mark.parametrize("with_brainscore", [False, True])
    def test_what_an_interrupted_step_wrote_stays_a_run_s_whatever_ran_since(
        self,
        small: SmallNSD,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        with_brainscore: bool,
    ) -> None:
        out = tmp_path / "out"
        step, name, options = (
            ("MAKE_TRAIN_AND_TEST", "brainscore/Allen2022_fmri_train.nc", {"brainscore": True})
            if with_brainscore
            else ("WRITE_REPORT", "report/figures/noise-ceilings.png", {"report": True})
        )

        def interrupted(*_: Any) -> Any:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text("whole")
            raise InputFileError("no more")

        def run_interrupted() -> None:
            function = replace(getattr(step_table, step), function=interrupted)
            with monkeypatch.context() as patch:
                patch.setattr(step_table, step, function)
                with pytest.raises(InputFileError, match="no more"):
                    run(small, out, regions=["V1"], **ASSEMBLIES | options)

        run_interrupted()
        own = (out / name).with_name("a-figure-of-mine.png")
        own.write_text("mine")
        run(small, out, regions=["V1"], **ASSEMBLIES)
        assert (out / name).read_text() == "whole"
        assert name not in manifest(out)["outputs"]
        run_interrupted()  # the command that was interrupted is not refused
        run(small, out, regions=["V1"], **ASSEMBLIES | options)
        left = manifest(out)
        assert {entry["run"] for entry in left["outputs"].values()} == {left["id"]}
        assert own.read_text() == "mine"  # whatever a run might have written under its name
        assert set(digests(out)) - set(left["outputs"]) == {str(own.relative_to(out))}
        own.unlink()
        run(small, out, regions=["V1"], **ASSEMBLIES | options, refresh=True)
        assert not manifest(out)["earlier_runs"]

    @pytest.mark.slow
    def test_a_run_that_fails_loses_nothing_and_leaves_no_manifest(
        self, small: SmallNSD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out"
        before = run(small, out, regions=["V1"], **ASSEMBLIES)
        first = manifest(out)["id"]
        with monkeypatch.context() as patch:
            patch.setattr(step_table, "EXAMINE", replace(step_table.EXAMINE, function=fail))
            with pytest.raises(InputFileError, match="no more"):
                run(small, out, regions=["V2"], **ASSEMBLIES)
        assert set(before.values()) <= set(digests(out).values())
        assert not (out / "manifest.json").exists()
        run(small, out, regions=["IT"], **ASSEMBLIES)
        last = manifest(out)
        runs = {name: entry["run"] for name, entry in last["outputs"].items()}
        assert runs["Allen2022.V1.nc"] == runs[f"checks-{first}.csv"] == first
        assert last["earlier_runs"][first]["written"]
        assert last["earlier_runs"][runs["Allen2022.V2.nc"]]["written"] is None
        assert set(runs) == set(digests(out))

    @pytest.mark.slow
    def test_files_that_version_0_4_listed_are_the_run_s(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        before = run(small, out, regions=["V1", "V2"], **ASSEMBLIES)
        first = manifest(out)["id"]
        state_sha256_in_manifest(out)
        after = run(small, out, regions=["V1"], **ASSEMBLIES)
        assert set(before.values()) <= set(after.values())
        listed = manifest(out)["outputs"]
        assert set(listed) == set(after)
        of_first = {name for name, entry in listed.items() if entry["run"] == first}
        assert {"Allen2022.V2.nc", f"voxels-{first}.csv"} <= of_first
        assert of_first == {name for name, entry in listed.items() if "sha256" in entry}
        assert all(("sha256" in entry) != ("blake3" in entry) for entry in listed.values())
        # Once more, from a manifest that has both.
        assert run(small, out, regions=["V1"], **ASSEMBLIES) == after
        assert manifest(out)["outputs"] == listed

    @pytest.mark.slow
    def test_of_what_version_0_4_listed_replace_removes_what_nobody_has_changed(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        run(small, out, regions=["V1", "V2", "IT"], **ASSEMBLIES)
        state_sha256_in_manifest(out)
        (out / "Allen2022.IT.nc").write_text("mine")
        left = run(small, out, regions=["V1"], replace=True, **ASSEMBLIES)
        assert "Allen2022.V2.nc" not in left
        assert (out / "Allen2022.IT.nc").read_text() == "mine"
        assert set(manifest(out)["outputs"]) == set(left) - {"Allen2022.IT.nc"}

    @pytest.mark.slow
    def test_the_same_file_stays_that_of_the_run_of_version_0_4_that_ended(
        self, small: SmallNSD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out"
        run(small, out, regions=["V1"], **ASSEMBLIES)
        first = manifest(out)["id"]
        state_sha256_in_manifest(out)
        with monkeypatch.context() as patch:
            patch.setattr(step_table, "EXAMINE", replace(step_table.EXAMINE, function=fail))
            with pytest.raises(InputFileError, match="no more"):
                run(small, out, regions=["V1"], refresh=True, **ASSEMBLIES)
        noted = json.loads((out / ".nsd-prep-owned.json").read_text())["outputs"]
        assert noted["Allen2022.V1.nc"]["run"] == first
        assert {entry["run"] for entry in noted.values()} == {first}

    @pytest.mark.slow
    def test_a_run_that_fails_before_it_writes_leaves_the_manifest(
        self, small: SmallNSD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out"
        run(small, out, regions=["V1"], **ASSEMBLIES)
        before = (out / "manifest.json").read_bytes()
        step = replace(step_table.CHECK_SUBJECTS, function=fail)
        with monkeypatch.context() as patch:
            patch.setattr(step_table, "CHECK_SUBJECTS", step)
            with pytest.raises(InputFileError, match="no more"):
                run(small, out, regions=["V2"], **ASSEMBLIES)
        assert (out / "manifest.json").read_bytes() == before

    @pytest.mark.slow
    @pytest.mark.parametrize("replaced", ["session", "mask"])
    def test_results_of_input_files_that_have_changed_since_are_named(
        self,
        small: SmallNSD,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        replaced: str,
    ) -> None:
        out = tmp_path / "out"
        run(small, out, regions=["V1", "V2"], **ASSEMBLIES)
        run(small, out, regions=["V1"], **ASSEMBLIES)
        assert "before input files changed" not in caplog.text
        path = small.betas_path(1, 2)
        if replaced == "mask":
            path = next(small.root.rglob("subj01/**/ncsnr.nii.gz"))
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(
            content if replaced == "session" else gzip.compress(gzip.decompress(content), 1)
        )
        run(small, out, regions=["V1"], **ASSEMBLIES)
        assert re.search(rf"Allen2022.V2.nc.*; changed: 1 file \(.*{path.name}\)", caplog.text)
        caplog.clear()
        moved = replace(small, root=small.root.rename(tmp_path / "moved"))
        run(moved, tmp_path / "copy", regions=["V1", "V2"], **ASSEMBLIES)
        shutil.copytree(moved.root, small.root)
        run(small, tmp_path / "copy", regions=["V1"], **ASSEMBLIES)
        assert "before input files changed" not in caplog.text

    @pytest.mark.slow
    def test_a_check_says_what_would_be_replaced_and_what_stays(
        self, small: SmallNSD, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out"
        options = {"single_trials": False, "regions_file": None}
        run(small, out, regions=["V1", "V2"], **options)
        before, first = digests(out), manifest(out)["id"]
        words = ["run", "--nsd-root", str(small.root), "--output-dir", str(out), "--check"]
        assert main([*words, "--regions", "V2"]) == 0
        _, _, said = capsys.readouterr().out.partition(f"In {out} from earlier runs:\n")
        assert said.splitlines() == [
            "  replaced by this run: 3 files (Allen2022.V2.nc, train_test_split.csv, trials.csv)",
            "  left as they are: 1 file (Allen2022.V1.nc)",
            f"  kept under another name: brainscore/ as brainscore-{first}/, "
            + ", ".join(
                f"{name}.csv as {name}-{first}.csv"
                for name in ("checks", "noise_ceilings", "reliability", "sessions", "voxels")
            ),
            "  (a single run of all regions and subjects writes one table, from the cache)",
        ]
        assert main([*words, "--regions", "V2", "--replace", "--no-brainscore"]) == 0
        said = capsys.readouterr().out
        assert "removed at the end (--replace): " in said
        assert "left as they are" not in said
        with contextlib.suppress(FailedChecksError):
            nsd_prep.prepare(
                nsd_root=small.root, output_dir=out, regions=["V2"], replace=True, check=True
            )
        assert "removed at the end (replace=True): " in capsys.readouterr().out
        assert digests(out) == before

    @pytest.mark.slow
    def test_a_check_says_which_option_keeps_a_table_under_another_name(
        self, small: SmallNSD, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out"
        run(small, out, regions=["V1"], single_trials=False, regions_file=None)
        words = ["run", "--nsd-root", str(small.root), "--output-dir", str(out), "--check"]
        assert main([*words, "--regions", "V1", "--suffix", "_other"]) == 0
        said = capsys.readouterr().out
        assert "(brainscore, checks.csv: made with another --suffix than this run's)" in said
        assert "a single run of all regions" not in said
        nsd_prep.prepare(
            nsd_root=small.root, output_dir=out, regions=["V1"], suffix="_other", check=True
        )
        said = capsys.readouterr().out
        assert "(brainscore, checks.csv: made with another suffix= than this run's)" in said

    @pytest.mark.parametrize(
        "content",
        [
            [],
            5,
            {"outputs": [1]},
            {"outputs": {"Allen2022.V1.nc": 5}},
            {"outputs": {"a\0b": {"sha256": "0"}}},
            {"outputs": {"x" * 300: "0"}},
            {"outputs": {"..": "0"}, "earlier_runs": 5, "id": [], "parameters": {"seed": []}},
            {"outputs": {"\ud800": "0"}},
            {"outputs": {}, "seconds": float("nan")},
        ],
    )
    @pytest.mark.parametrize("file", ["manifest.json", ".nsd-prep-owned.json"])
    def test_what_is_no_manifest_is_ignored(self, tmp_path: Path, file: str, content: Any) -> None:
        (tmp_path / "Allen2022.V1.nc").write_text("mine")
        (tmp_path / file).write_text(json.dumps(content))
        earlier = EarlierRuns.read(Folder(path=tmp_path))
        assert earlier.outputs == earlier.records == {}
        assert earlier.ignored

    @pytest.mark.parametrize("file", ["manifest.json", ".nsd-prep-owned.json"])
    def test_nothing_outside_the_folder_is_a_run_s(
        self, small: SmallNSD, tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
        out.mkdir()
        elsewhere.mkdir()
        victim = elsewhere / "victim.txt"
        victim.write_text("mine")
        digest = blake3(b"mine").hexdigest()
        (out / "folder").symlink_to(elsewhere)
        (out / "file").symlink_to(victim)
        names = ("../elsewhere/victim.txt", str(victim), "folder/victim.txt", "file", "./file")
        content = {"outputs": {name: {"bytes": 4, "blake3": digest} for name in names}}
        content["software"] = {"nsd-prep": "0.4.0"}
        (out / file).write_text(json.dumps(content))
        run(small, out, regions=["V1"], replace=True, **ASSEMBLIES)
        assert victim.read_text() == "mine"
        assert (out / "file").is_symlink()
        assert not set(names) & set(manifest(out)["outputs"])
        assert "left alone: 5 files ('../elsewhere/victim.txt'" in caplog.text

    @pytest.mark.slow
    def test_a_report_that_shows_other_results_is_kept(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        run(small, out, subjects=[1], report=True, **TRIALS)
        page, first = (out / "report" / "index.html").read_bytes(), manifest(out)["id"]
        run(small, out, subjects=[2], report=True, **TRIALS)
        assert (out / f"report-{first}" / "index.html").read_bytes() == page
        both = run(small, out, subjects=[1, 2], report=True, **TRIALS)
        assert set(manifest(out)["outputs"]) == set(both)
        left = run(small, out, subjects=[1, 2], report=True, replace=True, **TRIALS)
        assert set(left) == set(
            run(small, tmp_path / "all", subjects=[1, 2], report=True, **TRIALS)
        )


class TestSharedCache:
    @pytest.mark.slow
    def test_refresh_leaves_what_another_run_is_about_to_read(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        options = {"cache_dir": tmp_path / "cache", "regions_file": None, "brainscore": False}
        run(small, tmp_path / "one", **options)
        arrays = {
            path: path.read_bytes() for path in (tmp_path / "cache" / "responses").rglob("*.npy")
        }
        run(small, tmp_path / "two", refresh=True, **options)
        assert arrays
        assert {path: path.read_bytes() for path in arrays} == arrays


class TestDroppedVoxels:
    def test_a_region_that_loses_all_its_voxels_is_named(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        path = small.betas_path(1, 2)
        with h5py.File(path, "r+") as file:
            file["betas"][...] = 0
        with pytest.raises(ParameterError, match=r"No voxel of the region V1 of subject 1"):
            run(
                small,
                tmp_path / "out",
                invalid_voxels="drop",
                regions=["V1"],
                regions_file=None,
                single_trials=False,
            )


class TestStore:
    def test_a_region_is_read_once_for_its_assembly_and_its_checks(
        self, small: SmallNSD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = []
        read_part = Store.read
        monkeypatch.setattr(
            Store, "read", lambda store, part: read.append(part.file) or read_part(store, part)
        )
        run(small, tmp_path / "out", single_trials=False, brainscore=False)
        assert read
        assert len(read) == len(set(read))

    def test_a_region_is_read_again_where_subjects_agree_at_chance(
        self, small: SmallNSD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(subject_agreement, "FEWEST_IMAGES_OF_SUSPICION", 1)
        given = []
        of_responses = steps_of_checks.rdm_reliability
        monkeypatch.setattr(
            steps_of_checks,
            "rdm_reliability",
            lambda responses: given.append(responses) or of_responses(responses),
        )
        run(small, tmp_path / "out", single_trials=False, brainscore=False)
        assert given
        with xr.open_dataarray(tmp_path / "out" / "Allen2022.V1.nc") as assembly:
            of_subject = assembly[:, assembly["subject"] == "subj01"].to_numpy()
        assert any(
            averages.shape == of_subject.shape and np.array_equal(averages, of_subject)
            for averages in (responses.mean(axis=1) for responses in given)
        )

    @pytest.mark.slow
    def test_checks_are_the_same_where_the_assemblies_are_those_of_an_earlier_run(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        options = {"single_trials": False, "brainscore": False, "cache_dir": tmp_path / "cache"}
        before = run(small, tmp_path / "out", **options)
        (record,) = (tmp_path / "cache").rglob("examine-*.json")
        record.unlink()
        (tmp_path / "out" / "reliability.csv").unlink()
        assert run(small, tmp_path / "out", **options) == before


class TestSingleTrials:
    def test_all_trials_are_read_once_for_assemblies_and_single_trials(
        self, small: SmallNSD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from nsd_prep.dataset import betas

        out, read = tmp_path / "out", []
        read_voxels = betas.read_voxels
        monkeypatch.setattr(
            betas, "read_voxels", lambda path, *rest: read.append(path) or read_voxels(path, *rest)
        )
        options = {"regions_file": None, "brainscore": False, "subjects": [1]}
        run(small, out, single_trials=True, assemblies=False, **options)
        n_sessions = len(read)
        assert n_sessions == small.sessions[1]
        run(small, out, **options)
        assert len(read) == n_sessions

    @pytest.mark.slow
    def test_they_are_checked_and_have_a_page_of_their_own(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        options = {"regions_file": None, "brainscore": False, "subjects": [1], "regions": ["V1"]}
        run(small, out, assemblies=False, report=True, **options)
        checks = pd.read_csv(out / "checks.csv").set_index("name")
        assert {"voxels of a session with data", "mask in the brain"} <= set(checks.index)
        assert "single trials belong to their images" in checks.index
        page = (out / "report" / "index.html").read_text()
        for name in ("trials-by-session-subj01", "trial-reliability-subj01", "one-voxel-subj01"):
            assert (out / "report" / "figures" / f"{name}.png").stat().st_size > 1000
            assert name in page
        voxels = pd.read_csv(out / "subj01_voxels.csv")
        with xr.open_dataset(out / "subj01.nc") as dataset:
            responses = dataset["response"].to_numpy()
            rows = {
                (int(nsd_id), int(repetition)): row
                for row, (nsd_id, repetition) in enumerate(
                    zip(dataset["nsd_id"].values, dataset["repetition"].values, strict=True)
                )
            }
        twice = [nsd_id for nsd_id, repetition in rows if repetition == 1]
        halves = [responses[[rows[nsd_id, half] for nsd_id in twice]] for half in (0, 1)]
        for voxel in range(len(voxels)):
            one, two = (half[:, voxel].astype(np.float64) for half in halves)
            found = voxels["first_second_correlation"][voxel]
            if one.std() == 0 or two.std() == 0:
                assert np.isnan(found)
            else:
                assert np.isclose(found, np.corrcoef(one, two)[0, 1], atol=1e-6)
        before = digests(out)
        run(small, out, assemblies=False, report=True, **options)
        assert digests(out) == before

    @pytest.mark.slow
    def test_what_another_format_left_is_not_read(self, small: SmallNSD, tmp_path: Path) -> None:
        pytest.importorskip("zarr")
        options = {"regions_file": None, "assemblies": False, "subjects": [1], "format": "zarr"}
        expected = run(small, tmp_path / "empty", regions=["V1"], **options)
        run(small, tmp_path / "out", regions=["IT"], **options | {"format": "netcdf"})
        again = run(small, tmp_path / "out", regions=["V1"], **options, replace=True)
        assert again == expected

    @pytest.mark.slow
    @pytest.mark.parametrize("version_0_4", [False, True])
    def test_replace_removes_a_store_that_nobody_has_changed(
        self, small: SmallNSD, tmp_path: Path, version_0_4: bool
    ) -> None:
        pytest.importorskip("zarr")
        out = tmp_path / "out"
        options = {"regions_file": None, "assemblies": False, "subjects": [1], "regions": ["V1"]}
        run(small, out, format="zarr", **options)
        if version_0_4:
            state_sha256_in_manifest(out)
        left = run(small, out, format="netcdf", replace=True, **options)
        assert "subj01.nc" in left
        assert not (out / "subj01.zarr").exists()
        run(small, out, format="zarr", replace=True, **options)
        (out / "subj01.zarr" / "mine.txt").write_text("mine")
        run(small, out, format="netcdf", replace=True, **options)
        assert (out / "subj01.zarr" / "zarr.json").exists()

    def test_averages_over_shared_images_are_the_rows_of_the_assembly(
        self, small: SmallNSD, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        options = {"regions": ["V1"], "regions_file": None, "subjects": [1], "brainscore": False}
        run(small, out, average=True, images="shared", **options)
        with (
            xr.open_dataset(out / "trials" / "subj01.nc") as single,
            xr.open_dataarray(out / "Allen2022.V1.nc") as assembly,
        ):
            ids = single["nsd_id"].to_numpy()
            rows = [int(np.flatnonzero(ids == nsd_id)[0]) for nsd_id in assembly["nsd_id"].values]
            np.testing.assert_array_equal(single["response"].values[rows], assembly.values)


@pytest.mark.slow
def test_the_root_of_a_dataset_is_not_changed(small: SmallNSD, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in small.root.rglob("*") if path.is_file()}
    run(small, tmp_path / "out")
    assert {path: path.read_bytes() for path in before} == before
    assert shutil.disk_usage(tmp_path).free
