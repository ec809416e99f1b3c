"""What Prefect costs a session: as many tasks as a full run has, which do nothing.

Run ``python benchmarks/orchestration.py``. The tasks go through the flow's own code, with the
temporary server of the command line, twice: with an empty cache, and with all results cached. The
last column counts what the server has recorded.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from rich.console import Console
from rich.table import Table

from nsd_prep import extraction
from nsd_prep.extraction import SessionRecord, SessionRequest
from nsd_prep.files import FileIdentity
from nsd_prep.flows.recording import quiet_server, wait_until_recorded
from nsd_prep.flows.server import temporary_server
from nsd_prep.tasks.extraction import extract_sessions
from nsd_prep.tasks.runners import task_runner

#: Sessions that hold images which all of NSD's eight subjects saw three times: 30 of each subject.
SESSIONS, SUBJECTS, WORKERS = 30, 8, 2
SHARED_TRIALS_IN_SESSION = 94
REGIONS = ("V1", "V2", "V4", "IT")


def requests(folder: Path) -> list[SessionRequest]:
    """Return requests of the size that NSD's have."""
    file = FileIdentity(path=str(folder / "betas_session01.hdf5"), bytes=1_100_000_000, modified=0)
    return [
        SessionRequest(
            dataset="NSD",
            preparation="betas_fithrf_GLMdenoise_RR",
            subject=subject,
            session=session,
            betas_file=file,
            n_trials=750,
            trials=tuple(range(0, 8 * SHARED_TRIALS_IN_SESSION, 8)),
            voxels_file=str(folder / "voxels.npz"),
            regions=dict.fromkeys(REGIONS, f"{subject:064x}"),
            store=str(folder / "responses"),
        )
        for subject in range(1, SUBJECTS + 1)
        for session in range(1, SESSIONS + 1)
    ]


def do_nothing(chunk: Sequence[SessionRequest]) -> list[SessionRecord]:
    """Return empty records."""
    return [
        SessionRecord(subject=of.subject, session=of.session, parts={}, voxels_read=0)
        for of in chunk
    ]


@flow(name="orchestration", validate_parameters=False)
def submit_all(wanted: list[SessionRequest], folder: Path) -> float:
    """Submit a task for each session, and return the seconds that takes."""
    started = time.perf_counter()
    with task_runner("threads", WORKERS, None) as runner:
        extract_sessions(wanted, folder, runner, "threads", WORKERS, refresh=False)
    return time.perf_counter() - started


def recorded_task_runs(flow_run_id: object) -> int:
    """Count the task runs of a flow run that the server holds."""
    one_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    body = {"flow_runs": one_run.model_dump(mode="json")}
    with get_client(sync_client=True) as client:
        return int(client.request("POST", "/task_runs/count", json=body).json())


def main() -> None:
    """Measure and print the table."""
    command = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    command.add_argument("--runs", type=int, default=5)
    given = command.parse_args()
    milliseconds: dict[str, list[float]] = {"anew": [], "cached": []}
    recorded: dict[str, list[int]] = {"anew": [], "cached": []}
    with (
        temporary_server() as wait_until_it_answers,
        patch.object(extraction, "extract_sessions", do_nothing),
        # Cached results are looked up as those of a run are: the store is asked, and holds them.
        tempfile.TemporaryDirectory() as of_all,
        ExitStack() as stack,
    ):
        wait_until_it_answers()
        stack.enter_context(quiet_server())
        for run in range(given.runs):
            folder = Path(of_all) / str(run)
            wanted = requests(folder)
            for way, stored in (("anew", False), ("cached", True)):
                with patch.object(extraction, "is_stored", lambda _request, stored=stored: stored):
                    state = submit_all(wanted, folder, return_state=True)
                flow_run_id = state.state_details.flow_run_id
                wait_until_recorded(flow_run_id)
                milliseconds[way].append(1000 * state.result() / len(wanted))
                recorded[way].append(recorded_task_runs(flow_run_id))
    table = Table(title=f"{SUBJECTS * SESSIONS} sessions, {WORKERS} threads, {given.runs} runs")
    for column in ("results", "ms a session (median)", "task runs recorded (fewest)"):
        table.add_column(column, justify="left" if column == "results" else "right")
    for way, values in milliseconds.items():
        table.add_row(way, f"{statistics.median(values):.1f}", str(min(recorded[way])))
    Console().print(table)


if __name__ == "__main__":
    main()
