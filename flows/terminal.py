"""The library's lines on a terminal, in the words of the command line."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from nsd_prep.core.parameters import parameters
from nsd_prep.core.terminal import say
from nsd_prep.flows import tools
from nsd_prep.flows.options import as_options

#: Commands, for what the library says of their parameters.
_COMMANDS: Final = (
    parameters,
    tools.synth,
    tools.cache,
    tools.export,
    tools.package,
    tools.publish,
)


def print_error(error: object) -> None:
    """Print an error of the library to standard error."""
    say(as_options(f"error: {error}", _COMMANDS), stderr=True)


class _Lines(logging.Handler):
    """Writes what the library logs to standard error, above a progress bar where one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "beside_a_bar", False):
            say(as_options(self.format(record), _COMMANDS), stderr=True)


@contextmanager
def lines_on_terminal() -> Iterator[None]:
    """Show the library's lines: Prefect's handlers are silenced, and take them to the server."""
    logger, lines = logging.getLogger("nsd_prep"), _Lines()
    level = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)
