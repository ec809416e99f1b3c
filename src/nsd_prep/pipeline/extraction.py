"""Extraction of what a run needs of its sessions, divided among workers."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from nsd_prep.core.errors import ExtractionError
from nsd_prep.extraction.prefetch import AHEAD, Prefetch
from nsd_prep.extraction.request import SessionRequest, TrialSelection
from nsd_prep.extraction.sessions import ReplacedSessionsError, SessionRecord
from nsd_prep.extraction.store import Store
from nsd_prep.pipeline import step_table
from nsd_prep.pipeline.inputs import Inputs
from nsd_prep.pipeline.observer import Observer
from nsd_prep.pipeline.run import Run
from nsd_prep.pipeline.step import Execution

#: How often a session is started whose remote file is replaced meanwhile.
_STARTS: Final = 3
#: Two threads read so many in two or three seconds; a process takes one to start.
_BETAS_WORTH_PROCESSES: Final = 100_000_000

_logger: Final = logging.getLogger(__name__)


def extract(
    run: Run,
    inputs: Inputs,
    execution: Execution,
    observer: Observer,
    kinds: tuple[TrialSelection, ...] = ("shared",),
    *,
    with_probes: bool = False,
) -> tuple[list[SessionRecord], Store]:
    """Extract what a run needs of its sessions and the store of its cache does not hold.

    Parameters
    ----------
    run, inputs : Run, Inputs
        What is to be extracted.
    execution : Execution
        What carries out the steps.
    observer : Observer
        Is told of each session.
    kinds : tuple of {"shared", "all"}
        What is kept of each session.
    with_probes : bool
        Keep all trials of a few voxels of each region as well, for checks.

    Returns
    -------
    sessions : list of SessionRecord
        What was extracted, by subject in the run's order, sessions ascending.
    store : Store
        Where it lies.

    Raises
    ------
    ExtractionError
        Some sessions failed, after all the others were extracted.
    """
    store = Store(path=run.cache_dir / "responses")
    requests = inputs.requests(store, kinds, with_probes=with_probes)
    if run.refresh:
        for request in requests:
            request.invalidate()
    return _extract_in_chunks(requests, store, execution, observer), store


def _extract_in_chunks(
    requests: Sequence[SessionRequest], store: Store, execution: Execution, observer: Observer
) -> list[SessionRecord]:
    """Extract all the sessions; records in the order of the requests.

    Raises
    ------
    ExtractionError
        Some sessions failed, after all the others were extracted.
    """
    records: dict[int, list[SessionRecord]] = {}
    problems: list[str] = []
    ahead_at_first = AHEAD
    to_read = [request for request in requests if not request.is_stored]
    name = "extracting sessions" if to_read else "reading sessions from the cache"
    with (
        observer.stage(name, len(requests)) as stage,
        execution.workers(in_processes=_are_worth_processes(to_read)) as workers,
    ):
        ahead = Prefetch(requests if workers.are_threads else [])  # others fetch for themselves
        chunks = in_chunks(requests, workers.sessions_at_once(len(requests)))
        waiting = dict(enumerate(chunks))
        for start in range(_STARTS):
            positions, calls = list(waiting), [(chunk, store) for chunk in waiting.values()]
            outcomes = workers.map(step_table.EXTRACT_SESSIONS, calls)
            ahead.advance(ahead_at_first)
            ahead_at_first, waiting = 0, {}
            for call, outcome in outcomes:
                position = positions[call]
                chunk = chunks[position]
                try:
                    records[position] = outcome()
                except Exception as error:
                    if isinstance(error, ReplacedSessionsError) and start + 1 < _STARTS:
                        _logger.warning("%s; starting these sessions again.", error)
                        waiting[position] = [_renewed(request, error) for request in chunk]
                        continue
                    problems += getattr(error, "problems", [f"{_where(chunk)}: {error}"])
                for _ in chunk:
                    ahead.advance(1)
                    stage.advance()
                    stage.note = ahead.traffic(stage.done)
                    observer.session_extracted(stage)
            if not waiting:
                break
        if problems:
            raise ExtractionError(sorted(problems))
    return [record for _, extracted in sorted(records.items()) for record in extracted]


def _are_worth_processes(requests: Sequence[SessionRequest]) -> bool:
    """Return whether sessions are read faster in processes, in spite of what these take to start.

    Python's lock holds threads up where files are local; of a server, they wait for it, and what
    one has fetched ahead serves all.
    """
    n_betas = sum(
        request.n_trials * len(request.voxels(region))
        for request in requests
        for region in {region for _, region in request.parts}
    )
    is_local = all(request.local_files for request in requests)
    return is_local and n_betas >= _BETAS_WORTH_PROCESSES


def in_chunks(requests: Sequence[SessionRequest], size: int) -> list[list[SessionRequest]]:
    """Divide requests into those of one call: of one subject, at most so many."""
    by_subject: dict[int, list[SessionRequest]] = {}
    for request in requests:
        by_subject.setdefault(request.subject, []).append(request)
    return [
        wanted[start : start + size]
        for wanted in by_subject.values()
        for start in range(0, len(wanted), size)
    ]


def _renewed(request: SessionRequest, replaced: ReplacedSessionsError) -> SessionRequest:
    """Return a request for the file that a server has now."""
    betas = replaced.betas.get((request.subject, request.session), request.betas)
    return replace(request, betas=betas)


def _where(chunk: Sequence[SessionRequest]) -> str:
    sessions = ", ".join(str(request.session) for request in chunk)
    return f"subject {chunk[0].subject}, sessions {sessions}"
