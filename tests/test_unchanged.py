"""Runs that have nothing to do: what is the same, and what is not."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from brainscore_inputs import write_features
from small_nsd import write_small_nsd

import nsd_prep
from nsd_prep.analysis.features import Features
from nsd_prep.core.errors import FailedChecksError, ParameterError
from nsd_prep.core.parameters import parameters
from nsd_prep.flows.command import main
from nsd_prep.pipeline import prepare as library
from nsd_prep.pipeline import unchanged
from nsd_prep.pipeline.composition import RunResult
from nsd_prep.pipeline.unchanged import UnchangedRun, unchanged_run

OWN_REGION = "[early-visual]\nlabels = { prf-visualrois = [1, 2, 3, 4] }\n"
#: Another value of each parameter that can be given without more.
OTHERS = {
    "subjects": [2, 1],
    "regions": ["V2", "V1"],
    "regions_file": None,
    "betas": "b2",
    "space": "fsaverage",
    "surface_files": "mgh",
    "synthetic": True,
    "accept_nsd_terms": True,
    "output_dir": Path("elsewhere"),
    "assemblies": False,
    "brainscore": False,
    "report": True,
    "single_trials": False,
    "features": None,
    "check": True,
    "refresh": True,
    "replace": True,
    "cache_dir": Path("elsewhere"),
    "workers": 3,
    "runner": "processes",
    "dask_address": "tcp://127.0.0.1:8786",
    "keep_voxels": "nsdgeneral",
    "normalise": "none",
    "images": "shared",
    "average": True,
    "split": "shared515",
    "split_file": None,
    "coco_annotations": Path("elsewhere"),
    "min_ncsnr": 0.1,
    "min_noise_ceiling": 1,
    "min_reliability": 0.1,
    "dtype": "int16",
    "format": "zarr",
    "missing_regions": "skip",
    "invalid_voxels": "drop",
    "seed": 43,
    "train_fraction": 0.7,
    "zscore_images": "train",
    "crossnobis": True,
    "suffix": "_other",
    "nsd_root": Path("elsewhere"),
}


class Finished:
    """A run that has ended: a dataset and files of the test's own, and its parameters."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.root = write_small_nsd(folder / "nsd").root
        self.out = folder / "out"
        self.own_regions = folder / "regions.toml"
        self.own_regions.write_text(OWN_REGION)
        self.split = folder / "split.csv"
        self.split.write_text("nsd_id,split\n" + "".join(f"{i},train\n" for i in range(100)))
        self.features = folder / "features.nc"
        values = np.random.default_rng(0).random((144, 3))
        write_features(self.features, Features(np.arange(144), values))
        given = {
            "nsd_root": str(self.root),
            "output_dir": self.out,
            "subjects": [1, 2],
            "regions": ["V1", "V2"],
            "regions_file": self.own_regions,
            "features": self.features,
            "split_file": self.split,
            "single_trials": True,
            "report": False,
        }
        self.parameters = parameters(**given | options)
        # The small dataset is noise, and its checks say so after everything is written.
        with suppress(FailedChecksError):
            self.prepare()

    def prepare(self, **others: Any) -> RunResult:
        """Carry out the run."""
        return nsd_prep.prepare(**self.parameters | {"progress": False} | others)

    def unchanged(self, **others: Any) -> UnchangedRun | None:
        """Return what `unchanged_run` says of the same run, or of one with other parameters."""
        return unchanged_run(self.parameters | others)

    @property
    def session(self) -> Path:
        """A file of betas that the run reads."""
        return next(self.root.rglob("subj01/**/betas_session01.hdf5"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Return a run that has ended; what tests change they put back."""
    return Finished(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def own_run(tmp_path: Path) -> Finished:
    """Return a run of the test's own that has ended."""
    return Finished(tmp_path)


@contextmanager
def other_content(path: Path) -> Iterator[None]:
    """Let a file have another byte, and put back what it held."""
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    try:
        yield
    finally:
        path.write_bytes(before)


@contextmanager
def away(path: Path) -> Iterator[None]:
    """Let a file be gone, and put it back."""
    elsewhere = path.rename(path.with_name(f"{path.name}-away"))
    try:
        yield
    finally:
        elsewhere.rename(path)


@contextmanager
def there(path: Path) -> Iterator[None]:
    """Let a file be there, and remove it."""
    assert not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    try:
        yield
    finally:
        path.unlink()


def of_input(pattern: str) -> Callable[[Finished], Path]:
    """Return what gives the first file of a dataset by a pattern."""
    return lambda run: sorted(run.root.rglob(pattern))[0]


CHANGES: dict[str, Callable[[Finished], AbstractContextManager[None]]] = {
    "dataset.json": lambda run: other_content(run.root / "dataset.json"),
    "dataset.json is gone": lambda run: away(run.root / "dataset.json"),
    "noise ceilings": lambda run: other_content(of_input("ncsnr.nii.gz")(run)),
    "labels": lambda run: other_content(of_input("*prf-visualrois.nii.gz")(run)),
    "labels are gone": lambda run: away(of_input("*prf-visualrois.nii.gz")(run)),
    "design": lambda run: other_content(of_input("nsd_expdesign.mat")(run)),
    "table of stimuli": lambda run: other_content(of_input("nsd_stim_info_merged.csv")(run)),
    "table of stimuli is gone": lambda run: away(of_input("nsd_stim_info_merged.csv")(run)),
    "a brain mask that was not there": lambda run: there(
        run.root / "nsddata/ppdata/subj01/func1pt8mm/brainmask.nii.gz"
    ),
    "images that were not there": lambda run: there(
        run.root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
    ),
    "responses of subjects that were not there": lambda run: there(
        run.root / "nsddata/ppdata/subj02/behav/responses.tsv"
    ),
    "regions of one's own": lambda run: other_content(run.own_regions),
    "regions of one's own are gone": lambda run: away(run.own_regions),
    "features": lambda run: other_content(run.features),
    "a split of one's own": lambda run: other_content(run.split),
    "an assembly": lambda run: other_content(run.out / "Allen2022.V1.nc"),
    "an assembly is gone": lambda run: away(run.out / "Allen2022.V1.nc"),
    "a table is gone": lambda run: away(run.out / "checks.csv"),
    "single trials": lambda run: other_content(run.out / "trials" / "subj01.nc"),
    "the manifest is gone": lambda run: away(run.out / "manifest.json"),
    "a run that has not ended": lambda run: there(run.out / ".nsd-prep-owned.json"),
}


class TestTheSame:
    def test_is_found_as_it_was(self, finished: Finished) -> None:
        earlier = finished.unchanged()
        assert earlier is not None
        manifest = json.loads((finished.out / "manifest.json").read_text())
        assert earlier.files == {name: e["blake3"] for name, e in manifest["outputs"].items()}
        assert earlier.n_images == manifest["images"]["number"]

    @pytest.mark.slow
    def test_refresh_before_plays_no_part(self, own_run: Finished) -> None:
        with suppress(FailedChecksError):
            own_run.prepare(refresh=True)
        assert own_run.unchanged() is not None

    def test_paths_mean_the_same_however_they_are_written(
        self, finished: Finished, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(finished.out.parent)
        same = {"output_dir": Path("out"), "nsd_root": "nsd", "features": "features.nc"}
        assert finished.unchanged(**same) is not None

    @pytest.mark.parametrize("brainscore", [True, False])
    def test_prepare_returns_and_prints_the_same_and_does_nothing(
        self,
        tiny_nsd: Path,
        tmp_path: Path,
        brainscore: bool,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        options = {"nsd_root": tiny_nsd, "output_dir": tmp_path / "out", "regions": ["V1", "V2"]}
        options |= {"report": False, "brainscore": brainscore, "single_trials": not brainscore}
        first = nsd_prep.prepare(**options)
        printed = capsys.readouterr().out
        monkeypatch.setattr(library, "run_pipeline", lambda *_: pytest.fail("it runs"))
        second = nsd_prep.prepare(**options)
        pd.testing.assert_frame_equal(first.checks, second.checks)
        assert (first.output_dir, first.n_images) == (second.output_dir, second.n_images)
        assert first.files == second.files
        sentence, *shown = capsys.readouterr().out.splitlines()
        assert sentence.startswith("Nothing has changed since the run of 2")
        shown = [line for line in shown if not line.startswith("Time: ")]
        assert (
            shown
            == [line for line in printed.splitlines() if not line.startswith("Time: ")][
                -len(shown) :
            ]
        )
        assert any(line.startswith("Checks: ") for line in shown)

    @pytest.mark.slow
    def test_checks_that_failed_fail_again(self, finished: Finished) -> None:
        with pytest.raises(FailedChecksError) as again:
            finished.prepare()
        with pytest.raises(FailedChecksError) as computed:
            finished.prepare(refresh=True)
        assert again.value.problems == computed.value.problems

    @pytest.mark.slow
    def test_the_command_is_done_within_seconds_and_without_prefect(
        self, tiny_nsd: Path, tmp_path: Path
    ) -> None:
        environment = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
        words = ["run", "--nsd-root", tiny_nsd, "--output-dir", "out", "--no-report"]
        command = [sys.executable, "-X", "importtime", "-m", "nsd_prep", *words]
        environment["HOME"] = str(tmp_path)  # no profile of Prefect's
        options: dict[str, Any] = {"capture_output": True, "text": True, "check": False}
        first = subprocess.run(command, cwd=tmp_path, env=environment, **options)
        begin = time.process_time()
        second = subprocess.run(command, cwd=tmp_path, env=environment, **options)
        assert time.process_time() - begin < 4
        assert first.returncode == second.returncode == 0, first.stderr[-2000:]
        assert "Nothing has changed since the run of" in second.stdout
        imported = {
            line.rsplit("|", 1)[-1].strip().split(".")[0] for line in second.stderr.splitlines()
        }
        assert "pandas" in imported
        assert not imported & {"prefect", "scipy", "matplotlib", "xarray", "h5py"}


class TestChanged:
    @pytest.mark.parametrize("change", CHANGES)
    def test_goes_the_usual_way(self, finished: Finished, change: str) -> None:
        with CHANGES[change](finished):
            assert finished.unchanged() is None
        assert finished.unchanged() is not None, "all is as it was"

    def test_every_parameter_counts(self, finished: Finished) -> None:
        assert OTHERS.keys() == finished.parameters.keys()
        for name, value in OTHERS.items():
            assert finished.parameters[name] != value, name
            assert finished.unchanged(**{name: value}) is None, name

    def test_another_version_or_library_or_other_code(
        self, finished: Finished, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        versions = unchanged.software_versions()
        for name in versions:
            others = versions | {name: "0.0.1"}
            with monkeypatch.context() as patch:
                patch.setattr(unchanged, "software_versions", lambda others=others: others)
                assert finished.unchanged() is None, name
        for name in ("digest_of_code", "digest_of_libraries"):
            with monkeypatch.context() as patch:
                patch.setattr(unchanged, name, lambda: "0" * 64)
                assert finished.unchanged() is None, name
        monkeypatch.syspath_prepend(str(tmp_path))
        assert finished.unchanged() is not None
        (tmp_path / "nilearn_like-1.0.dist-info").mkdir()
        assert finished.unchanged() is None, "a library more, which a report may use"

    def test_a_session_that_was_replaced_with_the_same_size_and_time(
        self, own_run: Finished
    ) -> None:
        before = own_run.session.stat()
        with h5py.File(own_run.session, "r+") as file:
            file["betas"][...] = file["betas"][...][::-1]
        os.utime(own_run.session, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = own_run.session.stat()
        assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        assert own_run.unchanged() is None

    def test_a_session_that_is_gone(self, own_run: Finished) -> None:
        own_run.session.unlink()
        assert own_run.unchanged() is None

    def test_a_file_that_changed_while_it_was_read_never_is_as_it_was(self, tmp_path: Path) -> None:
        from nsd_prep.core.file_states import FileStates, are_as_noted

        states, path = FileStates(), tmp_path / "file"
        for content in ("one", "other", "one"):
            path.write_text(content)
            states.note_content(path)
        assert not are_as_noted(states.as_json())

    def test_a_run_that_is_under_way_is_in_the_way(self, finished: Finished) -> None:
        code = (
            "import sys\n"
            "from pathlib import Path\n"
            "from nsd_prep.pipeline.locks import only_run_in\n"
            "with only_run_in(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", code, str(finished.out)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            with pytest.raises(ParameterError, match="Another run is writing"):
                finished.unchanged()
            other.kill()

    def test_a_manifest_of_something_else_is_no_reason_to_stop(self, own_run: Finished) -> None:
        manifest = own_run.out / "manifest.json"
        content = json.loads(manifest.read_text())
        table = content["state"]["tables"][0]

        def changed(name: str, value: object) -> str:
            return json.dumps(content | {name: value})

        for text in (
            "",
            "[]",
            '{"outputs": {}}',
            manifest.read_text().replace('"blake3"', '"x"'),
            changed("images", {}),
            changed("state", content["state"] | {"tables": [table | {"columns": ["one"]}]}),
        ):
            manifest.write_text(text)
            assert own_run.unchanged() is None

    def test_records_that_lead_out_of_the_folder_are_not_followed(self, own_run: Finished) -> None:
        manifest = own_run.out / "manifest.json"
        content = json.loads(manifest.read_text())
        content["outputs"]["../regions.toml"] = content["outputs"].pop("trials.csv")
        manifest.write_text(json.dumps(content))
        assert own_run.unchanged() is None


class TestServer:
    def test_with_a_server_of_ones_own_the_flow_runs(
        self, finished: Finished, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
        monkeypatch.setattr("nsd_prep.flows.runs._flow", lambda _: 17)
        words = ["--nsd-root", str(finished.root), "--output-dir", str(finished.out)]
        assert main(["run", *words]) == 17
