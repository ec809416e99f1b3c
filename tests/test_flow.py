"""The flow through Prefect's own harness: what is written, what is read again, how it fails."""

import errno
import functools
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from blake3 import blake3
from brainscore_inputs import write_features
from small_nsd import SmallNSD, write_small_nsd

import nsd_prep
from nsd_prep.analysis.features import Features
from nsd_prep.core import progress
from nsd_prep.core.errors import ExtractionError, PreflightError
from nsd_prep.dataset import betas
from nsd_prep.dataset.regions import BUILT_IN_REGIONS
from nsd_prep.flows.command import main, run_command
from nsd_prep.flows.nsd_flow import nsd_flow
from nsd_prep.pipeline import step_table
from nsd_prep.report.stamp import without_stamp
from nsd_prep.synthetic import write_synthetic_nsd, writer
from nsd_prep.tasks import policy

READ_VOXELS = betas.read_voxels
SLOW = pytest.mark.slow
ONE_REGION = {"subjects": [1], "regions": ["V1"]}

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setitem(policy.RETRY, "retry_delay_seconds", 0)
    monkeypatch.setitem(policy.RETRY, "retry_jitter_factor", None)


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
    """Return a dataset and the output of a run on it without Prefect; tests do not change them."""
    output = tmp_path_factory.mktemp("finished") / "out"
    options = {"report": False, "brainscore": False, "progress": False}
    nsd_prep.prepare(nsd_root=tiny_nsd, output_dir=output, **options)
    return tiny_nsd, output


def prepare(**parameters: Any) -> Any:
    """Run the flow without its last stages, which have their own tests."""
    return nsd_flow(**{"report": False, "brainscore": False} | parameters)


def replace_assembly(monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any]) -> None:
    """Let another function assemble regions."""
    step = replace(step_table.ASSEMBLE_REGION, function=function)
    monkeypatch.setattr(step_table, "ASSEMBLE_REGION", step)


