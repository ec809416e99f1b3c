"""Whole runs without Prefect: what is written, what is read again, how they fail."""

import contextlib
import errno
import inspect
import json
import os
import pydoc
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import reference
import xarray as xr
from blake3 import blake3
from library_stages import planned
from small_nsd import write_small_nsd

import nsd_prep
from nsd_prep.core.errors import ExtractionError, FailedChecksError, ParameterError, PreflightError
from nsd_prep.core.parameters import parameters
from nsd_prep.dataset import betas
from nsd_prep.dataset.regions import BUILT_IN_REGIONS
from nsd_prep.pipeline import composition
from nsd_prep.pipeline.composition import RunResult
from nsd_prep.pipeline.steps import report

READ_VOXELS = betas.read_voxels
SLOW = pytest.mark.slow


@pytest.fixture
def sessions_read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Return a list that notes every reading of betas: the file's name and how many voxels."""
    noted: list[tuple[str, int]] = []
    read_voxels = betas.read_voxels

    def read_and_note(path: Path, voxels: np.ndarray, *rest: Any) -> np.ndarray:
        noted.append((f"{path.parents[0]}/{path.name}", len(voxels)))
        return read_voxels(path, voxels, *rest)

    monkeypatch.setattr(betas, "read_voxels", read_and_note)
    return noted


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_nsd: Path) -> tuple[Path, Path]:
    """Return a dataset and the output of an undisturbed run on it; tests do not change them."""
    output = tmp_path_factory.mktemp("finished") / "out"
    prepare(nsd_root=tiny_nsd, output_dir=output)
    return tiny_nsd, output


def prepare(**parameters: Any) -> RunResult:
    """Prepare without the last stages, which have their own tests."""
    return nsd_prep.prepare(
        **{"report": False, "brainscore": False, "progress": False} | parameters
    )


#: `b3sum --check --quiet`, where the real one is not installed.
B3SUM = """#!{python}
import sys
from pathlib import Path
from blake3 import blake3

assert sys.argv[1:] == ["--check", "--quiet"]
lines = [line.rstrip("\\n").split("  ") for line in sys.stdin]
failed = [name for digest, name in lines if blake3(Path(name).read_bytes()).hexdigest() != digest]
for name in failed:
    print(f"{{name}}: FAILED")
sys.exit(bool(failed or not lines))
"""


