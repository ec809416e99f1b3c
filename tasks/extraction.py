"""Extraction: one mapped task a session, tried again on a fault of the disk, and cached."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prefect import task
from prefect.futures import as_completed
from prefect.task_runners import TaskRunner

from nsd_prep import extraction
from nsd_prep.errors import ExtractionError
from nsd_prep.extraction import SessionRecord, SessionRequest
from nsd_prep.tasks.policy import TRY_AGAIN, cached_by, stored_in


def _key(request: SessionRequest) -> str:
    return request.key()


@task(
    name="extract-session",
    task_run_name="extract-subj{request.subject:02d}-session{request.session:02d}",
    **cached_by(_key),
    **TRY_AGAIN,
)
def extract_session(request: SessionRequest) -> dict[str, Any]:
    """Read, z-score and store the responses of a session to the shared images."""
    return extraction.extract_session(request).model_dump(mode="json")


def extract_sessions(
    requests: Sequence[SessionRequest],
    cache_dir: Path,
    runner: TaskRunner[Any],
    advance: Callable[[], None],
) -> list[SessionRecord]:
    """Extract all the sessions that the store does not hold whole, and look up the others.

    Parameters
    ----------
    requests : sequence of SessionRequest
        What is wanted.
    cache_dir : Path
        Where the results are cached.
    runner : TaskRunner
        What runs the tasks; entered.
    advance : callable
        Called when a session is done.

    Returns
    -------
    list of SessionRecord
        In the order of the requests.

    Raises
    ------
    ExtractionError
        Some sessions failed, after all the others were extracted.
    """
    stored = extract_session.with_options(**stored_in(cache_dir))
    anew = stored.with_options(refresh_cache=True)
    futures = {
        runner.submit(
            stored if extraction.is_stored(request) else anew, {"request": request}
        ): position
        for position, request in enumerate(requests)
    }
    records: dict[int, SessionRecord] = {}
    problems: dict[int, str] = {}
    for future in as_completed(list(futures)):
        future.wait()
        position = futures[future]
        result = future.result(raise_on_failure=False)
        if isinstance(result, BaseException):
            request = requests[position]
            where = f"subject {request.subject}, session {request.session}"
            problems[position] = f"{where}: {result}"
        else:
            records[position] = SessionRecord.model_validate(result)
        advance()
    if problems:
        raise ExtractionError([problems[position] for position in sorted(problems)])
    return [records[position] for position in range(len(requests))]
