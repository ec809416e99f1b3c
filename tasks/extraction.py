"""Extraction: mapped over sessions, retried on a fault of the disk, and cached."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from prefect import task
from prefect.futures import as_completed
from prefect.runtime import task_run
from prefect.task_runners import TaskRunner

from nsd_prep.core.errors import ExtractionError
from nsd_prep.core.progress import Stage
from nsd_prep.extraction import sessions as extraction
from nsd_prep.extraction.prefetch import AHEAD, Prefetch
from nsd_prep.extraction.sessions import ReplacedSessionsError, SessionRecord, SessionRequest
from nsd_prep.extraction.store import Store
from nsd_prep.tasks.artifacts import ProgressArtifact
from nsd_prep.tasks.policy import cached

#: How often a session is started whose remote file is replaced meanwhile.
_STARTS: Final = 3

_logger: Final = logging.getLogger(__name__)


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
    """Extract all the sessions, each chunk of them in a task; records in the order of the requests.

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

    Raises
    ------
    ExtractionError
        Some sessions failed, after all the others were extracted.
    """
    records: dict[int, list[SessionRecord]] = {}
    problems: list[str] = []
    artifact = ProgressArtifact("extracting sessions", sum(map(len, chunks)))
    ahead = Prefetch([request for chunk in chunks for request in chunk])
    ahead_at_first = AHEAD
    waiting = dict(enumerate(chunks))
    for start in range(_STARTS):
        futures = {
            runner.submit(extract_chunk, {"requests": chunk, "store": store}): position
            for position, chunk in waiting.items()
        }
        ahead.advance(ahead_at_first)
        ahead_at_first, waiting = 0, {}
        for future in as_completed(list(futures)):
            future.wait()
            result = future.result(raise_on_failure=False)
            position = futures[future]
            chunk = chunks[position]
            if isinstance(result, ReplacedSessionsError) and start + 1 < _STARTS:
                _logger.warning("%s; starting these sessions again.", result)
                waiting[position] = [_renewed(request, result) for request in chunk]
                continue
            if isinstance(result, BaseException):
                problems += getattr(result, "problems", [f"{_where(chunk)}: {result}"])
            else:
                records[position] = result
            for _ in chunk:
                ahead.advance(1)
                stage.advance()
                stage.note = ahead.traffic(stage.done)
                artifact.advance(stage.note)
    if problems:
        raise ExtractionError(sorted(problems))
    return [record for _, extracted in sorted(records.items()) for record in extracted]


def _renewed(request: SessionRequest, replaced: ReplacedSessionsError) -> SessionRequest:
    """Return a request for the file that a server has now."""
    betas = replaced.betas.get((request.subject, request.session), request.betas)
    return replace(request, betas=betas)


def _where(chunk: Sequence[SessionRequest]) -> str:
    sessions = ", ".join(str(request.session) for request in chunk)
    return f"subject {chunk[0].subject}, sessions {sessions}"
