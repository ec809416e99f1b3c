"""The command line: what it refuses, in whose words it speaks, and how it ends."""

import inspect
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from coco_files import coco

import nsd_prep
from nsd_prep.core.errors import ParameterError
from nsd_prep.core.parameters import GROUPS, parameters
from nsd_prep.core.terminal import print_rendered
from nsd_prep.flows.command import main
from nsd_prep.flows.options import as_options
from nsd_prep.flows.runs import run
from nsd_prep.flows.terminal import print_error
from nsd_prep.flows.tools.package import package
from nsd_prep.pipeline.summary import Summary


def said(capsys: pytest.CaptureFixture[str], *words: str, status: int) -> str:
    """Return what a command writes to standard error."""
    assert main([str(word) for word in words]) == status
    return capsys.readouterr().err


class TestWords:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("give some with subjects=.", "give some with --subjects."),
            ("leave the report out with report=False;", "leave the report out with --no-report;"),
            ("give single_trials=True, or", "give --single-trials, or"),
            ('use missing_regions="skip", leave', "use --missing-regions skip, leave"),
            ("give nsd_root='/data/nsd'.", "give --nsd-root /data/nsd."),
            ("give nsd_root='/my data/nsd'.", "give --nsd-root '/my data/nsd'."),
            ('regions=["V1", "IT"]', "--regions V1 IT"),
            ("train_fraction=0.5.", "--train-fraction 0.5."),
            ("what subjects see: /data/subjects=1/x", "what subjects see: /data/subjects=1/x"),
            ("packaged with unchecked=True", "packaged with --unchecked"),
            ("seed=42 there, seed=43 in", "--seed 42 there, --seed 43 in"),
            ("subjects=[1, 2] there", "--subjects 1 2 there"),
            ("min_ncsnr=None there, min_ncsnr=0.2 in", "no --min-ncsnr there, --min-ncsnr 0.2 in"),
            ("another suffix= than this run's", "another --suffix than this run's"),
            ("output_dir=/data/out are given", "--output-dir /data/out are given"),
            ("output_dir=~/out.", "--output-dir ~/out."),
            ("output_dir=./out, or", "--output-dir ./out, or"),
            ("output_dir=../out/; the", "--output-dir ../out/; the"),
            ("output_dir=.hidden/out is", "--output-dir .hidden/out is"),
            ("output_dir=/ is", "--output-dir / is"),
            ("give another output_dir=. Did you", "give another --output-dir. Did you"),
            ("nsd_root=s3://bucket/nsd is", "--nsd-root s3://bucket/nsd is"),
            ("seed=-1 is", "--seed -1 is"),
        ],
    )
    def test_parameters_are_options(self, text: str, expected: str) -> None:
        assert as_options(text, [parameters, package]) == expected

    def test_a_parameter_of_trials_alone_is_an_option_too(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        print_error("download it, or leave out experiment='imagery'.")
        assert "leave out --experiment imagery." in capsys.readouterr().err

    def test_python_and_the_command_line_say_it_in_their_own(
        self, tiny_nsd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from nsd_prep import open_nsd
        from nsd_prep.core.errors import ParameterError

        with pytest.raises(ParameterError, match="give some of 1, 2, 5 with subjects="):
            open_nsd(tiny_nsd, subjects=[7], cache_dir=tmp_path)
        words = ("run", "--nsd-root", tiny_nsd, "--output-dir", tmp_path / "o", "--subjects", "7")
        shown = said(capsys, *words, "--check", status=1)
        assert "give some of 1, 2, 5 with --subjects." in shown

    def test_an_option_without_effect_names_no_other(
        self, tiny_nsd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        # 'export' takes --surface-files, and no --space.
        words = ("run", "--nsd-root", tiny_nsd, "--output-dir", tmp_path / "out")
        shown = said(capsys, *words, "--surface-files", "mgh", "--check", status=0)
        assert "--surface-files has no effect in the space func1pt8mm, only in fsaverage." in shown


class TestHelp:
    def test_each_parameter_stands_in_one_group(self) -> None:
        listed = [name for names in GROUPS.values() for name in names]
        assert sorted(listed) == sorted(inspect.signature(parameters).parameters)

    def test_groups_stand_in_order(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["run", "--help"]) == 0
        shown = capsys.readouterr().out
        places = [shown.index(f"─ {group} ─") for group in GROUPS]
        assert places == sorted(places)
        assert shown.index("--nsd-root") < shown.index("--seed")

    def test_trials_are_no_assemblies(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["trials", "--help"]) == 0
        words = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert "saw three times are used" not in words
        assert "becomes an assembly" not in words
        assert main(["run", "--help"]) == 0
        words = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert "saw three times are used" in words

    @pytest.mark.parametrize(
        ("command", "expected"),
        [
            # 17 sessions of 30 trials; subject 1 saw all 32 shared images three times.
            (("trials",), "\n510 trials of 115 images in 17 sessions: "),
            (
                ("trials", "--images", "shared", "--subjects", "1"),
                "\n96 trials of 32 images in 6 sessions: ",
            ),
            (("trials", "--subjects", "1"), ": subject 1; voxels "),
            (("run",), "\n24 images were seen three times by all; 15 sessions hold them: "),
            (
                ("run", "--single-trials"),
                "\n24 images were seen three times by all; 510 trials of 115 images in 17 ",
            ),
        ],
    )
    def test_what_a_run_will_write_is_said(
        self,
        tiny_nsd: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        command: tuple[str, ...],
        expected: str,
    ) -> None:
        words = (*command, "--nsd-root", str(tiny_nsd), "--output-dir", str(tmp_path), "--check")
        assert main([*words]) == 0
        shown = capsys.readouterr().out
        assert expected in shown
        assert ("three times" in shown) == (command[0] == "run")

    def test_folders_are_completed(self) -> None:
        from nsd_prep.flows.command import app

        script = app().generate_completion(shell="bash")
        after = script.split("--nsd-root)", 1)[1].split(";;", 1)[0]
        assert "compgen -f" in after or "compgen -d" in after


class TestRefusals:
    @pytest.mark.parametrize("option", ["--subjects", "--regions"])
    def test_a_list_without_a_value(
        self, tiny_nsd: Path, capsys: pytest.CaptureFixture[str], option: str
    ) -> None:
        shown = said(capsys, "run", "--nsd-root", tiny_nsd, option, "--check", status=2)
        assert f"{option} has no value" in shown

    @pytest.mark.parametrize("command", ["run", "trials"])
    def test_a_root_without_its_option(
        self, tiny_nsd: Path, capsys: pytest.CaptureFixture[str], command: str
    ) -> None:
        assert f"--nsd-root {tiny_nsd}." in said(capsys, command, tiny_nsd, status=2)

    @pytest.mark.parametrize(
        "words",
        [
            ("compare", "a", "b", "c/d.nc"),
            ("cache", "out", "./more"),
            ("synth", "a", "b/c"),
            ("run", "--nsd-root", "a", "b/c"),
            ("trials", "--nsd-root=a", "b/c"),
        ],
    )
    def test_a_word_too_many_is_no_root_where_there_is_none_or_one(
        self, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
    ) -> None:
        shown = said(capsys, *words, status=2)
        assert f"{words[-1]!r} does not belong to any option: leave it out" in shown

    def test_what_may_have_been_meant_is_said_once(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shown = said(capsys, "run", "--synthetic", "--keep-voxels", "nsdgen", status=2)
        assert shown.count("Did you mean") == 1
        assert shown.rstrip().endswith("Did you mean nsdgeneral?")

    @pytest.mark.parametrize("beside", [".", "nsddata", "nsddata/ppdata", ".."])
    def test_a_root_beside_the_dataset_says_where_it_is(
        self, tiny_nsd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], beside: str
    ) -> None:
        out = tmp_path / "out"
        words = ("run", "--output-dir", out, "--check", "--nsd-root")
        root = (tiny_nsd / beside).resolve()
        if root == tiny_nsd:
            assert main([*map(str, words), str(root)]) == 0
        else:
            shown = said(capsys, *words, root, status=1)
            assert f"there is one at {tiny_nsd}: give that folder as the root." in shown
            assert shown == said(capsys, "regions", root, status=1)  # which has no --nsd-root

    @pytest.mark.parametrize("option", ["--output-dir", "--cache-dir"])
    @pytest.mark.parametrize("folder", ["", "nsddata", "nsddata_betas/mine"])
    def test_the_dataset_is_not_written_into(
        self, tiny_nsd: Path, capsys: pytest.CaptureFixture[str], option: str, folder: str
    ) -> None:
        before = sorted(tiny_nsd.rglob("*"))
        words = ("run", "--nsd-root", tiny_nsd, option, tiny_nsd / folder, "--check")
        assert f"which is only read: give {option}" in said(capsys, *words, status=1)
        assert sorted(tiny_nsd.rglob("*")) == before

    @pytest.mark.parametrize("folder", ["", "nsddata", "nsddata_betas/mine"])
    @pytest.mark.parametrize("command", ["export", "imagery"])
    def test_neither_by_an_export_nor_by_another_experiment(
        self,
        tiny_nsd: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        command: str,
        folder: str,
    ) -> None:
        before, target = sorted(tiny_nsd.rglob("*")), tiny_nsd / folder
        cache = ("--cache-dir", tmp_path / "cache")
        words: tuple[object, ...] = ("export", tiny_nsd, target, "--like", "mindeye2", *cache)
        if command == "imagery":
            words = ("trials", "--nsd-root", tiny_nsd, "--experiment", "imagery", *cache)
            words += ("--output-dir", target)
        shown = said(capsys, *words, status=1)
        assert f"The folder {target} is the dataset's, which is only read: choose" in shown
        assert sorted(tiny_nsd.rglob("*")) == before

    def test_zarr_without_its_libraries_is_said_before_anything_is_read(
        self,
        tiny_nsd: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(sys.modules, "tensorstore", None)
        words = ("trials", "--nsd-root", tiny_nsd, "--output-dir", tmp_path / "out", "--check")
        shown = said(capsys, *words, "--format", "zarr", status=1)
        assert "pip install zarr tensorstore, or choose --format netcdf" in shown

    def test_a_check_leaves_nothing_behind(self, tiny_nsd: Path, tmp_path: Path) -> None:
        out = tmp_path / "new" / "folder" / "out"
        assert main(["run", "--nsd-root", str(tiny_nsd), "--output-dir", str(out), "--check"]) == 0
        assert not list(tmp_path.iterdir())
        result = nsd_prep.prepare(nsd_root=tiny_nsd, output_dir=out, check=True, progress=False)
        assert result.n_images > 0
        assert not list(tmp_path.iterdir())

    def test_a_check_refuses_a_cache_that_a_run_refuses(
        self, tiny_nsd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("all of it")
        words = ("run", "--nsd-root", tiny_nsd, "--output-dir", tmp_path / "out", "--check")
        shown = said(capsys, *words, "--cache-dir", tmp_path / "mine", status=1)
        assert "cannot be a cache: expected a new or empty folder, found 'thesis.txt'" in shown
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("option", ["--check", "--no-report"])
    def test_dask_without_its_library_is_said_before_anything_is_read(
        self,
        tiny_nsd: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        option: str,
    ) -> None:
        monkeypatch.setitem(sys.modules, "prefect_dask", None)
        words = ("run", "--nsd-root", tiny_nsd, "--output-dir", tmp_path / "out", option)
        shown = said(capsys, *words, "--runner", "dask", status=1)
        assert "pip install prefect-dask, or choose --runner threads" in shown
        assert not (tmp_path / "out" / "cache").exists()

    def test_a_scheduler_that_does_not_answer_is_said_by_a_check(
        self, tiny_nsd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ("run", "--nsd-root", tiny_nsd, "--output-dir", tmp_path / "out", "--check")
        nobody = ("--runner", "dask", "--dask-address", "tcp://127.0.0.1:9")
        shown = said(capsys, *words, *nobody, status=1)
        assert "No Dask scheduler can be reached" in shown
        assert "correct --dask-address" in shown

    def test_a_report_without_its_libraries(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from nsd_prep.core.errors import ParameterError
        from nsd_prep.pipeline.libraries import import_report

        monkeypatch.delitem(sys.modules, "nsd_prep.pipeline.steps.report", raising=False)
        monkeypatch.setitem(sys.modules, "nsd_prep.report.compose", None)
        with pytest.raises(ParameterError, match="leave the report out with report=False"):
            import_report()

    @pytest.mark.parametrize(
        ("backend", "kept"),
        [
            ("module://matplotlib_inline.backend_inline", False),
            pytest.param("svg", True, marks=pytest.mark.slow),
        ],
    )
    def test_a_backend_that_is_not_there_is_not_taken(self, backend: str, kept: bool) -> None:
        if find_spec("matplotlib_inline"):
            pytest.skip("a notebook's backend is there")
        program = (
            "import os\n"
            "from nsd_prep.pipeline.libraries import import_report\n"
            "import_report()\n"
            "print(os.environ.get('MPLBACKEND'))\n"
        )
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"MPLBACKEND": backend},
            capture_output=True,
            text=True,
        )
        assert ran.stdout.strip() == (backend if kept else "None"), ran.stderr

    @pytest.mark.parametrize(
        "url", ["notaurl", "ftp://host/x", "https://", "http://host:port/x", "https://ho st/x"]
    )
    def test_a_webhook_that_is_none(
        self, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from nsd_prep.deployments import notify

        monkeypatch.setattr(sys, "argv", ["notify.py", url])
        with pytest.raises(SystemExit) as ended:
            notify.main()
        assert ended.value.code == 2
        assert f"{url!r} is not a webhook address" in capsys.readouterr().err


class TestEnd:
    @pytest.mark.slow
    @pytest.mark.parametrize("words", [["--help"], ["run", "--check"]])
    def test_a_reader_that_goes_away(
        self, tiny_nsd: Path, tmp_path: Path, words: list[str]
    ) -> None:
        if "--check" in words:
            words = [*words, "--nsd-root", str(tiny_nsd), "--output-dir", str(tmp_path / "out")]
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "nsd_prep", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        process.wait(30)

    def test_the_time_of_a_run_counts_from_the_commands_start(self) -> None:
        from nsd_prep.core.progress import Stages, counting_from_here

        with counting_from_here():
            time.sleep(0.2)
            assert Stages().total >= 0.2
        assert Stages().total < 0.1

    def test_help_imports_nothing_that_takes_long(self) -> None:
        command = [sys.executable, "-X", "importtime", "-m", "nsd_prep", "run", "--help"]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        imported = {line.split("|")[-1].strip() for line in ran.stderr.splitlines()}
        assert not imported & {"pandas", "numpy", "prefect", "xarray", "matplotlib"}


@pytest.mark.parametrize("root", [None, "nsd"])
def test_synthetic_data_are_asked_for_whatever_the_environment_names(
    root: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Path | None] = []

    def synthetic(output_dir: Path, nsd_root: Path | None) -> Path:
        asked.append(nsd_root)
        return output_dir / "nsd"

    monkeypatch.setenv("NSD_ROOT", "/data/nsd")
    monkeypatch.setattr("nsd_prep.pipeline.synthetic_beside.synthetic_beside", synthetic)
    monkeypatch.setattr("nsd_prep.flows.runs._check", lambda _: 0)
    chosen = {"nsd_root": root, "synthetic": True, "output_dir": tmp_path, "check": True}
    assert run(parameters() | chosen) == 0
    assert asked == [root]  # two that were asked for are an error there


@pytest.mark.slow
def test_an_error_of_a_run_is_one_sentence(tiny_nsd: Path, tmp_path: Path) -> None:
    """Prefect makes its console handler anew when settings change: it showed a traceback."""
    words = [sys.executable, "-P", "-m", "nsd_prep", "run", "--nsd-root", str(tiny_nsd)]
    words += ["--output-dir", str(tmp_path / "out"), "--regions", "V1", "--no-report"]
    words += ["--no-brainscore"]
    subprocess.run(words, check=True, capture_output=True)
    refused = subprocess.run([*words, "--seed", "3"], capture_output=True, text=True, check=False)
    shown = refused.stdout + refused.stderr
    assert refused.returncode == 1
    assert "which removes the results that this run does not write" in shown
    assert "Traceback" not in shown


@pytest.mark.slow
def test_paths_are_those_of_the_folder_in_which_the_command_is_given(
    tiny_nsd: Path, tmp_path: Path
) -> None:
    """The flow runs in the temporary server's folder: a relative path would be one in there."""
    images = nsd_prep.open_nsd(tiny_nsd, cache_dir=tmp_path / "images").images()
    coco(tmp_path / "coco", images)
    split = images[["nsd_id"]].assign(split=["train", "test"] * (len(images) // 2))
    split.to_csv(tmp_path / "ids.csv", index=False)
    (tmp_path / "own.toml").write_text("[mine]\nlabels = { prf-visualrois = [1, 2] }\n")
    (tmp_path / "nsd").symlink_to(tiny_nsd)
    pairs = {
        "nsd_root": "nsd",
        "output_dir": "out",
        "cache_dir": "kept",
        "regions_file": "own.toml",
        "split_file": "ids.csv",
        "coco_annotations": "coco",
    }
    with_paths = {
        name
        for name, parameter in inspect.signature(parameters).parameters.items()
        if "Path" in str(parameter.annotation)
    }
    assert with_paths <= {*pairs, "features"}, "a new path is tested here, too"
    words = [sys.executable, "-P", "-m", "nsd_prep", "trials", "--subjects", "1", "--no-report"]
    for name, path in pairs.items():
        words += [f"--{name.replace('_', '-')}", path]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert pd.read_csv(tmp_path / "out" / "images.csv")["captions"].notna().any()
    assert "split_file" in pd.read_csv(tmp_path / "out" / "subj01.csv")
    assert (tmp_path / "kept").is_dir()


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("program", ["-m nsd_prep", "flows/nsd_flow.py"])
def test_with_closed_streams_nothing_goes_wrong(program: str, closed: str) -> None:
    repository = Path(__file__).parents[1]
    words = "run --help" if program == "-m nsd_prep" else "--help"
    line = f"exec {sys.executable} {program} {words} {closed}"
    assert subprocess.run(["bash", "-c", line], cwd=repository, check=False).returncode == 0


@pytest.mark.parametrize("name", ["a[/b]", "a[red]b", "a[link]"])
def test_a_folder_s_name_in_brackets_is_shown_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    tables = [(f"In {name}", pd.DataFrame({"region": [name]}))]
    checks = pd.DataFrame({"verdict": ["passed"]})
    summary = Summary(tmp_path / name, "", tables, [name], {}, checks, 1.0)
    print_rendered(summary.for_terminal())
    assert capsys.readouterr().out.count(name) == 4


@pytest.mark.parametrize(
    ("chosen", "meant"),
    [
        ({"regions": ["v1"]}, "V1"),
        ({"regions": ["IT-glaser"]}, "IT-glasser"),
        ({"keep_voxels": "nsdgen"}, "nsdgeneral"),
        ({"regions": ["xyz"]}, None),
    ],
)
def test_python_names_the_region_that_may_have_been_meant_too(
    chosen: dict[str, Any], meant: str | None
) -> None:
    with pytest.raises(ParameterError) as raised:
        nsd_prep.prepare(**chosen)
    assert str(raised.value).partition("Did you mean ")[2] == (f"{meant}?" if meant else "")