def digests(folder: Path) -> dict[str, str]:
    """Return the BLAKE3 of every output, but for the manifest with its timings."""
    return {
        path.name: blake3(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file() and path.name not in ("manifest.json", ".nsd-prep.lock")
    }


class TestResults:
    @pytest.mark.parametrize("layout", ["official", "flat"])
    def test_every_assembly_equals_the_reference_bit_for_bit(
        self, tmp_path: Path, layout: str
    ) -> None:
        small = write_small_nsd(tmp_path / "nsd", layout=layout)
        subjects = list(small.sessions)[::-1]
        # The small dataset is noise, and the checks say so after everything is written.
        with pytest.raises(FailedChecksError):
            prepare(
                nsd_root=small.root,
                output_dir=tmp_path / "out",
                subjects=subjects,
                regions=["V1", "IT"],
            )
        rows = [
            row
            for subject in subjects
            for row in reference.shared_trials(
                *reference.design(small.design_path),
                subject,
                small.sessions[subject],
                small.trials_per_session,
            )
        ]
        nsd_ids = reference.usable_images(rows, subjects)
        reliability = pd.read_csv(tmp_path / "out" / "reliability.csv")
        voxels = pd.read_csv(tmp_path / "out" / "voxels.csv")
        for region in ("V1", "IT"):
            ((volume, labels),) = BUILT_IN_REGIONS[region].labels.items()
            responses = [
                reference.responses(small, subject, volume, labels, nsd_ids) for subject in subjects
            ]
            expected = [one.mean(axis=1) for one in responses]
            in_region = reliability["region"] == region
            whole = (voxels.loc[in_region, "sessions_without_data"] == 0).to_numpy()
            repetitions = np.concatenate(responses, axis=2)[:, :, whole].transpose(2, 1, 0)
            split_half = [np.corrcoef(voxel)[np.triu_indices(3, 1)].mean() for voxel in repetitions]
            found = reliability.loc[in_region, "split_half_correlation"]
            np.testing.assert_allclose(found[whole], split_half, rtol=1e-4, atol=1e-6)
            with xr.open_dataarray(tmp_path / "out" / f"Allen2022.{region}.nc") as assembly:
                np.testing.assert_array_equal(assembly.values, np.concatenate(expected, axis=1))
                assert assembly["nsd_id"].values.tolist() == nsd_ids

    @pytest.mark.slow
    def test_same_bytes_in_another_folder_with_other_workers(
        self, finished: tuple[Path, Path], tmp_path: Path
    ) -> None:
        root, output = finished
        prepare(nsd_root=root, output_dir=tmp_path / "elsewhere", workers=5)
        assert digests(tmp_path / "elsewhere") == digests(output)

    def test_the_manifest_can_be_handed_to_b3sum(
        self, finished: tuple[Path, Path], tmp_path: Path
    ) -> None:
        _, output = finished
        page = (Path(__file__).parents[1] / "docs" / "output-files.md").read_text()
        (block,) = re.findall(r"^```bash\ncd nsd-prep-output\n(.*?)^```", page, re.M | re.S)
        stand_in = tmp_path / "b3sum"
        stand_in.write_text(B3SUM.format(python=sys.executable))
        stand_in.chmod(0o755)
        environment = os.environ | {"PATH": f"{os.environ['PATH']}:{tmp_path}"}
        copy = shutil.copytree(output, tmp_path / "copy")
        verify = partial(subprocess.run, ["bash", "-c", block], cwd=copy, env=environment)
        assert verify().returncode == 0
        manifest = json.loads((copy / "manifest.json").read_text())
        manifest["outputs"]["trials.csv"] = {"sha256": "of version 0.4"}
        (copy / "manifest.json").write_text(json.dumps(manifest))
        assert verify(capture_output=True).stderr == b""
        with (copy / "voxels.csv").open("a") as file:
            file.write("altered")
        answer = verify(capture_output=True, text=True)
        assert answer.returncode == 1
        assert answer.stdout == "voxels.csv: FAILED\n"

    def test_manifest_lists_every_output_with_its_digest(self, finished: tuple[Path, Path]) -> None:
        root, output = finished
        manifest = json.loads((output / "manifest.json").read_text())
        listed = {name: item["blake3"] for name, item in manifest["outputs"].items()}
        assert listed == digests(output)
        assert {item["path"] for item in manifest["inputs"]} >= {
            str(path.resolve()) for path in root.rglob("ncsnr.nii.gz")
        }
        assert "betas_session01.hdf5" in {Path(item["path"]).name for item in manifest["inputs"]}

    def test_tables_agree_with_the_assemblies(self, finished: tuple[Path, Path]) -> None:
        _, output = finished
        voxels = pd.read_csv(output / "voxels.csv")
        for region, of_region in voxels.groupby("region"):
            with xr.open_dataarray(output / f"Allen2022.{region}.nc") as assembly:
                assert assembly["neuroid_id"].values.tolist() == of_region["neuroid_id"].tolist()
                np.testing.assert_allclose(assembly["nc_testset"], of_region["noise_ceiling"])
        trials = pd.read_csv(output / "trials.csv")
        split = pd.read_csv(output / "train_test_split.csv")
        assert sorted(trials.loc[trials["usable"], "nsd_id"].unique()) == split["nsd_id"].tolist()
        assert not (pd.read_csv(output / "checks.csv")["verdict"] == "failed").any()

    def test_columns_of_the_tables_are_those_of_the_documentation(
        self, finished: tuple[Path, Path]
    ) -> None:
        _, output = finished
        text = (Path(__file__).parents[1] / "docs" / "output-files.md").read_text()
        documented = dict(
            re.findall(r"^\| `(\w+\.csv)` \|[^|]*\| ([^|;]*?)(?:;[^|]*)? \|$", text, re.M)
        )
        assert sorted(documented) == sorted(path.name for path in output.glob("*.csv"))
        for name, columns in documented.items():
            named = re.sub(r" \([^)]*\)", "", columns).replace(" and ", ", ").split(", ")
            assert pd.read_csv(output / name).columns.tolist() == named, name

    @pytest.mark.slow
    def test_dropped_voxels_are_those_without_data_in_some_session(
        self, finished: tuple[Path, Path], tmp_path: Path
    ) -> None:
        root, output = finished
        prepare(
            nsd_root=root,
            output_dir=tmp_path / "out",
            cache_dir=output / "cache",
            invalid_voxels="drop",
        )
        kept = pd.read_csv(tmp_path / "out" / "voxels.csv")
        everything = pd.read_csv(output / "voxels.csv")
        place = ["subject", "region", "voxel_x", "voxel_y", "voxel_z"]
        whole = everything[everything["sessions_without_data"] == 0]
        assert 0 < len(kept) < len(everything)
        pd.testing.assert_frame_equal(
            kept[place].reset_index(drop=True), whole[place].reset_index(drop=True)
        )

    def test_own_regions_are_made_beside_the_built_in_ones(
        self, finished: tuple[Path, Path], tmp_path: Path
    ) -> None:
        root, _ = finished
        (tmp_path / "own.toml").write_text(
            '[V1-left]\nhemisphere = "lh"\nlabels.prf-visualrois = [1, 2]\n'
        )
        prepare(
            nsd_root=root,
            output_dir=tmp_path / "out",
            regions=["V1"],
            regions_file=tmp_path / "own.toml",
        )
        with (
            xr.open_dataarray(tmp_path / "out" / "Allen2022.V1.nc") as both,
            xr.open_dataarray(tmp_path / "out" / "Allen2022.V1-left.nc") as left,
        ):
            assert 0 < left.sizes["neuroid"] < both.sizes["neuroid"]

    def test_without_others_own_regions_are_the_only_ones(
        self, finished: tuple[Path, Path], tmp_path: Path
    ) -> None:
        """As on the command line."""
        root, _ = finished
        own = tmp_path / "own.toml"
        own.write_text("[mine]\nlabels.prf-visualrois = [1, 2]\n")
        result = prepare(nsd_root=root, output_dir=tmp_path / "out", regions_file=own)
        assert [name for name in result.files if name.startswith("Allen2022.")] == [
            "Allen2022.mine.nc"
        ]

    @pytest.mark.slow
    def test_any_two_tables_meet_on_their_keys(self, tiny_nsd: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        options = {"subjects": [1, 2], "regions": ["V1", "V2"], "single_trials": True}
        prepare(nsd_root=tiny_nsd, output_dir=out, report=True, brainscore=True, **options)
        text = (Path(__file__).parents[1] / "docs" / "output-files.md").read_text()
        (listed,) = re.findall(r"Tables can be joined on the columns ([^.]*)\.", text)
        keys = re.findall(r"`(\w+)`", listed)
        tables = {path.name: pd.read_csv(path) for path in out.rglob("*.csv")}
        assert len(tables) == len(list(out.rglob("*.csv")))  # no name stands twice
        # Checks are of several regions, and subjects, at a time; a file is of one subject's trials.
        del tables["checks.csv"], tables["subj02.csv"], tables["subj02_voxels.csv"]
        n_met = 0
        for (first, one), (second, other) in combinations(tables.items(), 2):
            on = [key for key in keys if key in one and key in other]
            if {"stimulus_metadata_train.csv", "stimulus_metadata_test.csv"} == {first, second}:
                continue  # no image is in both
            if on:
                n_met += 1
                rows = one[on].drop_duplicates().merge(other[on].drop_duplicates())
                assert len(rows), (first, second, on)
        assert n_met > 50
        voxels, reliability = tables["voxels.csv"], tables["reliability.csv"]
        both = voxels.merge(reliability, validate="1:1")
        assert both["neuroid_id"].tolist() == voxels["neuroid_id"].tolist()
        own = voxels.merge(tables["subj01_voxels.csv"])  # noise ceilings are the same too
        assert len(own) == (voxels["subject"] == "subj01").sum()

    @pytest.mark.slow
    def test_cross_validated_distances_are_an_option_of_the_report(
        self, tiny_nsd: Path, tmp_path: Path
    ) -> None:
        options = {"nsd_root": tiny_nsd, "output_dir": tmp_path / "out", "regions": ["V1", "V2"]}
        tables = tmp_path / "out" / "report" / "tables"
        prepare(report=True, **options, crossnobis=True)
        found = pd.read_csv(tables / "crossnobis.csv").set_index("region")
        assert list(found.index) == ["V1", "V2"]
        assert (found["mean_distance"] > 0).all()
        assert (found["r_with_1_minus_r"] > 0.3).all()
        assert (tables.parent / "figures" / "crossnobis-rdms.png").stat().st_size > 1000
        prepare(report=True, **options)
        assert not (tables / "crossnobis.csv").exists()

    def test_what_brainscore_packages_is_part_of_a_run(
        self, tiny_nsd: Path, tmp_path: Path
    ) -> None:
        options = {"nsd_root": tiny_nsd, "output_dir": tmp_path / "out", "regions": ["V1", "IT"]}
        prepare(**options, brainscore=True, suffix="_3subj")
        folder = tmp_path / "out" / "brainscore"
        split = pd.read_csv(tmp_path / "out" / "train_test_split.csv").groupby("split").size()
        with (
            xr.open_dataarray(folder / "Allen2022_fmri_train_3subj.nc") as train,
            xr.open_dataarray(folder / "Allen2022_fmri_test_3subj.nc") as test,
        ):
            assert train.sizes["presentation"] == split["train"]
            assert test.sizes["presentation"] == 3 * split["test"]
            assert set(train["region"].values) == {"V1", "IT"}
        assert len(list(folder.glob("stimuli_*/*.png"))) == split.sum()
        listed = json.loads((tmp_path / "out" / "manifest.json").read_text())["outputs"]
        assert "brainscore/stimulus_metadata_test_3subj.csv" in listed

    @pytest.mark.slow
    def test_a_second_process_changes_no_byte_of_the_report(
        self,
        tiny_nsd: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        options = {"nsd_root": tiny_nsd, "regions": ["V1", "IT"], "report": True}
        listed = []
        for folder in (tmp_path / "here", tmp_path / "elsewhere"):
            prepare(**options, output_dir=folder, brainscore=True)
            outputs = json.loads((folder / "manifest.json").read_text())["outputs"]
            listed.append({name: file["blake3"] for name, file in outputs.items()})
            monkeypatch.setattr(report, "_VOXELS_WORTH_A_PROCESS", 0)
        assert "report/index.html" in listed[0]
        assert "report/tables/encoding.csv" in listed[0]
        assert listed[0] == listed[1]
        assert "worker process" not in caplog.text, "the process worked to the end"


class TestStore:
    @pytest.mark.slow
    def test_what_is_whole_is_not_made_again(self, tiny_nsd: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        options = {"nsd_root": tiny_nsd, "output_dir": out, "regions": ["V1"], "brainscore": True}
        first = prepare(**options)
        whole, damaged = out / "brainscore" / "Allen2022_fmri_test.nc", out / "Allen2022.V1.nc"
        times = [path.stat().st_mtime_ns for path in (whole, damaged)]
        damaged.write_bytes(damaged.read_bytes()[:-1])
        assert prepare(**options).files == first.files
        assert whole.stat().st_mtime_ns == times[0]
        assert damaged.stat().st_mtime_ns > times[1]
        prepare(**options, refresh=True)
        assert whole.stat().st_mtime_ns > times[0]

    def test_the_same_again_reads_no_session(
        self, tiny_nsd: Path, tmp_path: Path, sessions_read: list[Any]
    ) -> None:
        prepare(nsd_root=tiny_nsd, output_dir=tmp_path / "out")
        assert len(sessions_read) == 15
        before = digests(tmp_path / "out")
        sessions_read.clear()
        prepare(nsd_root=tiny_nsd, output_dir=tmp_path / "out")
        assert sessions_read == []
        assert digests(tmp_path / "out") == before

    @pytest.mark.slow
    def test_refresh_reads_every_session_again(
        self, tiny_nsd: Path, tmp_path: Path, sessions_read: list[Any]
    ) -> None:
        options = {"nsd_root": tiny_nsd, "output_dir": tmp_path / "out", "subjects": [1]}
        prepare(**options)
        n_sessions = len(sessions_read)
        prepare(**options, refresh=True)
        assert len(sessions_read) == 2 * n_sessions

    @pytest.mark.slow
    def test_other_choices_read_only_what_is_new(
        self, tiny_nsd: Path, tmp_path: Path, sessions_read: list[Any]
    ) -> None:
        options = {"nsd_root": tiny_nsd, "cache_dir": tmp_path / "cache"}
        prepare(**options, output_dir=tmp_path / "a", subjects=[1, 2], regions=["V1", "V2"])
        files = {file for file, _ in sessions_read}
        sessions_read.clear()
        prepare(**options, output_dir=tmp_path / "b", subjects=[2], regions=["V2"], seed=7)
        assert sessions_read == []
        prepare(**options, output_dir=tmp_path / "c", subjects=[5, 1], regions=["V1"])
        assert {file for file, _ in sessions_read}.isdisjoint(files)
        assert sessions_read
        sessions_read.clear()
        prepare(**options, output_dir=tmp_path / "d", subjects=[1], regions=["V1", "V4"])
        n_voxels = (pd.read_csv(tmp_path / "d" / "voxels.csv")["region"] == "V4").sum()
        assert {n for _, n in sessions_read} == {n_voxels}


class TestFailures:
    def failing_once(
        self, monkeypatch: pytest.MonkeyPatch, fails: Callable[[Path, int], bool]
    ) -> dict[Path, int]:
        """Make reading fail as a bad disk does where `fails` says so of a file and an attempt."""
        attempts: dict[Path, int] = {}

        def read(path: Path, *rest: Any) -> np.ndarray:
            attempts[path] = attempts.get(path, 0) + 1
            if fails(path, attempts[path]):
                raise OSError(errno.EIO, "Input/output error", str(path))
            return READ_VOXELS(path, *rest)

        monkeypatch.setattr(betas, "read_voxels", read)
        return attempts

    def test_all_failures_are_said_together_and_the_rest_is_kept(
        self, tiny_nsd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = {"nsd_root": tiny_nsd, "output_dir": tmp_path / "out", "subjects": [1, 2]}
        damaged = ("betas_session02.hdf5", "betas_session04.hdf5")
        attempts = self.failing_once(monkeypatch, lambda path, _: path.name in damaged)
        with pytest.raises(ExtractionError) as raised:
            prepare(**options)
        assert len(raised.value.problems) == 4
        assert "subject 2, session 4" in raised.value.problems[3]
        assert not list((tmp_path / "out").glob("*.nc"))
        assert not (tmp_path / "out" / "manifest.json").exists()
        whole = {path for path in attempts if path.name not in damaged}
        attempts = self.failing_once(monkeypatch, lambda _path, _attempt: False)
        prepare(**options)
        assert whole
        assert whole.isdisjoint(attempts)

    def test_a_file_that_is_gone_after_preflight_fails_alone(
        self, tiny_nsd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = tmp_path / "nsd"
        shutil.copytree(tiny_nsd, root)
        gone = min(path for path in root.rglob("betas_session03.hdf5") if "subj01" in str(path))
        load_inputs = composition.load_inputs

        def load_inputs_and_lose_a_file(*arguments: Any) -> Any:
            inputs = load_inputs(*arguments)
            gone.unlink()
            return inputs

        monkeypatch.setattr(composition, "load_inputs", load_inputs_and_lose_a_file)
        with pytest.raises(ExtractionError) as raised:
            prepare(nsd_root=root, output_dir=tmp_path / "out", subjects=[1])
        assert [str(gone) in problem for problem in raised.value.problems] == [True]
        stored = {path.parent.name for path in (tmp_path / "out" / "cache").rglob("*.npy")}
        assert len(stored) > 1
        assert "subj01-session03" not in stored

    def test_a_failed_check_fails_the_run_after_everything_is_written(self, tmp_path: Path) -> None:
        small = write_small_nsd(tmp_path / "nsd")
        (small.root / "dataset.json").unlink(missing_ok=True)
        description = {
            "name": "small",
            "trials_per_session": small.trials_per_session,
            "sessions": {str(subject): n for subject, n in small.sessions.items()},
        }
        (small.root / "dataset.json").write_text(json.dumps(description))
        subject = min(small.sessions)
        nan = small.ncsnr[subject] * np.float32("nan")
        import small_nsd

        small_nsd.write_volume(small.ncsnr_path(subject), nan)
        with pytest.raises(FailedChecksError, match="voxels with data"):
            prepare(nsd_root=small.root, output_dir=tmp_path / "out", regions=["V1"])
        assert (tmp_path / "out" / "manifest.json").exists()
        checks = pd.read_csv(tmp_path / "out" / "checks.csv")
        assert "voxels with data" in checks.loc[checks["verdict"] == "failed", "name"].tolist()

    def test_everything_wrong_with_the_inputs_is_said_at_once(self, tmp_path: Path) -> None:
        small = write_small_nsd(tmp_path / "nsd")
        first, second = sorted(small.sessions)[:2]
        small.betas_path(first, 1).unlink()
        small.betas_path(second, 2).write_bytes(b"not HDF5")
        small.ncsnr_path(second).unlink()
        with pytest.raises(PreflightError) as raised:
            prepare(nsd_root=small.root, output_dir=tmp_path / "out", regions=["V1"])
        text = str(raised.value)
        assert str(small.betas_path(first, 1)) in text
        assert str(small.betas_path(second, 2)) in text
        assert str(small.ncsnr_path(second)) in text
        assert not list((tmp_path / "out").glob("*.csv"))

    def test_two_runs_at_once_into_one_folder_are_refused(
        self, tiny_nsd: Path, tmp_path: Path
    ) -> None:
        from filelock import FileLock

        (tmp_path / "out").mkdir()
        with (
            FileLock(tmp_path / "out" / ".nsd-prep.lock"),
            pytest.raises(ParameterError, match="Another run"),
        ):
            prepare(nsd_root=tiny_nsd, output_dir=tmp_path / "out")


class TestParameters:
    @pytest.mark.parametrize(
        ("wrong", "named"),
        [
            ({"subjects": [0]}, "subjects"),
            ({"subjects": [9]}, "subjects"),
            ({"regions": ["V9"]}, "regions"),
            ({"seed": -1}, "seed"),
            ({"train_fraction": 1.0}, "train_fraction"),
            ({"invalid_voxels": "fix"}, "invalid_voxels"),
            ({"workers": 0}, "workers"),
            ({"runner": "dask"}, "runner"),
        ],
    )
    def test_a_wrong_value_is_refused_by_its_name(
        self, tiny_nsd: Path, tmp_path: Path, wrong: dict[str, Any], named: str
    ) -> None:
        with pytest.raises(ParameterError, match=f"{named}="):
            prepare(nsd_root=tiny_nsd, output_dir=tmp_path / "out", **wrong)
        assert not (tmp_path / "out").exists()

    def test_all_subjects_are_taken_where_none_are_named(
        self, tiny_nsd: Path, tmp_path: Path
    ) -> None:
        assert planned(tiny_nsd, tmp_path, subjects=None).subjects == (1, 2, 5)

    def test_a_list_of_subjects_that_is_cleared_is_refused(
        self, tiny_nsd: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(ParameterError, match="No subject is chosen"):
            planned(tiny_nsd, tmp_path, subjects=[])

    def test_checking_computes_nothing(
        self, tiny_nsd: Path, tmp_path: Path, sessions_read: list[Any]
    ) -> None:
        prepare(nsd_root=tiny_nsd, output_dir=tmp_path / "out", check=True)
        assert sessions_read == []
        assert not list((tmp_path / "out").glob("*.csv"))

    def test_sessions_without_a_training_image_are_named_before_the_run(
        self, tiny_nsd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = {"nsd_root": tiny_nsd, "subjects": [1], "regions": ["V1"], "check": True}
        options |= {"single_trials": True, "assemblies": False, "normalise": "train-only"}
        prepare(output_dir=tmp_path / "out", **options)

        def training(trials: pd.DataFrame, split: str) -> np.ndarray:
            assert split == "shared1000"
            return ~trials["session"].isin([2, 5]).to_numpy()

        monkeypatch.setattr("nsd_prep.pipeline.loading.training_trials", training)
        with pytest.raises(PreflightError, match="Sessions 2, 5 of subject 1 show no training"):
            prepare(output_dir=tmp_path / "out", **options)

    def test_an_unknown_one_is_named(self) -> None:
        with pytest.raises(ParameterError, match="no parameter 'region'"):
            prepare(region="V1")

    def test_the_signature_is_that_of_the_parameters(self) -> None:
        signature = inspect.signature(nsd_prep.prepare)
        assert list(signature.parameters) == [*inspect.signature(parameters).parameters, "progress"]
        assert signature.return_annotation is RunResult

    def test_help_is_readable_and_describes_each_of_them(self) -> None:
        # Annotated types have what they are checked by: functions and their addresses.
        text = pydoc.render_doc(nsd_prep.prepare, renderer=pydoc.plaintext)
        assert "Annotated" not in text
        assert " at 0x" not in text
        for name in inspect.signature(nsd_prep.prepare).parameters:
            assert re.search(rf"^ +{name}( : bool)?\n +\S", text, re.MULTILINE), name


class TestWhatIsShown:
    def test_nothing_where_no_progress_is_wanted(
        self, tiny_nsd: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        result = prepare(nsd_root=tiny_nsd, output_dir=tmp_path / "out", regions=["V1"])
        assert capfd.readouterr() == ("", "")
        listed = json.loads((tmp_path / "out" / "manifest.json").read_text())["outputs"]
        assert result.files == {name: item["blake3"] for name, item in listed.items()}
        written = pd.read_csv(tmp_path / "out" / "checks.csv")
        assert result.checks["verdict"].tolist() == written["verdict"].tolist()
        assert result.output_dir == tmp_path / "out"

    def test_missing_images_leave_out_the_stimulus_sets_alone(
        self, tiny_nsd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root, out = tmp_path / "nsd", tmp_path / "out"
        shutil.copytree(tiny_nsd, root)
        images = next(root.rglob("nsd_stimuli.hdf5"))
        images.unlink()
        options = {"regions": ["V1"], "brainscore": True, "progress": True}
        prepare(nsd_root=root, output_dir=out, **options)
        shown = capsys.readouterr().out
        assert f"no stimulus sets were made: The stimulus file {images} is missing" in shown
        assert "Allen2022.V1.nc" in shown
        assert (out / "brainscore" / "Allen2022_fmri_train.nc").exists()
        checks = pd.read_csv(out / "checks.csv").set_index("name")
        assert checks.loc["stimulus sets", "verdict"] == "not decidable"
        assert str(images) in checks.loc["stimulus sets", "value"]


class TestSessionsOfSingleTrialsAlone:
    @pytest.mark.slow
    def test_zeros_in_one_are_found_beside_assemblies_too(
        self, tiny_nsd: Path, tmp_path: Path
    ) -> None:
        root = tmp_path / "nsd"
        shutil.copytree(tiny_nsd, root)
        (last,) = root.rglob("subj01/func1pt8mm/*/betas_session06.hdf5")
        with h5py.File(last, "r+") as file:
            file["betas"][...] = 0
        options = {"nsd_root": root, "subjects": [1], "regions": ["V1"]}
        options |= {"brainscore": False, "report": False}
        prepare(**options, output_dir=tmp_path / "assemblies")
        for assemblies in (True, False):
            out = tmp_path / f"trials-{assemblies}"
            prepare(**options, output_dir=out, single_trials=True, assemblies=assemblies)
            checks = pd.read_csv(out / "checks.csv")
            (found,) = checks[checks["name"] == "voxels of a session with data"].itertuples()
            assert found.verdict == "suspicious"  # the region has few voxels
            assert "session 6" in found.value
            assert not checks.duplicated(["name", "where"]).any()

    def test_one_in_reverse_is_found_by_its_repetitions(
        self, tiny_nsd: Path, tmp_path: Path
    ) -> None:
        root, out = tmp_path / "nsd", tmp_path / "out"
        shutil.copytree(tiny_nsd, root)
        (last,) = root.rglob("subj01/func1pt8mm/*/betas_session06.hdf5")
        with h5py.File(last, "r+") as file:
            file["betas"][...] = file["betas"][...][::-1]
        options = {"subjects": [1], "single_trials": True, "assemblies": False, "report": False}
        with contextlib.suppress(FailedChecksError):
            prepare(nsd_root=root, output_dir=out, regions=["nsdgeneral"], **options)
        checks = pd.read_csv(out / "checks.csv").set_index(["name", "where"])
        found = checks.loc[("sessions in their places", "subj01, single trials")]
        assert found["verdict"] in ("failed", "suspicious")
        assert "session 6 of 6" in found["value"]
