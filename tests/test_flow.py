"""The flow through Prefect's own harness: what is written, what is read again, how it fails."""

import contextlib
import errno
import functools
import hashlib
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import reference
import scipy.io
import xarray as xr
from brainscore_inputs import write_features
from library_stages import planned
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from prefect.testing.utilities import prefect_test_harness
from small_nsd import SmallNSD, write_small_nsd

from nsd_prep.analysis.features import Features
from nsd_prep.core import progress
from nsd_prep.core.errors import ExtractionError, FailedChecksError, ParameterError, PreflightError
from nsd_prep.dataset import betas
from nsd_prep.dataset.regions import BUILT_IN_REGIONS
from nsd_prep.flows.command import main, run_command
from nsd_prep.flows.nsd_flow import nsd_flow
from nsd_prep.report.stamp import without_stamp
from nsd_prep.tasks import assembly as assembly_tasks
from nsd_prep.tasks import extraction as extraction_tasks

READ_VOXELS = betas.read_voxels
SLOW = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start one temporary server for all the tests of this file."""
    storage = {PREFECT_LOCAL_STORAGE_PATH: tmp_path_factory.mktemp("results")}
    with prefect_test_harness(server_startup_timeout=120), temporary_settings(storage):
        yield


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    for task in (extraction_tasks.extract_chunk, assembly_tasks.assemble_region):
        monkeypatch.setattr(task, "retry_delay_seconds", 0)
        monkeypatch.setattr(task, "retry_jitter_factor", None)


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


def prepare(**parameters: Any) -> Any:
    """Run the flow without its last stages, which have their own tests."""
    return nsd_flow(**{"report": False, "brainscore": False} | parameters)


def flow_module() -> ModuleType:
    """Return the module of the flow."""
    return sys.modules["nsd_prep.flows.nsd_flow"]


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every output, but for the manifest with its timings."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
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

    def test_same_bytes_in_another_folder_with_other_workers(
        self, finished: tuple[Path, Path], tmp_path: Path
    ) -> None:
        root, output = finished
        prepare(nsd_root=root, output_dir=tmp_path / "elsewhere", workers=5)
        assert digests(tmp_path / "elsewhere") == digests(output)

    def test_manifest_lists_every_output_with_its_digest(self, finished: tuple[Path, Path]) -> None:
        root, output = finished
        manifest = json.loads((output / "manifest.json").read_text())
        listed = {name: item["sha256"] for name, item in manifest["outputs"].items()}
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

    @pytest.mark.slow
    def test_the_report_is_part_of_a_run(
        self, tiny_nsd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stages: list[progress.Stage] = []
        monkeypatch.setattr(
            progress, "_watch", lambda stage, _ended: stages.append(stage), raising=True
        )
        options = {"nsd_root": tiny_nsd, "output_dir": tmp_path / "out", "regions": ["V1", "V2"]}
        nsd_flow(**options)
        # Whatever takes long says how far it is, and ends with all its steps done.
        steps = {stage.name: (stage.done, stage.total) for stage in stages if stage.total}
        assert {
            "extracting sessions",
            "assembling regions",
            "checking files and data",
            "making train and test for Brain-Score",
            "writing stimulus sets",
            "writing the report",
        } == set(steps)
        assert all(done == total for done, total in steps.values())
        page = tmp_path / "out" / "report" / "index.html"
        first = page.stat().st_mtime_ns
        listed = json.loads((tmp_path / "out" / "manifest.json").read_text())["outputs"]
        content = without_stamp(page.read_bytes())
        assert content != page.read_bytes()
        assert listed["report/index.html"]["sha256"] == hashlib.sha256(content).hexdigest()
        nsd_flow(**options)
        assert page.stat().st_mtime_ns == first
        page.write_text("altered")
        nsd_flow(**options)
        assert "altered" not in page.read_text()[:100]

    @pytest.mark.slow
    def test_cross_validated_distances_are_an_option_of_the_report(
        self, tiny_nsd: Path, tmp_path: Path
    ) -> None:
        options = {"nsd_root": tiny_nsd, "output_dir": tmp_path / "out", "regions": ["V1", "V2"]}
        nsd_flow(**options, brainscore=False)
        tables = tmp_path / "out" / "report" / "tables"
        assert not (tables / "crossnobis.csv").exists()
        nsd_flow(**options, brainscore=False, crossnobis=True)
        found = pd.read_csv(tables / "crossnobis.csv").set_index("region")
        assert list(found.index) == ["V1", "V2"]
        assert (found["mean_distance"] > 0).all()
        assert (found["r_with_1_minus_r"] > 0.3).all()
        assert (tables.parent / "figures" / "crossnobis-rdms.png").stat().st_size > 1000
        nsd_flow(**options, brainscore=False)
        assert not (tables / "crossnobis.csv").exists()

    @pytest.mark.slow
    def test_a_report_is_written_anew_for_other_features_of_the_same_file(
        self, tiny_nsd: Path, tmp_path: Path
    ) -> None:
        features = tmp_path / "features.nc"
        design = scipy.io.loadmat(next(tiny_nsd.rglob("nsd_expdesign.mat")))
        nsd_ids = design["sharedix"].ravel().astype(np.int64) - 1
        options = {"nsd_root": tiny_nsd, "output_dir": tmp_path / "out", "regions": ["V1", "V2"]}
        tables = []
        for seed in range(2):
            values = np.random.default_rng(seed).standard_normal((len(nsd_ids), 5))
            write_features(features, Features(nsd_ids, values))
            nsd_flow(**options, features=features)
            tables.append((tmp_path / "out/report/tables/encoding.csv").read_text())
        assert tables[0] != tables[1]
        write_features(features, Features(nsd_ids[:2], values[:2]))
        with pytest.raises(PreflightError, match="features"):
            nsd_flow(**options, features=features)
        assert (tmp_path / "out" / "manifest.json").exists()

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

    def test_missing_images_leave_out_the_stimulus_sets_alone(
        self, tiny_nsd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = tmp_path / "nsd"
        shutil.copytree(tiny_nsd, root)
        images = next(root.rglob("nsd_stimuli.hdf5"))
        images.unlink()
        words = ["--nsd-root", str(root), "--output-dir", str(tmp_path / "out"), "--no-report"]
        assert run_command([*words, "--regions", "V1"]) == 0
        assert (
            f"no stimulus sets were made: The stimulus file {images} is missing"
            in capsys.readouterr().out
        )
        assert (tmp_path / "out" / "brainscore" / "Allen2022_fmri_train.nc").exists()
        checks = pd.read_csv(tmp_path / "out" / "checks.csv").set_index("name")
        assert checks.loc["stimulus sets", "verdict"] == "not decidable"
        assert str(images) in checks.loc["stimulus sets", "value"]


class TestCache:
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

    def test_results_of_another_folder_are_not_said_to_be_gone(
        self, tiny_nsd: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        options = {"nsd_root": tiny_nsd, "cache_dir": tmp_path / "cache", "regions": ["V1"]}
        options |= {"brainscore": False, "report": False}
        for name in ("first", "second"):
            prepare(output_dir=tmp_path / name, **options)
        assert "gone or altered" not in caplog.text
        (tmp_path / "second" / "Allen2022.V1.nc").write_bytes(b"other")
        prepare(output_dir=tmp_path / "second", **options)
        assert "Files of assemble-region are gone or altered" in caplog.text

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

    def test_an_output_folder_that_was_moved_goes_on(
        self, tiny_nsd: Path, tmp_path: Path, sessions_read: list[Any]
    ) -> None:
        prepare(nsd_root=tiny_nsd, output_dir=tmp_path / "out")
        (tmp_path / "out").rename(tmp_path / "moved")
        before = digests(tmp_path / "moved")
        sessions_read.clear()
        prepare(nsd_root=tiny_nsd, output_dir=tmp_path / "moved")
        assert digests(tmp_path / "moved") == before
        assert sessions_read == []
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        "damage",
        [
            "altered",
            *(pytest.param(it, marks=SLOW) for it in ("truncated", "gone", "record altered")),
        ],
    )
    def test_a_damaged_entry_is_extracted_again(
        self,
        tiny_nsd: Path,
        tmp_path: Path,
        sessions_read: list[Any],
        damage: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        options = {"nsd_root": tiny_nsd, "subjects": [1], "regions": ["V1"]}
        prepare(**options, output_dir=tmp_path / "out")
        before = digests(tmp_path / "out")
        sessions_read.clear()
        entry = min((tmp_path / "out" / "cache" / "responses").rglob("*.npy"))
        content = entry.read_bytes()
        if damage == "gone":
            entry.unlink()
        elif damage == "record altered":
            name = entry.relative_to(entry.parents[1]).as_posix()
            for record in (tmp_path / "out" / "cache").rglob("*"):
                if record.suffix != ".npy" and record.is_file() and name in record.read_text():
                    text = record.read_text()
                    altered_text = re.sub(r'(constant_voxels\\*": ?\[)', r"\g<1>0, ", text)
                    assert altered_text != text
                    record.write_text(altered_text)
        else:
            altered = content[:-1] + bytes([content[-1] ^ 1])
            entry.write_bytes(content[: len(content) // 2] if damage == "truncated" else altered)
        prepare(**options, output_dir=tmp_path / "out")
        assert len(sessions_read) == 1
        assert digests(tmp_path / "out") == before
        if damage != "record altered":  # which is as if there were none
            assert "gone or altered" in caplog.text

    @pytest.mark.slow
    @pytest.mark.parametrize("damage", ["truncated", "gone"])
    def test_damaged_outputs_are_made_again_without_reading_a_session(
        self, tiny_nsd: Path, tmp_path: Path, sessions_read: list[Any], damage: str
    ) -> None:
        prepare(nsd_root=tiny_nsd, output_dir=tmp_path / "out")
        before = digests(tmp_path / "out")
        sessions_read.clear()
        for name in before:
            output = tmp_path / "out" / name
            output.write_bytes(output.read_bytes()[:-1])
            if damage == "gone":
                output.unlink()
        prepare(nsd_root=tiny_nsd, output_dir=tmp_path / "out")
        assert digests(tmp_path / "out") == before
        assert sessions_read == []

    def test_refresh_reads_every_session_again(
        self, tiny_nsd: Path, tmp_path: Path, sessions_read: list[Any]
    ) -> None:
        options = {"nsd_root": tiny_nsd, "output_dir": tmp_path / "out", "subjects": [1]}
        prepare(**options)
        n_sessions = len(sessions_read)
        prepare(**options, refresh=True)
        assert len(sessions_read) == 2 * n_sessions


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

    def test_a_passing_fault_of_the_disk_is_tried_again(
        self,
        finished: tuple[Path, Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        root, output = finished
        attempts = self.failing_once(
            monkeypatch, lambda path, attempt: "session03" in path.name and attempt < 3
        )
        prepare(nsd_root=root, output_dir=tmp_path / "out")
        assert {n for path, n in attempts.items() if "session03" in path.name} == {3}
        assert digests(tmp_path / "out") == digests(output)
        assert "retrying" in caplog.text

    def test_all_failures_are_said_together_and_the_rest_is_kept(
        self, tiny_nsd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = {"nsd_root": tiny_nsd, "output_dir": tmp_path / "out", "subjects": [1, 2]}
        attempts = self.failing_once(
            monkeypatch,
            lambda path, _: path.name in ("betas_session02.hdf5", "betas_session04.hdf5"),
        )
        with pytest.raises(ExtractionError) as raised:
            prepare(**options)
        assert len(raised.value.problems) == 4
        assert "subject 2, session 4" in raised.value.problems[3]
        assert not list((tmp_path / "out").glob("*.nc"))
        assert not (tmp_path / "out" / "manifest.json").exists()
        whole = {path for path, n in attempts.items() if n == 1}
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
        load_inputs = flow_module().load_inputs

        def load_inputs_and_lose_a_file(*arguments: Any) -> Any:
            inputs = load_inputs(*arguments)
            gone.unlink()
            return inputs

        monkeypatch.setattr(flow_module(), "load_inputs", load_inputs_and_lose_a_file)
        with pytest.raises(ExtractionError) as raised:
            prepare(nsd_root=root, output_dir=tmp_path / "out", subjects=[1])
        assert [str(gone) in problem for problem in raised.value.problems] == [True]
        stored = {path.parent.name for path in (tmp_path / "out" / "cache").rglob("*.npy")}
        assert len(stored) > 1
        assert "subj01-session03" not in stored

    def test_a_passing_fault_after_extraction_is_tried_again(
        self, tiny_nsd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assemble, attempts = assembly_tasks.assemble_region.fn, []

        @functools.wraps(assemble)
        def assemble_at_the_second_try(*arguments: Any) -> Any:
            attempts.append(1)
            if len(attempts) == 1:
                raise OSError(errno.EIO, "Input/output error")
            return assemble(*arguments)

        monkeypatch.setattr(assembly_tasks.assemble_region, "fn", assemble_at_the_second_try)
        prepare(nsd_root=tiny_nsd, output_dir=tmp_path / "out", subjects=[1], regions=["V1"])
        assert len(attempts) == 2

    def test_a_truncated_file_is_tried_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small = write_small_nsd(tmp_path / "nsd")
        attempts = self.failing_once(monkeypatch, lambda _path, _attempt: False)
        cut = small.betas_path(min(small.sessions), 1)
        content = cut.read_bytes()
        monkeypatch.setattr("nsd_prep.dataset.betas.check_session_file", lambda *_: None)
        cut.write_bytes(content[: len(content) // 2])
        with pytest.raises(ExtractionError, match="truncated"):
            prepare(nsd_root=small.root, output_dir=tmp_path / "out", regions=["V1"])
        assert attempts[cut] == 1

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
        ],
    )
    def test_a_wrong_value_is_refused_by_its_name(
        self, tiny_nsd: Path, tmp_path: Path, wrong: dict[str, Any], named: str
    ) -> None:
        with pytest.raises(Exception, match=named):
            prepare(nsd_root=tiny_nsd, output_dir=tmp_path / "out", **wrong)
        assert not (tmp_path / "out").exists()

    def test_no_subject_chosen_means_all(self, tiny_nsd: Path, tmp_path: Path) -> None:
        plans = [planned(tiny_nsd, tmp_path, subjects=subjects) for subjects in ([], None)]
        assert plans[0] == plans[1]
        assert plans[0].subjects == (1, 2, 5)

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

    def test_the_form_lists_subjects_and_built_in_regions(self) -> None:
        properties = nsd_flow.parameters.model_dump()["properties"]
        assert set(properties) >= {"nsd_root", "output_dir", "subjects", "regions", "seed"}
        assert properties["regions"]["items"]["enum"] == list(BUILT_IN_REGIONS)
        assert all(item.get("description") for item in properties.values())


class TestRecords:
    def test_every_task_run_is_named_and_recorded(self, tiny_nsd: Path, tmp_path: Path) -> None:
        state = prepare(
            nsd_root=tiny_nsd, output_dir=tmp_path / "out", subjects=[2], return_state=True
        )
        flow_run = state.state_details.flow_run_id
        sessions = pd.read_csv(tmp_path / "out" / "trials.csv").query("usable")["session"]
        regions = len(list((tmp_path / "out").glob("*.nc")))
        # Trials, masks, noise ceilings; sessions; tables, assemblies; three kinds of checks.
        expected = 3 + sessions.nunique() + 1 + regions + 3
        deadline = time.monotonic() + 20
        names: set[str] = set()
        with get_client(sync_client=True) as client:
            while len(names) < expected and time.monotonic() < deadline:
                of_this_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
                names = {run.name for run in client.read_task_runs(flow_run_filter=of_this_run)}
        assert len(names) == expected
        assert {f"extract-subj02-session{session:02d}" for session in (1, 2, 3)} <= names
        assert {"load-masks-subj02", "assemble-V1", "assemble-IT"} <= names


class TestSessionsOfSingleTrialsAlone:
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


class TestCommand:
    def test_it_ends_well_and_shows_a_summary(
        self, tiny_nsd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["--nsd-root", str(tiny_nsd), "--output-dir", str(tmp_path / "out")]
        assert (
            run_command(
                [
                    *words,
                    "--subjects",
                    "1",
                    "5",
                    "--regions",
                    "V1",
                    "--no-report",
                    "--no-brainscore",
                ],
            )
            == 0
        )
        shown = capsys.readouterr().out
        assert "Allen2022.V1.nc" in shown
        assert str(tmp_path / "out") in shown

    def test_what_is_wrong_is_said_without_a_traceback(
        self, official: SmallNSD, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["--nsd-root", str(official.root), "--output-dir", str(tmp_path / "out")]
        for more, status, expected in (
            (["--subjects", "8"], 1, "Subject 8"),
            (["--subjects", "1", "1"], 1, "more than once"),
            (["--regions-file", str(tmp_path / "none.toml")], 1, "none.toml"),
            (["--train-fraction", "0.0001"], 1, "train"),
            (["--suffix", "a/b"], 2, "--suffix"),
            (["--suffix", "x" * 300], 2, "--suffix"),
            (["--subjects", "9"], 2, "--subjects"),
            (["--regions", "V9"], 2, '"V9" for --regions'),
            (["--regions", "v1"], 2, "Did you mean V1?"),
            (["--regions", "V1,IT"], 2, "Separate values by spaces: V1 IT"),
            (["--subjects", "1,2"], 2, "Separate values by spaces: 1 2"),
            (["--nsd-root", ""], 2, "--nsd-root is given an empty value"),
            (["--cache-dir="], 2, "--cache-dir is given an empty value"),
            (["--cache-dir", "~nosuch/x"], 1, "'~nosuch/x' cannot be used"),
            (["--cache-dir", "h\udcff"], 1, "expected a name in UTF-8"),
            (["--seed", "-1"], 2, "--seed"),
            (["--workers", "0"], 2, "--workers"),
            (["--colour"], 2, "--colour"),
        ):
            assert run_command([*words, *more]) == status, more
            shown = capsys.readouterr()
            assert expected in shown.err
            assert shown.err.startswith("error: ")
            assert "Traceback" not in shown.err + shown.out

    def test_a_command_that_is_none(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["bogus"]) == 2
        shown = capsys.readouterr().err
        assert shown.startswith("error: There is no command 'bogus': give one of run, trials, map,")
        assert "publish, deployments; --help" in shown

    def test_without_a_word_it_shows_its_commands(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([]) == 0
        assert "publish" in capsys.readouterr().out

    def test_single_trials_have_a_folder_of_their_own(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["trials", "--help"]) == 0
        assert "nsd-prep-trials" in capsys.readouterr().out

    def test_a_fault_of_the_disk_that_stays_is_said_without_a_traceback(
        self,
        tiny_nsd: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        @functools.wraps(assembly_tasks.assemble_region.fn)
        def fail(*_: Any) -> Any:
            raise OSError(errno.EIO, "Input/output error", "Allen2022.V1.nc")

        monkeypatch.setattr(assembly_tasks.assemble_region, "fn", fail)
        words = ["--nsd-root", str(tiny_nsd), "--output-dir", str(tmp_path / "out")]
        assert run_command([*words, "--subjects", "1", "--regions", "V1"]) == 1
        shown = capsys.readouterr().err
        assert "error: [Errno 5] Input/output error: 'Allen2022.V1.nc'" in shown
        assert "retrying" in shown
        assert "Traceback" not in shown

    def test_what_images_lack_is_said_before_the_run(
        self, tiny_nsd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = tmp_path / "nsd"
        shutil.copytree(tiny_nsd, root)
        (images,) = root.rglob("nsd_stimuli.hdf5")
        words = ["--nsd-root", str(root), "--output-dir", str(tmp_path / "out"), "--check"]
        assert run_command(words) == 0
        assert "No stimulus sets" not in capsys.readouterr().out
        images.write_bytes(images.read_bytes()[:1000])
        assert run_command(words) == 0
        assert "No stimulus sets will be made" in capsys.readouterr().out
        assert run_command([*words, "--no-brainscore"]) == 0
        assert "No stimulus sets" not in capsys.readouterr().out

    def test_a_check_leaves_nothing(self, tiny_nsd: Path, tmp_path: Path) -> None:
        words = ["--nsd-root", str(tiny_nsd), "--output-dir", str(tmp_path / "out"), "--check"]
        assert run_command(words) == 0
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("damage", ["truncated", "missing"])
    def test_a_damaged_truth_is_said_before_the_run(
        self, tiny_nsd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
    ) -> None:
        root = tmp_path / "nsd"
        shutil.copytree(tiny_nsd, root)
        latents = root / "truth" / "latents.npz"
        if damage == "missing":
            latents.unlink()
        else:
            latents.write_bytes(latents.read_bytes()[:-100])
        words = ["--nsd-root", str(root), "--output-dir", str(tmp_path / "out"), "--check"]
        assert run_command(words) == 1
        assert "holds no complete synthetic dataset" in capsys.readouterr().err

    def test_the_environment_names_the_root(
        self, tiny_nsd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NSD_ROOT", str(tiny_nsd))
        assert run_command(["--output-dir", str(tmp_path / "out"), "--check"]) == 0
        assert not (tmp_path / "synthetic-nsd").exists()

    def test_with_no_root_it_says_that_it_uses_synthetic_data(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.delenv("NSD_ROOT", raising=False)
        assert run_command(["--output-dir", str(tmp_path / "out"), "--check"]) == 0
        assert "synthetic NSD" in capsys.readouterr().out
        assert (tmp_path / "synthetic-nsd" / "dataset.json").exists()
