"""The documents: what they show as commands and code runs as it stands there."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import h5py
import netCDF4
import pytest
from documents import ROOT, Block, blocks, unmarked
from range_server import ServerProcess

import nsd_prep

GUIDES = ("tutorial", "python", "regions", "surfaces", "features", "compare", "package")
#: Blocks that need a bucket, an account or another environment; what they name is tested elsewhere:
#: publishing in test_publish, Brain-Score in test_conformance, the README's in .ci/run.
NOT_RUN = {"package": 2}

NSD_PREP = """#!/bin/sh
exec "{python}" -m nsd_prep "$@"
"""
#: `aws s3 sync` and `cp` with the options of the documents, from a folder in place of the bucket.
AWS = """#!{python}
import fnmatch, os, shutil, sys
from pathlib import Path

words = [word for word in sys.argv[1:] if word != "--no-sign-request"]
assert words.pop(0) == "s3"
verb, source, target, *filters = words
source = Path(os.environ["BUCKET"], source.removeprefix("s3://natural-scenes-dataset/"))
assert verb in ("cp", "sync") and source.exists(), source
files = [source] if verb == "cp" else [path for path in source.rglob("*") if path.is_file()]
for path in files:
    name = path.name if verb == "cp" else str(path.relative_to(source))
    taken = True
    for option, pattern in zip(filters[::2], filters[1::2], strict=True):
        if fnmatch.fnmatch(name, pattern):
            taken = {{"--exclude": False, "--include": True}}[option]
    if taken:
        to = Path(target) if verb == "cp" else Path(target, name)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the programs that the documents name."""
    folder = tmp_path_factory.mktemp("bin")
    for name, text in (("nsd-prep", NSD_PREP), ("aws", AWS)):
        program = folder / name
        program.write_text(text.format(python=sys.executable))
        program.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def environment(commands: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return os.environ | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
        "DO_NOT_TRACK": "1",
    }


def execute(block: Block, folder: Path, environment: dict[str, str]) -> None:
    if block.verb == "file":
        (folder / block.what).write_text(block.text, encoding="utf-8")
        return
    language = {"bash": ["bash", "-euo", "pipefail"], "python": [sys.executable]}[block.language]
    script = folder / f".block-{block.line}"
    script.write_text(block.text, encoding="utf-8")
    done = subprocess.run(
        [*language, str(script)], cwd=folder, env=environment, capture_output=True, text=True
    )
    said = f"line {block.line}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert done.returncode == block.status, said


def in_one_script(found: list[Block]) -> list[Block]:
    """Join each block of Python with those before it: a reader types them into one session."""
    joined, python = [], ""
    for block in found:
        if block.language == "python" and block.verb == "run":
            python += block.text
            block = Block(block.verb, block.what, block.status, "python", python, block.line)
        joined.append(block)
    last = max((place for place, one in enumerate(joined) if one.language == "python"), default=0)
    first = next((place for place, one in enumerate(joined) if one.language == "python"), 0)
    # Blocks of Python with nothing between them are run once, as the last of them.
    if all(one.language == "python" for one in joined[first : last + 1]):
        del joined[first:last]
    return joined


@pytest.fixture(scope="module")
def finished(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the tutorial's first command was given."""
    folder = tmp_path_factory.mktemp("demo")
    execute(blocks(ROOT / "docs" / "tutorial.md")[0], folder, environment)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", GUIDES)
def test_guide_runs_as_it_stands(
    name: str, finished: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    folder = shutil.copytree(finished, tmp_path / "here")
    found = in_one_script(blocks(ROOT / "docs" / f"{name}.md"))
    assert found
    for block in found[1:] if name == "tutorial" else found:
        execute(block, folder, environment)


@pytest.mark.slow
def test_readme_runs_on_a_copy_of_nsd_and_shows_what_it_says(
    finished: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    load, run = blocks(ROOT / "README.md")
    execute(load, finished, environment)
    copy = finished / "synthetic-nsd"
    execute(replace(run, text=run.text.replace("/data/nsd", str(copy))), tmp_path, environment)
    for made in ("allen2022/Allen2022.V4.nc", "four/Allen2022.IT.nc"):
        assert (tmp_path / made).is_file()


@pytest.mark.slow
def test_what_is_fetched_from_the_bucket_is_what_a_run_needs(
    finished: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    bucket = finished / "synthetic-nsd"
    *fetch, look, repair = blocks(ROOT / "docs" / "getting-nsd.md")
    for block in fetch:
        execute(block, tmp_path, environment | {"BUCKET": str(bucket)})
    fetched = {path.relative_to(tmp_path / "nsd") for path in (tmp_path / "nsd").rglob("*.*")}
    assert not any("truth" in path.parts or path.suffix == ".ctab" for path in fetched)
    # What the synthetic data are is said beside them; NSD itself has no such file, and no truth.
    description = json.loads((bucket / "dataset.json").read_text())
    del description["synthetic"]["truth"]
    (tmp_path / "nsd" / "dataset.json").write_text(json.dumps(description))
    execute(look, tmp_path, environment)
    (session,) = (path for path in fetched if path.match("subj01/*/*/betas_session03.hdf5"))
    whole = (tmp_path / "nsd" / session).read_bytes()
    (tmp_path / "nsd" / session).write_bytes(bytes(len(whole)))
    with pytest.raises(AssertionError, match="betas_session03"):
        execute(look, tmp_path, environment)
    execute(repair, tmp_path, environment | {"BUCKET": str(bucket)})
    assert (tmp_path / "nsd" / session).read_bytes() == whole
    execute(look, tmp_path, environment)


@pytest.mark.slow
def test_reading_from_the_bucket_runs_as_it_stands(
    finished: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    with ServerProcess(finished / "synthetic-nsd") as server:
        for block in blocks(ROOT / "docs" / "bucket.md"):
            if block.what == "offline":
                server.down()
            text = re.sub(r"s3://natural-scenes-dataset|https://mirror\S*", server.url, block.text)
            execute(replace(block, text=text), tmp_path, environment)
            if block.what == "offline":
                server.up()
    assert (tmp_path / "allen2022" / "Allen2022.V1-ventral.nc").is_file()


@pytest.mark.parametrize("name", [*GUIDES, "getting-nsd", "bucket"])
def test_every_command_is_run(name: str) -> None:
    assert len(unmarked(ROOT / "docs" / f"{name}.md")) == NOT_RUN.get(name, 0)


@pytest.mark.slow
def test_site_builds_without_a_warning_and_refers_to_nothing_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|link)[^>]+(?:src|href)=\"?(https?:[^\"\s>]+)", text)
        assert [link for link in loaded if "canonical" not in link] == []
    assert "upper_triangle" in (tmp_path / "reference" / "analysis" / "index.html").read_text()


def test_version_is_the_same_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {nsd_prep.__version__}\n" in citation
    assert f"## [{nsd_prep.__version__}] - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["dynamic"] == ["version"]


def test_module_is_the_command() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "nsd_prep", "--version"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said[0] == f"nsd-prep {nsd_prep.__version__}"
    assert {f"h5py {h5py.__version__}", f"netCDF4 {netCDF4.__version__}"} < set(said)


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        text = document.read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
