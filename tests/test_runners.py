"""The same bytes come out whatever runs the sessions: threads, processes, or Dask workers."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nsd_prep.core.errors import ParameterError
from nsd_prep.core.parameters import Runner
from nsd_prep.core.records import FileIdentity
from nsd_prep.dataset.beta_files import BetaFile
from nsd_prep.dataset.space import VolumeSpace
from nsd_prep.extraction.request import SessionRequest
from nsd_prep.extraction.store import Store
from nsd_prep.pipeline.extraction import in_chunks
from nsd_prep.sources.folder import FolderSource
from nsd_prep.tasks.runners import sessions_in_a_task, task_runner

FLOW = Path(__file__).parents[1] / "flows" / "nsd_flow.py"


def requests(sessions: dict[int, int]) -> list[SessionRequest]:
    """Return a request for each session of each subject."""
    return [
        SessionRequest(
            subject=subject,
            session=session,
            source=FolderSource(Path("root")),
            files=(BetaFile(Path("betas"), (1, 1, 1), 0, 1),),
            betas=(FileIdentity(path="betas", bytes=1, modified=1),),
            n_trials=3,
            trials=(0,),
            space=VolumeSpace((1, 1, 1), np.eye(4)),
            regions={},
            store=Store(path=Path("store")),
        )
        for subject, number in sessions.items()
        for session in range(1, number + 1)
    ]


def chunks_of(sessions: dict[int, int], kind: Runner, workers: int) -> list[list[SessionRequest]]:
    """Return what each task extracts."""
    wanted = requests(sessions)
    return in_chunks(wanted, sessions_in_a_task(len(wanted), kind, workers))


class TestChunks:
    def test_threads_work_on_one_session_at_a_time(self) -> None:
        assert [len(chunk) for chunk in chunks_of({1: 3, 2: 2}, "threads", 2)] == [1] * 5

    def test_others_work_on_several_sessions_of_one_subject(self) -> None:
        chunks = chunks_of({1: 30, 2: 25}, "processes", 2)
        assert [len(chunk) for chunk in chunks] == [10, 10, 10, 10, 10, 5]
        assert all(len({item.subject for item in chunk}) == 1 for chunk in chunks)
        assert [item for chunk in chunks for item in chunk] == requests({1: 30, 2: 25})

    def test_few_sessions_are_divided_so_that_all_workers_have_some(self) -> None:
        assert [len(chunk) for chunk in chunks_of({1: 6}, "dask", 3)] == [2, 2, 2]


def test_an_address_without_dask_is_refused() -> None:
    with pytest.raises(ParameterError, match="choose the runner dask"):
        task_runner("threads", 2, "tcp://10.0.0.1:8786")


@pytest.mark.parametrize(
    "address",
    [
        "rubbish",
        "tcp://",
        "tcp://host",
        "tcp://a:b",
        "http://10.0.0.1:8786",
        ":::",
        "\0",
        "tcp://127.0.0.1:1",
    ],
)
def test_an_address_at_which_no_scheduler_answers_is_refused(address: str) -> None:
    with pytest.raises(ParameterError, match="No Dask scheduler can be reached at") as raised:
        task_runner("dask", 2, address)
    assert repr(address) in str(raised.value)
    assert "dask_address=" in str(raised.value)


@pytest.mark.server
def test_the_same_bytes_with_every_runner(tiny_nsd: Path, tmp_path: Path) -> None:
    found = {}
    for kind in ("threads", "processes", "dask"):
        out = tmp_path / kind
        words = ["--nsd-root", tiny_nsd, "--output-dir", out, "--runner", kind, "--workers", "2"]
        environment = os.environ | {"PREFECT_HOME": str(tmp_path / "prefect")}
        with (tmp_path / f"{kind}.log").open("w") as log:
            subprocess.run(
                [sys.executable, FLOW, *map(str, words), "--no-report"],
                check=True,
                stdout=log,
                stderr=log,
                timeout=150,
                env=environment,
            )
        found[kind] = {
            str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in out.rglob("*")
            if path.suffix in (".nc", ".csv", ".png")
        }
    assert len(found["threads"]) > 30
    assert found["processes"] == found["threads"]
    assert found["dask"] == found["threads"]
