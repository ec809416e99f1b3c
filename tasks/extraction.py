"""Extraction: mapped over sessions, retried on a fault of the disk, and cached."""

from collections.abc import Sequence
from typing import Any

from prefect import task
from prefect.futures import as_completed
from prefect.runtime import task_run
from prefect.task_runners import TaskRunner

from nsd_prep import extraction
from nsd_prep.errors import ExtractionError
from nsd_prep.extraction import SessionRecord, SessionRequest
from nsd_prep.prefetch import AHEAD, Prefetch
from nsd_prep.progress import Stage
from nsd_prep.store import Store
from nsd_prep.tasks.artifacts import ProgressArtifact
from nsd_prep.tasks.policy import cached


def _name() -> str:
    requests = task_run.parameters["requests"]
    first, last = requests[0], requests[-1]
    name = f"extract-subj{first.subject:02d}-session{first.session:02d}"
    return name if first == last else f"{name}-to-{last.session:02d}"


@task(name="extract-sessions", task_run_name=_name, **cached(extraction.EXTRACTION_VERSION))
def extract_chunk(
    requests: list[SessionRequest],
    store: Store,  # noqa: ARG001 (where the files of the result are)
) -> list[SessionRecord]:
    """Read, z-score and store the responses of a subject's sessions to the shared images."""
    return extraction.extract_sessions(requests)


def extract_sessions(
    chunks: Sequence[list[SessionRequest]], store: Store, runner: TaskRunner[Any], stage: Stage
) -> list[SessionRecord]:
    """Extract all the sessions.

    Parameters
    ----------
    chunks : sequence of list of SessionRequest
        What each task does.
    store : Store
        Where the responses are kept.
    runner : TaskRunner
        What runs the tasks; entered.
    stage : Stage
        Told of each session.

    Returns
    -------
    list of SessionRecord
        In the order of the requests.

    Raises
    ------
    ExtractionError
        Some sessions failed, after all the others were extracted.
    """
    records: list[SessionRecord] = []
    problems: list[str] = []
    artifact = ProgressArtifact("extracting sessions", sum(map(len, chunks)))
    ahead = Prefetch([request for chunk in chunks for request in chunk])
    futures = {
        runner.submit(extract_chunk, {"requests": chunk, "store": store}): chunk for chunk in chunks
    }
    ahead.advance(AHEAD)
    for future in as_completed(list(futures)):
        future.wait()
        result = future.result(raise_on_failure=False)
        if isinstance(result, BaseException):
            problems += getattr(result, "problems", [f"{_where(futures[future])}: {result}"])
        for _ in futures[future]:
            ahead.advance(1)
            stage.advance()
            stage.note = ahead.traffic(stage.done)
            artifact.advance(stage.note)
    if problems:
        raise ExtractionError(sorted(problems))
    for future in futures:
        records += future.result()
    return records


def _where(chunk: Sequence[SessionRequest]) -> str:
    sessions = ", ".join(str(request.session) for request in chunk)
    return f"subject {chunk[0].subject}, sessions {sessions}"
