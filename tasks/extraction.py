"""Extraction: one mapped task a session, tried again on a fault of the disk, and cached."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import task
from prefect.futures import as_completed
from prefect.task_runners import TaskRunner

from nsd_prep import extraction
from nsd_prep.errors import ExtractionError
from nsd_prep.extraction import SessionRecord, SessionRequest
from nsd_prep.progress import progress_of
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
    refresh: bool,
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
    refresh : bool
        Extract anew also what the store holds.

    Returns
    -------
    list of SessionRecord
        In the order of the requests.

    Raises
    ------
    ExtractionError
        Some sessions failed, after all the others were extracted.
    """
    cached = extract_session.with_options(**stored_in(cache_dir))
    anew = cached.with_options(refresh_cache=True)
    if refresh:
        for request in requests:
            extraction.forget(request)
    results: dict[int, Any] = {}
    with progress_of("extracting sessions", len(requests)) as advance:
        position_of = {
            runner.submit(
                cached if extraction.is_stored(request) else anew, {"request": request}
            ): position
            for position, request in enumerate(requests)
        }
        for future in as_completed(list(position_of)):
            future.wait()
            results[position_of[future]] = future.result(raise_on_failure=False)
            advance()
    problems = [
        f"subject {request.subject}, session {request.session}: {results[position]}"
        for position, request in enumerate(requests)
        if isinstance(results[position], BaseException)
    ]
    if problems:
        raise ExtractionError(problems)
    return [SessionRecord.model_validate(results[position]) for position in range(len(requests))]
