"""What a run tells its server, and what of that people see."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker, PrefectConsoleHandler
from prefect.settings import (
    PREFECT_LOGGING_EXTRA_LOGGERS,
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW,
    temporary_settings,
)

_CONSOLE_LEVEL: Final = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"
_WELL: Final = ("Finished in state Completed", "Finished in state Cached")


def silence_console() -> None:
    """Keep Prefect from showing the log: the command tells people what they need to know."""
    os.environ.setdefault(_CONSOLE_LEVEL, "ERROR")  # of other processes
    for handler in (*logging.getLogger().handlers, *logging.getLogger("prefect").handlers):
        if isinstance(handler, PrefectConsoleHandler):
            handler.addFilter(_nothing)


@contextmanager
def log_to_server() -> Iterator[None]:
    """Send what is logged to the server.

    Entered when a server answers (``flows.server.temporary_server``); at its end everything that
    waits to be sent is sent.
    """
    updates = {
        PREFECT_LOGGING_EXTRA_LOGGERS: ["nsd_prep"],  # of processes that are started
        PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore",
    }
    with temporary_settings(updates), library_log_to_server():
        try:
            yield
        finally:
            _send_all()


def _nothing(_record: logging.LogRecord) -> bool:
    return False


@contextmanager
def library_log_to_server() -> Iterator[None]:
    """Send the library's log, its stages too, to the page of the run.

    As Prefect does with its extra loggers, which it looks up only when it is imported, and whose
    level it leaves at that of the root, which is warnings.
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
    """Leave out of the logs the line that every task run writes when all is well.

    Also where it is well since its result was there already, as in a run that is tried again.
    """
    logger = logging.getLogger("prefect.task_runs")

    def tells_more(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_WELL)

    logger.addFilter(tells_more)
    try:
        yield
    finally:
        logger.removeFilter(tells_more)


def _send_all() -> None:
    """Send the server the events and lines of the log that wait to be sent."""
    EventsWorker.drain_all()
    APILogWorker.drain_all()
