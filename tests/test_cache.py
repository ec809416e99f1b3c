"""The size of a cache, and clearing it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from nsd_prep.core.errors import MissingFilesError, ParameterError
from nsd_prep.flows.command import main
from nsd_prep.pipeline.cache import cache_sizes, clear_cache, in_use


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Return an output folder with a cache and files that are not of it."""
    (tmp_path / "out" / "cache").mkdir(parents=True)
    with in_use(tmp_path / "out" / "cache"):
        pass
    for name, size in (
        ("cache/responses/subj01-session01/a.npy", 700),
        ("cache/responses/subj01-session01/a.json", 30),
        ("cache/records/b", 5),
        ("cache/own-notes.txt", 1),
        ("Allen2022.V1.nc", 9),
    ):
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    return tmp_path / "out"


def test_sizes_are_found_from_the_cache_and_from_its_output_folder(output: Path) -> None:
    expected = {"responses": (2, 730), "records": (1, 5)}
    assert cache_sizes(output) == expected
    assert cache_sizes(output / "cache") == expected


def test_the_command_says_what_the_files_are(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", str(output)]) == 0
    shown = capsys.readouterr().out
    assert "responses: 730 bytes in 2 files (responses of each region in each session" in shown
    assert "records: 5 bytes in 1 file (results of finished steps" in shown


def test_clearing_leaves_what_is_not_of_the_cache(output: Path) -> None:
    clear_cache(output)
    left = {str(p.relative_to(output)) for p in output.rglob("*") if p.is_file()}
    own = {"cache/.nsd-prep-cache.lock", "cache/CACHEDIR.TAG"}
    assert left - own == {"Allen2022.V1.nc", "cache/own-notes.txt"}


def test_a_cache_that_a_run_uses_is_not_cleared(output: Path) -> None:
    with (
        in_use(output / "cache"),
        in_use(output / "cache"),
        pytest.raises(ParameterError, match="A run is using the cache"),
    ):
        clear_cache(output)
    assert (output / "cache" / "responses").exists()
    clear_cache(output)
    assert not (output / "cache" / "responses").exists()


def test_what_a_killed_run_left_does_not_keep_a_cache_from_being_cleared(output: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from nsd_prep.pipeline.cache import in_use\n"
        "with in_use(Path(sys.argv[1])):\n"
        "    os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(output / "cache")], check=False)
    assert len(list((output / "cache" / "in-use").iterdir())) == 1
    clear_cache(output)
    assert not (output / "cache" / "responses").exists()


def test_what_killed_runs_left_goes_when_the_next_one_begins(output: Path) -> None:
    cache = output / "cache"
    left = cache / "in-use" / "killed.lock"
    left.touch()
    with in_use(cache):
        assert not left.exists()
        with in_use(cache):
            assert len(list(left.parent.iterdir())) == 2


def test_a_cleared_cache_is_filled_again(output: Path) -> None:
    clear_cache(output)
    with in_use(output / "cache"):
        assert cache_sizes(output) == {}


@pytest.mark.slow
def test_many_runs_begin_at_once_in_a_new_folder(tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from nsd_prep.pipeline.cache import in_use
time.sleep(max(0, float(sys.argv[2]) - time.time()))
for turn in range(20):
    with in_use(Path(sys.argv[1]) / str(turn)):
        pass
"""
    start = str(time.time() + 1.5)
    words = [sys.executable, "-c", program, str(tmp_path), start]
    runs = [subprocess.Popen(words, stderr=subprocess.PIPE) for _ in range(4)]
    assert [run.communicate()[1] for run in runs] == [b""] * 4


def test_a_folder_without_a_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFilesError, match="no cache in"):
        clear_cache(tmp_path)


def test_a_folder_that_looks_like_a_cache_and_is_not_marked_is_left_alone(tmp_path: Path) -> None:
    for name in ("records/thesis.txt", "cache/voxels/own.txt", "extracted-notes.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    with pytest.raises(MissingFilesError, match="no cache in"):
        clear_cache(tmp_path)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 3


def test_a_folder_with_hidden_files_alone_becomes_a_cache(tmp_path: Path) -> None:
    for name in (".DS_Store", "._cache"):
        (tmp_path / name).write_text("of the system")
    with in_use(tmp_path):
        pass
    clear_cache(tmp_path)
    assert (tmp_path / ".DS_Store").read_text() == "of the system"


def test_a_folder_with_other_files_does_not_become_a_cache(tmp_path: Path) -> None:
    (tmp_path / "responses").mkdir()
    with pytest.raises(ParameterError, match="found 'responses' in it"), in_use(tmp_path):
        pass
    assert not (tmp_path / "CACHEDIR.TAG").exists()


def test_the_command_shows_and_clears(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", str(output)]) == 0
    assert "responses" in capsys.readouterr().out
    assert (output / "cache" / "responses").exists()
    assert main(["cache", str(output), "--clear"]) == 0
    assert not (output / "cache" / "responses").exists()
    assert main(["cache", str(output / "nothing")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
