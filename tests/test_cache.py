"""The size of a cache, and clearing it."""

from pathlib import Path

import pytest

from nsd_prep.cache import cache_sizes, clear_cache, mark_as_cache
from nsd_prep.command import main
from nsd_prep.errors import MissingFilesError


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Return an output folder with a cache and files that are not of it."""
    for name, size in (
        ("cache/responses/subj01-session01/a.npy", 700),
        ("cache/responses/subj01-session01/a.json", 30),
        ("cache/records/b", 5),
        ("cache/own-notes.txt", 1),
        ("cache/extracted-0123.json", 2),
        ("Allen2022.V1.nc", 9),
    ):
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    mark_as_cache(tmp_path / "out" / "cache")
    return tmp_path / "out"


def test_sizes_are_found_from_the_cache_and_from_its_output_folder(output: Path) -> None:
    expected = {"responses": (2, 730), "records": (1, 5)}
    assert cache_sizes(output) == expected
    assert cache_sizes(output / "cache") == expected


def test_clearing_leaves_what_is_not_of_the_cache(output: Path) -> None:
    clear_cache(output)
    left = sorted(str(p.relative_to(output)) for p in output.rglob("*") if p.is_file())
    assert left == ["Allen2022.V1.nc", "cache/own-notes.txt"]


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


def test_the_command_shows_and_clears(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", str(output)]) == 0
    assert "responses" in capsys.readouterr().out
    assert (output / "cache" / "responses").exists()
    assert main(["cache", str(output), "--clear"]) == 0
    assert not (output / "cache" / "responses").exists()
    assert main(["cache", str(output / "nothing")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
