"""The server behind a run: its settings, its end, and what a killed run left of one."""

import logging
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final
from uuid import UUID

import httpx
import psutil
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.context import refresh_global_settings_context
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker, PrefectConsoleHandler
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_EXTRA_LOGGERS,
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE,
    PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL,
    PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE,
    get_current_settings,
    temporary_settings,
)

from nsd_prep.errors import OutputError

#: In the environment of a temporary server: the process that started it.
_OWNER: Final = "NSD_PREP_SERVER_OF"
#: Prefect's command, whose libraries Python's collector would look through again and again while
#: they are imported: a fifth of the server's start.
_PREFECT: Final = "import gc; gc.set_threshold(100_000); from prefect.cli import app; app()"
_START_SECONDS: Final = 120
_RECORD_SECONDS: Final = 30
#: Prefect rounds this down, and with 0 its server would spin and take a whole core.
_FLUSH_SECONDS: Final = 1

_logger = logging.getLogger(__name__)


@contextmanager
def quiet_server() -> Iterator[None]:
    """Make a temporary server record every task run, and leave the terminal alone.

    Where a server is configured it is used as it is, and only the terminal is kept quiet: what is
    logged goes to the server, and the command says what people need to know.
    """
    updates = {
        PREFECT_LOGGING_EXTRA_LOGGERS: ["nsd_prep"],  # of processes that are started
        PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore",
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE: 100,
        PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE: 100,
        PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL: _FLUSH_SECONDS,
    }
    end_orphaned_servers()
    os.environ[_OWNER] = str(os.getpid())
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "ERROR")  # of other processes
    for handler in (*logging.getLogger().handlers, *logging.getLogger("prefect").handlers):
        if isinstance(handler, PrefectConsoleHandler):
            handler.addFilter(lambda _record: False)
    try:
        with temporary_settings(updates), _warnings_to_server():
            yield
    finally:
        del os.environ[_OWNER]


@contextmanager
def _warnings_to_server() -> Iterator[None]:
    """Send the library's warnings to the page of the run.

    As Prefect does with its extra loggers, which it looks up only when it is imported.
    """
    logger, handlers = logging.getLogger("nsd_prep"), logging.getLogger("prefect.extra").handlers
    added = [handler for handler in handlers if handler not in logger.handlers]
    for handler in added:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in added:
            logger.removeHandler(handler)


@contextmanager
def without_success_lines() -> Iterator[None]:
    """Leave out of the logs the line that every task run writes when all is well."""
    logger = logging.getLogger("prefect.task_runs")

    def tells_more(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Finished in state Completed")

    logger.addFilter(tells_more)
    try:
        yield
    finally:
        logger.removeFilter(tells_more)


@contextmanager
def temporary_server() -> Iterator[Callable[[], None]]:
    """Start a temporary server, unless one is configured, and end it.

    Yields
    ------
    callable
        Returns when the server answers, and raises an OutputError if it does not start.
    """
    if PREFECT_API_URL.value():
        yield lambda: None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    process = subprocess.Popen(
        [sys.executable, "-c", _PREFECT, *words],
        env=os.environ | get_current_settings().to_environment_variables(exclude_unset=True),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Ctrl-C in a terminal goes to all the processes there, and a run that is interrupted still
        # needs its server, to say that it was.
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}/api"
        with _used_everywhere(url):
            try:
                yield partial(_wait_until_healthy, url, process)
            finally:
                _send_all()
    finally:
        _end(psutil.Process(process.pid) if process.poll() is None else None)


@contextmanager
def _used_everywhere(url: str) -> Iterator[None]:
    """Use a server also in threads without settings of their own, and in other processes."""
    os.environ[PREFECT_API_URL.name] = url
    refresh_global_settings_context()
    try:
        # A server that ends with its run has nobody to tell that the run is still alive.
        with temporary_settings({PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield
    finally:
        del os.environ[PREFECT_API_URL.name]
        refresh_global_settings_context()


def _wait_until_healthy(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_SECONDS
    with httpx.Client(base_url=url) as client:
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(httpx.TransportError):
                if client.get("/health").is_success:
                    return
            time.sleep(0.05)
    raise OutputError(
        f"Prefect's server did not start at {url} within {_START_SECONDS} s: start one with "
        "'prefect server start', set PREFECT_API_URL to its address, and run the command again."
    )


def end_orphaned_servers() -> None:
    """End the temporary servers of this command's killed runs, and nothing else."""
    for process in psutil.process_iter(["cmdline"]):
        try:
            if "prefect" not in " ".join(process.info["cmdline"] or []):
                continue
            owner = process.environ().get(_OWNER, "")
            if owner.isdigit() and not psutil.pid_exists(int(owner)):
                _logger.warning(
                    "Ending a temporary server that a killed run left (process %d).", process.pid
                )
                _end(process)
        except psutil.Error:
            continue  # another user's process, or one that has just ended


def _end(process: psutil.Process | None) -> None:
    if process is None:
        return
    family = [process, *process.children(recursive=True)]
    for of in family:
        of.terminate()
    for of in psutil.wait_procs(family, timeout=10)[1]:
        of.kill()


def end_workers() -> None:
    """End the worker processes of an interrupted run, which its runner does not wait for."""
    workers = multiprocessing.active_children()
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(timeout=10)
        worker.kill()


def settle(flow_run: UUID) -> None:
    """Send what is still to be sent to the server, and wait until it has recorded a run's tasks.

    Task runs are recorded some time after they end, and a temporary server is gone with the run.

    Parameters
    ----------
    flow_run : UUID
        The run that has ended.
    """
    _send_all()
    sent = time.monotonic()
    before, since = -1, sent
    with get_client(sync_client=True) as client:
        while (now := time.monotonic()) < sent + _RECORD_SECONDS:
            all_of_them = _count_task_runs(client, flow_run, None)
            going_on = _count_task_runs(client, flow_run, ["PENDING", "RUNNING", "SCHEDULED"])
            if all_of_them != before or going_on:
                before, since = all_of_them, now
            elif now > sent + 1.2 * _FLUSH_SECONDS and now > since + 0.5 * _FLUSH_SECONDS:
                return
            time.sleep(0.1)
    _logger.warning("The server has not recorded the end of all the tasks of this run.")


def _send_all() -> None:
    """Send the server the events and lines of the log that wait to be sent."""
    EventsWorker.drain_all()
    APILogWorker.drain_all()


def _count_task_runs(
    client: SyncPrefectClient, flow_run: UUID, state_types: list[str] | None
) -> int:
    question: dict[str, Any] = {"flow_runs": {"id": {"any_": [str(flow_run)]}}}
    if state_types:
        question["task_runs"] = {"state": {"type": {"any_": state_types}}}
    return int(client.request("POST", "/task_runs/count", json=question).json())
