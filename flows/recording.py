"""What a run leaves at its server: every task run, and its log."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker, PrefectConsoleHandler
from prefect.settings import (
    PREFECT_LOGGING_EXTRA_LOGGERS,
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW,
    temporary_settings,
)

_RECORD_SECONDS: Final = 30
#: Interval in which a temporary server records task runs (see flows.server).
_FLUSH_SECONDS: Final = 1
_CONSOLE_LEVEL: Final = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"

_logger = logging.getLogger(__name__)


@contextmanager
def quiet_server() -> Iterator[None]:
    """Send what is logged to the server alone: the command tells people what they need to know.

    Entered when a server answers (``flows.server.temporary_server``); at its end everything that
    waits to be sent is sent.
    """
    updates = {
        PREFECT_LOGGING_EXTRA_LOGGERS: ["nsd_prep"],  # of processes that are started
        PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore",
    }
    os.environ.setdefault(_CONSOLE_LEVEL, "ERROR")  # of other processes
    for handler in (*logging.getLogger().handlers, *logging.getLogger("prefect").handlers):
        if isinstance(handler, PrefectConsoleHandler):
            handler.addFilter(_nothing)
    with temporary_settings(updates), _library_log_to_server():
        try:
            yield
        finally:
            _send_all()


def _nothing(_record: logging.LogRecord) -> bool:
    return False


@contextmanager
def _library_log_to_server() -> Iterator[None]:
    """Send the library's log to the page of the run.

    As Prefect does with its extra loggers, which it looks up only when it is imported.
    """
    logger, handlers = logging.getLogger("nsd_prep"), logging.getLogger("prefect.extra").handlers
    added = [handler for handler in handlers if handler not in logger.handlers]
    level = logger.level
    for handler in added:
        logger.addHandler(handler)
    if level == logging.NOTSET:
        logger.setLevel(logging.getLogger("prefect.extra").level)
    try:
        yield
    finally:
        for handler in added:
            logger.removeHandler(handler)
        logger.setLevel(level)


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


def wait_until_recorded(flow_run: UUID) -> None:
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
            recorded = _count_task_runs(client, flow_run, None)
            unfinished = _count_task_runs(client, flow_run, ["PENDING", "RUNNING", "SCHEDULED"])
            if recorded != before or unfinished:
                before, since = recorded, now
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