def digests(folder: Path) -> dict[str, str]:
    """Return the BLAKE3 of every output, but for the manifest with its timings."""
    return {
        path.name: blake3(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file() and path.name not in ("manifest.json", ".nsd-prep.lock")
    }


class TestPrepare:
    @pytest.mark.parametrize(
        "options",
        [
            {"single_trials": True, "brainscore": True, "suffix": "_x", "invalid_voxels": "drop"},
            pytest.param(
                {"report": True, "crossnobis": True, "brainscore": True, "single_trials": True},
                marks=SLOW,
            ),
            pytest.param({"assemblies": False, "single_trials": True, "report": True}, marks=SLOW),
        ],
    )
    def test_gives_the_bytes_of_the_flow_and_reads_no_session_again(
        self, tiny_nsd: Path, tmp_path: Path, sessions_read: list[Any], options: dict[str, Any]
    ) -> None:
        options = {"nsd_root": tiny_nsd, "subjects": [1, 2], "regions": ["V1", "V2"]} | options
        options["cache_dir"] = tmp_path / "cache"
        prepare(**options, output_dir=tmp_path / "flow")
        assert sessions_read
        sessions_read.clear()
        silent = {"report": False, "brainscore": False, "progress": False} | options
        nsd_prep.prepare(**silent, output_dir=tmp_path / "out")
        assert sessions_read == []
        written = {
            folder: {
                path.relative_to(tmp_path / folder): without_stamp(path.read_bytes())
                if path.suffix == ".html"
                else path.read_bytes()
                for path in (tmp_path / folder).rglob("*")
                if path.is_file() and path.name not in ("manifest.json", ".nsd-prep.lock")
            }
            for folder in ("flow", "out")
        }
        assert written["out"] == written["flow"]
        assert len(written["out"]) > 5
        states = [
            json.loads((tmp_path / folder / "manifest.json").read_text())["state"]
            for folder in ("flow", "out")
        ]
        assert states[0]["files"] == states[1]["files"], "what the run looked at"


class TestCache:
    @pytest.mark.slow
    def test_what_prepare_extracted_is_not_read_again(
        self, finished: tuple[Path, Path], tmp_path: Path, sessions_read: list[Any]
    ) -> None:
        root, output = finished
        shutil.copytree(output / "cache", tmp_path / "cache")
        prepare(nsd_root=root, output_dir=tmp_path / "out", cache_dir=tmp_path / "cache")
        assert sessions_read == []
        assert digests(tmp_path / "out") == digests(output)

    def test_the_same_again_reads_no_session(
        self, tiny_nsd: Path, tmp_path: Path, sessions_read: list[Any]
    ) -> None:
        options = ONE_REGION | {"nsd_root": tiny_nsd, "output_dir": tmp_path / "out"}
        prepare(**options)
        assert sessions_read
        before = digests(tmp_path / "out")
        sessions_read.clear()
        prepare(**options)
        assert sessions_read == []
        assert digests(tmp_path / "out") == before

    @pytest.mark.slow
    def test_results_of_another_folder_are_not_said_to_be_gone(
        self, tiny_nsd: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        options = ONE_REGION | {"nsd_root": tiny_nsd, "cache_dir": tmp_path / "cache"}
        for name in ("first", "second"):
            prepare(output_dir=tmp_path / name, **options)
        assert "making them again" not in caplog.text
        (tmp_path / "second" / "Allen2022.V1.nc").write_bytes(b"other")
        prepare(output_dir=tmp_path / "second", **options)
        assert "Files of assemble-region are missing, have changed" in caplog.text

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
        options = ONE_REGION | {"nsd_root": tiny_nsd}
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
                if record.suffix == ".npy" or not record.is_file():
                    continue
                text = record.read_text(errors="replace")  # lists of voxels are no text
                if name in text:
                    altered_text = re.sub(r'(constant_voxels\\*": ?\[)', r"\g<1>0, ", text)
                    assert altered_text != text
                    record.write_text(altered_text)
        else:
            altered = content[:-1] + bytes([content[-1] ^ 1])
            entry.write_bytes(content[: len(content) // 2] if damage == "truncated" else altered)
        prepare(**options, output_dir=tmp_path / "out")
        # Where all the region's voxels are probes, it is taken from these, and no session is read.
        assert len(sessions_read) <= 1
        assert entry.read_bytes() == content
        assert digests(tmp_path / "out") == before
        if damage != "record altered":  # which is as if there were none
            assert "are missing or have changed" in caplog.text

    @pytest.mark.slow
    def test_refresh_reads_every_session_again(
        self, tiny_nsd: Path, tmp_path: Path, sessions_read: list[Any]
    ) -> None:
        options = ONE_REGION | {"nsd_root": tiny_nsd, "output_dir": tmp_path / "out"}
        prepare(**options)
        n_sessions = len(sessions_read)
        prepare(**options, refresh=True)
        assert len(sessions_read) == 2 * n_sessions

    @pytest.mark.slow
    def test_an_output_folder_that_was_moved_goes_on(
        self, tiny_nsd: Path, tmp_path: Path, sessions_read: list[Any]
    ) -> None:
        options = ONE_REGION | {"nsd_root": tiny_nsd}
        prepare(**options, output_dir=tmp_path / "out")
        (tmp_path / "out").rename(tmp_path / "moved")
        before = digests(tmp_path / "moved")
        sessions_read.clear()
        prepare(**options, output_dir=tmp_path / "moved")
        assert digests(tmp_path / "moved") == before
        assert sessions_read == []
        assert not (tmp_path / "out").exists()

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
            "writing train and test assemblies",
            "writing stimulus sets",
            "writing the report",
        } == set(steps)
        assert all(done == total for done, total in steps.values())
        page = tmp_path / "out" / "report" / "index.html"
        first = page.stat().st_mtime_ns
        listed = json.loads((tmp_path / "out" / "manifest.json").read_text())["outputs"]
        content = without_stamp(page.read_bytes())
        assert content != page.read_bytes()
        assert listed["report/index.html"]["blake3"] == blake3(content).hexdigest()
        nsd_flow(**options)
        assert page.stat().st_mtime_ns == first
        page.write_text("altered")
        nsd_flow(**options)
        assert "altered" not in page.read_text()[:100]

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


class TestRetries:
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

    @pytest.mark.slow
    def test_a_passing_fault_after_extraction_is_tried_again(
        self, tiny_nsd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assemble, attempts = step_table.ASSEMBLE_REGION.load(), []

        @functools.wraps(assemble)
        def assemble_at_the_second_try(*arguments: Any) -> Any:
            attempts.append(1)
            if len(attempts) == 1:
                raise OSError(errno.EIO, "Input/output error")
            return assemble(*arguments)

        replace_assembly(monkeypatch, assemble_at_the_second_try)
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


class TestParameters:
    def test_the_form_lists_subjects_and_built_in_regions(self) -> None:
        properties = nsd_flow.parameters.model_dump()["properties"]
        assert set(properties) >= {"nsd_root", "output_dir", "subjects", "regions", "seed"}
        assert properties["regions"]["items"]["enum"] == list(BUILT_IN_REGIONS)
        assert all(item.get("description") for item in properties.values())


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
            (["--nsd-root", ""], 2, "--nsd-root has an empty value"),
            (["--cache-dir="], 2, "--cache-dir has an empty value"),
            (["--cache-dir", "~nosuch/x"], 1, "'~nosuch/x' cannot be used"),
            (["--cache-dir", "h\udcff"], 1, "expected a name in UTF-8"),
            (["--seed", "-1"], 2, "--seed"),
            (["--workers", "0"], 2, "--workers"),
            (["--colour"], 2, "--colour"),
        ):
            assert run_command([*words, *more]) == status, more
            shown = capsys.readouterr()
            assert expected in shown.err
            assert re.match(r"(.*: [0-9.]+ s\n)*error: ", shown.err)
            assert "Traceback" not in shown.err + shown.out

    def test_a_command_that_is_none(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["bogus"]) == 2
        shown = capsys.readouterr().err
        assert shown.startswith("error: There is no command 'bogus': give one of run, trials, map,")
        assert "publish, regions, deployments; --help" in shown

    def test_without_a_word_it_shows_its_commands(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([]) == 0
        assert "publish" in capsys.readouterr().out

    def test_single_trials_have_a_folder_of_their_own(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["trials", "--help"]) == 0
        assert "nsd-prep-trials" in capsys.readouterr().out

    @pytest.mark.slow
    def test_a_fault_of_the_disk_that_stays_is_said_without_a_traceback(
        self,
        tiny_nsd: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        @functools.wraps(step_table.ASSEMBLE_REGION.load())
        def fail(*_: Any) -> Any:
            raise OSError(errno.EIO, "Input/output error", "Allen2022.V1.nc")

        replace_assembly(monkeypatch, fail)
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
        def write_tiny(root: Path, scale: str) -> None:
            assert scale == "demo"
            write_synthetic_nsd(root)

        monkeypatch.setattr(writer, "write_synthetic_nsd", write_tiny)
        monkeypatch.delenv("NSD_ROOT", raising=False)
        assert run_command(["--output-dir", str(tmp_path / "out"), "--check"]) == 0
        assert "No --nsd-root given: using a synthetic dataset." in capsys.readouterr().out
        assert (tmp_path / "synthetic-nsd" / "dataset.json").exists()
