"""Sessions of large runs are extracted in processes of their own: with the same results."""

import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from living_workers import living_workers

import nsd_prep
from nsd_prep.core.errors import ExtractionError
from nsd_prep.core.parameters import parameters
from nsd_prep.dataset import betas
from nsd_prep.dataset.identity import RemoteIdentity
from nsd_prep.extraction.request import SessionRequest
from nsd_prep.extraction.store import Store
from nsd_prep.flows.nsd_flow import nsd_flow
from nsd_prep.pipeline import extraction
from nsd_prep.pipeline.extraction import extract
from nsd_prep.pipeline.observer import Observer
from nsd_prep.pipeline.preflight import load_inputs
from nsd_prep.pipeline.run import plan_run
from nsd_prep.pipeline.step import InThreads

SMALL = {"report": False, "brainscore": False, "regions": ["V1", "V4"]}


@pytest.fixture
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes extract the sessions of any run, and nothing else read them."""

    def read_here(*_arguments: Any) -> None:
        pytest.fail("betas are read in the process of the run")

    monkeypatch.setattr(extraction, "_BETAS_WORTH_PROCESSES", 1)
    monkeypatch.setattr(betas, "read_voxels", read_here)


def contents(folder: Path) -> dict[str, bytes]:
    """Return what every file holds but for those that tell the run: by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
        and not path.name.startswith((".", "manifest"))
        and path.parent.name != "records"
    }


