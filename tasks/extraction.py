"""Extraction: mapped over sessions, tried again on a fault of the disk, and cached."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import task
from prefect.futures import as_completed
from prefect.runtime import task_run
from prefect.task_runners import TaskRunner

from nsd_prep import extraction
from nsd_prep.errors import ExtractionError
from nsd_prep.extraction import SessionRecord, SessionRequest
from nsd_prep.files import sha256_of_json
from nsd_prep.progress import progress_of
from nsd_prep.tasks.artifacts import ProgressArtifact
from nsd_prep.tasks.policy import TRY_AGAIN, cached_by, stored_in
from nsd_prep.tasks.runners import RunnerKind, in_chunks


def _key(requests: list[SessionRequest]) -> str:
    return sha256_of_json([request.key() for request in requests])


def _name() -> str:
    requests = task_run.parameters["requests"]
    first, last = requests[0], requests[-1]
    name = f"extract-subj{first.subject:02d}-session{first.session:02d}"
    return name if first == last else f"{name}-to-{last.session:02d}"


@task(name="extract-sessions", task_run_name=_name, **cached_by(_key), **TRY_AGAIN)
def extract_chunk(requests: list[SessionRequest]) -> list[dict[str, Any]]:
    """Read, z-score and store the responses of a subject's sessions to the shared images."""
    records = extraction.extract_sessions(requests)
    return [record.model_dump(mode="json") for record in records]


def extract_sessions(
    requests: Sequence[SessionRequest],
    cache_dir: Path,
    runner: TaskRunner[Any],
    kind: RunnerKind,
    workers: int,
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
    kind : {"threads", "processes", "dask"}
        The runner's.
    workers : int
        Tasks at once.
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
    cached = extract_chunk.with_options(**stored_in(cache_dir))
    anew = cached.with_options(refresh_cache=True)
    if refresh:
        for request in requests:
            extraction.forget(request)
    records: dict[tuple[int, int], SessionRecord] = {}
    problems: list[str] = []
    artifact = ProgressArtifact("extracting sessions", len(requests))
    with progress_of("extracting sessions", len(requests)) as advance:
        futures = {}
        for chunk in in_chunks(requests, kind, workers):
            stored = all(extraction.is_stored(request) for request in chunk)
            futures[runner.submit(cached if stored else anew, {"requests": chunk})] = chunk
        for future in as_completed(list(futures)):
            future.wait()
            result = future.result(raise_on_failure=False)
            if isinstance(result, BaseException):
                problems += getattr(result, "problems", [f"{_where(futures[future])}: {result}"])
            else:
                for request in futures[future]:  # the result may be of a store that was moved
                    record = extraction.stored_session(request)
                    records[record.subject, record.session] = record
            for _ in futures[future]:
                advance()
                artifact.advance()
    if problems:
        raise ExtractionError(sorted(problems))
    return [records[request.subject, request.session] for request in requests]


def _where(chunk: Sequence[SessionRequest]) -> str:
    return f"subject {chunk[0].subject}, sessions {', '.join(str(of.session) for of in chunk)}"
