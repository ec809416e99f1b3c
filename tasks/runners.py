"""What runs the extraction: threads, processes, or Dask workers on this or other machines."""

import signal
import socket
from typing import Any, Final

from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from nsd_prep.core.errors import ParameterError
from nsd_prep.core.parameters import Runner
from nsd_prep.core.threads import end_with_parent

#: Submitting a task to another process costs Prefect about 0.2 s, reading a session takes at least
#: that: with this many sessions in a task the cost stays under a tenth of the work.
_SESSIONS_IN_A_TASK: Final = 10
_SECONDS_TO_CONNECT: Final = 10


def task_runner(kind: Runner, workers: int, dask_address: str | None) -> TaskRunner[Any]:
    """Return the task runner of a kind, not entered yet.

    Parameters
    ----------
    kind : {"threads", "processes", "dask"}
        Where tasks run.
    workers : int
        How many run at once; of no meaning where Dask's scheduler has an address.
    dask_address : str or None
        Address of a running Dask scheduler, such as ``"tcp://10.0.0.1:8786"``.

    Raises
    ------
    ParameterError
        An address without Dask, an address at which no scheduler answers, or Dask without its
        library.
    """
    if dask_address and kind != "dask":
        raise ParameterError(
            f"A Dask address is given ({dask_address}) and the runner is {kind}: choose the runner "
            "dask, or leave the address out."
        )
    if kind == "threads":
        return ThreadPoolTaskRunner(max_workers=workers)
    if kind == "processes":
        return ProcessPoolTaskRunner(max_workers=workers, initializer=_begin_worker)
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise ParameterError(
            "The runner dask needs the library prefect-dask: install it with "
            'pip install prefect-dask, or choose runner="threads".'
        ) from error
    if dask_address:
        _check_scheduler(dask_address)
        return DaskTaskRunner(address=dask_address)
    # One thread a worker: HDF5 is read by one thread of a process at a time.
    return DaskTaskRunner(
        cluster_kwargs={"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    )


def _begin_worker() -> None:
    """Let a worker process leave Ctrl-C, which reaches all of a terminal, to that of the run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def _check_scheduler(address: str) -> None:
    """Raise where an address is none, or nothing listens there: Dask would connect late and long.

    Of schemes other than tcp and tls the form alone is checked.
    """
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import get_backend

    try:
        scheme, location = parse_address(address)
        get_backend(scheme)
        if scheme in ("tcp", "tls"):
            socket.create_connection(parse_host_port(location), _SECONDS_TO_CONNECT).close()
    except (ValueError, OSError, OverflowError) as error:
        raise ParameterError(
            f"No Dask scheduler can be reached at {address!r} ({error}): expected the address of "
            "one that is running, such as tcp://10.0.0.1:8786; correct dask_address=, or leave it "
            "out."
        ) from error


def sessions_in_a_task(n_sessions: int, kind: Runner, workers: int) -> int:
    """Return how many sessions of a subject one task extracts, of so many in all.

    One for threads; for others several, so that Prefect's cost is small beside the work, and few
    enough to keep all workers busy.
    """
    return 1 if kind == "threads" else min(_SESSIONS_IN_A_TASK, max(1, n_sessions // workers))