@pytest.fixture(scope="module")
def in_threads(tiny_nsd: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return what a run in threads has written, its store too."""
    folder = tmp_path_factory.mktemp("threads")
    nsd_prep.prepare(
        nsd_root=tiny_nsd,
        output_dir=folder / "out",
        cache_dir=folder / "cache",
        **SMALL,
        progress=False,
    )
    return contents(folder)


@pytest.mark.usefixtures("all_are_large")
@pytest.mark.parametrize(
    "run",
    [
        partial(nsd_prep.prepare, progress=False),
        pytest.param(nsd_flow, marks=pytest.mark.slow),
    ],
    ids=["prepare", "flow"],
)
def test_outputs_and_store_are_those_of_threads(
    tiny_nsd: Path, tmp_path: Path, in_threads: dict[str, bytes], run: Callable[..., Any]
) -> None:
    options = {"nsd_root": tiny_nsd, "output_dir": tmp_path / "out", **SMALL}
    run(**options, cache_dir=tmp_path / "cache")
    assert contents(tmp_path) == in_threads


class Requests:
    """The sessions of a run on a dataset, with what extracts them."""

    def __init__(self, root: Path, folder: Path, workers: int = 2) -> None:
        options = parameters(nsd_root=root, output_dir=folder / "out", cache_dir=folder / "cache")
        self.run = plan_run(**options | {"regions": ["V1", "V4"], "workers": workers})
        self.inputs = load_inputs(self.run, InThreads())
        self.store = Store(path=self.run.cache_dir / "responses")

    def extract(self, observer: Observer | None = None) -> list[str]:
        """Return the digests of what is extracted."""
        execution = InThreads(self.run.workers)
        sessions, _ = extract(self.run, self.inputs, execution, observer or Observer())
        return [session.digest for session in sessions]

    def requests(self) -> list[SessionRequest]:
        """Return what is asked for."""
        return self.inputs.requests(self.store, ("shared",), with_probes=False)


def test_sessions_that_fail_are_named_and_all_others_extracted(
    tiny_nsd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_nsd, tmp_path / "nsd")
    damaged = [
        next((tmp_path / "nsd").rglob(f"subj01/**/betas_session0{number}.hdf5"))
        for number in (1, 2)
    ]
    for path in damaged:
        # Beyond what preflight reads of it.
        with path.open("rb+") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"\xff" * 40_000)
    said, stored = [], []
    for name in ("threads", "processes"):
        extracted = Requests(tmp_path / "nsd", tmp_path / name)
        with pytest.raises(ExtractionError) as raised:
            extracted.extract()
        said.append(str(raised.value))
        stored.append([request.is_stored for request in extracted.requests()])
        monkeypatch.setattr(extraction, "_BETAS_WORTH_PROCESSES", 1)
    assert said[0] == said[1]
    assert all(str(path) in said[0] for path in damaged)
    assert stored[0] == stored[1] == [False, False, *[True] * (len(stored[0]) - 2)]


@pytest.mark.usefixtures("all_are_large")
def test_what_was_found_changed_is_said_here(
    tiny_nsd: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    extracted = Requests(tiny_nsd, tmp_path)
    expected = extracted.extract()
    first, second = extracted.requests()[:2]
    first.invalidate()
    changed = extracted.store.path / f"{second.part_name('shared', 'V4')}.npy"
    changed.write_bytes(b"something else")
    with caplog.at_level(logging.WARNING):
        assert extracted.extract() == expected
    (said,) = caplog.messages
    assert re.search(rf"{re.escape(str(changed))} are missing or have changed", said)


def test_processes_that_are_killed_are_done_without(
    tiny_nsd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killer(Observer):
        killed = 0

        def session_extracted(self, *_of_it: Any) -> None:
            for process in living_workers():
                process.kill()
                self.killed += 1

    expected = Requests(tiny_nsd, tmp_path / "undisturbed").extract()
    monkeypatch.setattr(extraction, "_BETAS_WORTH_PROCESSES", 1)
    killer = Killer()
    assert Requests(tiny_nsd, tmp_path / "killed").extract(killer) == expected
    assert killer.killed >= 2


class TestWorth:
    """Which sessions are worth processes."""

    @pytest.mark.parametrize("share", [0.9, 1.0, 1.1])
    def test_many_betas(
        self, tiny_nsd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
    ) -> None:
        requests = Requests(tiny_nsd, tmp_path).requests()
        n_betas = sum(
            len(voxels) * request.n_trials
            for request in requests
            for voxels in request.regions.values()
        )
        monkeypatch.setattr(extraction, "_BETAS_WORTH_PROCESSES", int(share * n_betas))
        assert extraction._are_worth_processes(requests) == (share <= 1)

    def test_betas_that_are_kept_for_later_count(
        self, tiny_nsd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        requests = Requests(tiny_nsd, tmp_path).requests()
        monkeypatch.setattr(extraction, "_BETAS_WORTH_PROCESSES", 10_000_000)
        assert not extraction._are_worth_processes(requests)
        kept = [replace(request, keep=np.arange(100_000)) for request in requests]
        assert extraction._are_worth_processes(kept)

    @pytest.mark.usefixtures("all_are_large")
    def test_none_of_a_server(self, tiny_nsd: Path, tmp_path: Path) -> None:
        local = Requests(tiny_nsd, tmp_path).requests()
        assert extraction._are_worth_processes(local)
        there = RemoteIdentity(path="https://example.org/betas", bytes=1, etag="a")
        remote = [replace(request, betas=(there,)) for request in local]
        assert not extraction._are_worth_processes(remote)

    @pytest.mark.usefixtures("all_are_large")
    def test_none_that_are_stored(self, tiny_nsd: Path, tmp_path: Path) -> None:
        class Counter(Observer):
            processes = -1

            def session_extracted(self, *_of_it: Any) -> None:
                self.processes = len(living_workers())

        extracted = Requests(tiny_nsd, tmp_path)
        first, again = Counter(), Counter()
        assert extracted.extract(first) == extracted.extract(again)
        assert (first.processes, again.processes) == (2, 0)

    def test_none_of_one_worker(
        self, tiny_nsd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = betas.read_voxels
        noted = []

        def read_and_note(path: Path, *rest: Any) -> Any:
            noted.append(path)
            return read(path, *rest)

        monkeypatch.setattr(betas, "read_voxels", read_and_note)
        monkeypatch.setattr(extraction, "_BETAS_WORTH_PROCESSES", 1)
        sessions = Requests(tiny_nsd, tmp_path, workers=1).extract()
        assert len(noted) == len(sessions)
