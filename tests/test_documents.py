"""The documents: what they show as commands and code runs as it stands there."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import h5py
import netCDF4
import pytest
from documents import ACTIVATE, ROOT, Block, Shell, blocks, make_clone, new_shell, unmarked
from range_server import ServerProcess

import nsd_prep

GUIDES = (
    "tutorial",
    "python",
    "regions",
    "surfaces",
    "features",
    "compare",
    "package",
    "single-trials",
    "exports",
)
#: Blocks that need a bucket, an account or another environment; what they name is tested elsewhere:
#: publishing in test_publish, Brain-Score in test_conformance, the README's in .ci/run.
NOT_RUN = {"package": 2}

#: The README's first command.
README_COMMAND = re.findall(
    r"^<!-- run -->\n```bash\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S
)[0]
#: What a reader replaces by words of their own.
WORDS = {
    "root": "/data/nsd",
    "bucket": "s3://natural-scenes-dataset",
    "mirror": "https://mirror.example.org/nsd",
}

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
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clone after the README's first command; tests work in copies of it."""
    folder = tmp_path_factory.mktemp("readme") / "nsd-prep"
    make_clone(folder)
    with new_shell(folder, home_of(folder)) as shell:
        status, shown = shell.type(README_COMMAND.split("&&")[-1])  # without the installation
    assert status == 0, shown[-3000:]
    return folder


@pytest.fixture
def here(clone: Path, tmp_path: Path) -> Path:
    """Return a copy of the clone, with the same home."""
    (tmp_path / "home").symlink_to(home_of(clone))
    return shutil.copytree(clone, tmp_path / "nsd-prep", symlinks=True)


def other_dataset(here: Path) -> Path:
    """Return a copy of the synthetic dataset that goes by another name, as a reader's own does."""
    copy = shutil.copytree(here / "synthetic-nsd", here.parent / "data" / "nsd")
    description = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps(description | {"name": "a copy"}))
    return copy


def home_of(folder: Path) -> Path:
    """Return the home of who works in a clone."""
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    return home


def read(shell: Shell, found: Iterable[Block], **typed: str) -> str:
    """Do what a page says, from top to bottom; a reader types other words than some."""
    shown = ""
    for _, together in groupby(found, key=lambda block: (block.language, block.status)):
        for block in joined(list(together)):
            text = block.text
            for word, own in typed.items():
                text = text.replace(WORDS[word], own)
            shown += shell.run(replace(block, text=text))
    return shown


def joined(found: list[Block]) -> list[Block]:
    """Join blocks of Python that follow each other: they are typed into one session."""
    if found[0].language != "python":
        return found
    can_run = [block for block in found if block.can_run]
    return [replace(one, text="".join(block.text for block in can_run)) for one in can_run[:1]]


@pytest.mark.slow
@pytest.mark.parametrize("name", GUIDES)
def test_page_from_top_to_bottom(name: str, here: Path) -> None:
    found = blocks(ROOT / "docs" / f"{name}.md")
    assert found
    with new_shell(here, home_of(here)) as shell:
        assert shell.type(ACTIVATE)[0] == 0
        read(shell, found, root="synthetic-nsd")


@pytest.mark.slow
def test_himalaya_takes_what_scikit_learn_takes(here: Path) -> None:
    pytest.importorskip("himalaya")
    write, *python = blocks(ROOT / "docs" / "single-trials.md")[:3]
    used = "from sklearn.linear_model import RidgeCV"
    text = "".join(block.text for block in python)
    assert f"{used}  # or: from himalaya.ridge import RidgeCV" in text
    text = text.replace(used, "from himalaya.ridge import RidgeCV")
    with new_shell(here, home_of(here)) as shell:
        assert shell.type(ACTIVATE)[0] == 0
        read(shell, [write, replace(python[0], text=text)], root="synthetic-nsd")


@pytest.mark.slow
def test_readme_from_top_to_bottom(here: Path) -> None:
    activate, *others = blocks(ROOT / "README.md")
    assert activate.text == ACTIVATE
    with new_shell(here, home_of(here)) as shell:
        read(shell, [activate, *others], root=str(other_dataset(here)))
    for output in ("allen2022/Allen2022.V4.nc", "four/Allen2022.IT.nc"):
        assert (here / output).is_file()


@pytest.mark.slow
def test_getting_nsd_from_top_to_bottom(here: Path, tmp_path: Path) -> None:
    bucket = here / "synthetic-nsd"
    aws = tmp_path / "bin" / "aws"
    aws.parent.mkdir()
    aws.write_text(AWS.format(python=sys.executable))
    aws.chmod(0o755)
    path = f"{aws.parent}:/usr/local/bin:/usr/bin:/bin"
    *fetch, look, repair = blocks(ROOT / "docs" / "getting-nsd.md")
    with new_shell(here, home_of(here), BUCKET=str(bucket), PATH=path) as shell:
        assert shell.type(ACTIVATE)[0] == 0
        read(shell, fetch)
        fetched = {path.relative_to(here / "nsd") for path in (here / "nsd").rglob("*.*")}
        assert not any("truth" in path.parts or path.suffix == ".ctab" for path in fetched)
        # What synthetic data are is said beside them; NSD itself has no such file, and no truth.
        description = json.loads((bucket / "dataset.json").read_text())
        del description["synthetic"]["truth"]
        (here / "nsd" / "dataset.json").write_text(json.dumps(description))
        read(shell, [look])
        (session,) = (path for path in fetched if path.match("subj01/*/*/betas_session03.hdf5"))
        whole = (here / "nsd" / session).read_bytes()
        (here / "nsd" / session).write_bytes(bytes(len(whole)))
        assert "betas_session03" in read(shell, [replace(look, status=1)])
        read(shell, [repair])
        assert (here / "nsd" / session).read_bytes() == whole
        read(shell, [look])


@pytest.mark.slow
def test_bucket_from_top_to_bottom(here: Path) -> None:
    with (
        ServerProcess(other_dataset(here)) as server,
        new_shell(here, home_of(here)) as shell,
    ):
        assert shell.type(ACTIVATE)[0] == 0
        for block in blocks(ROOT / "docs" / "bucket.md"):
            if block.what == "offline":
                server.down()
            read(shell, [block], bucket=server.url, mirror=server.url)
            if block.what == "offline":
                server.up()
    assert (here / "allen2022" / "Allen2022.V1-ventral.nc").is_file()


def test_a_command_that_fails_is_seen(tmp_path: Path) -> None:
    with new_shell(tmp_path, tmp_path) as shell:
        assert shell.type("false; true")[0] == 1
        assert shell.type("x=3; cd /") == (0, "")
        assert shell.type("echo $x $PWD; ls /no/such; echo further")[0] != 0
        assert shell.type("echo $x $PWD") == (0, "3 /\n")
        assert shell.type("nsd-prep --version")[0] == 127, "a new shell knows no environment"


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
