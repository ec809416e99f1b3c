"""The library's lines on a terminal, in the words of the command line."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from nsd_prep.core.parameters import parameters
from nsd_prep.core.terminal import say
from nsd_prep.flows.options import as_options
from nsd_prep.flows.tools.cache import cache
from nsd_prep.flows.tools.export import export
from nsd_prep.flows.tools.package import package
from nsd_prep.flows.tools.publish import publish
from nsd_prep.flows.tools.synth import synth

#: Commands, for what the library says of their parameters.
_COMMANDS: Final = (
    parameters,
    synth,
    cache,
    export,
    package,
    publish,
)
#: What 'trials' takes beside the parameters of a run.
_OF_TRIALS_ALONE: Final = ("experiment",)


def in_words_of_the_terminal(text: str) -> str:
    """Return what the library says, with its parameters as the options of commands."""
    return as_options(text, _COMMANDS, _OF_TRIALS_ALONE)


def print_error(error: object) -> None:
    """Print an error of the library to standard error."""
    say(in_words_of_the_terminal(f"error: {error}"), stderr=True)


class _Lines(logging.Handler):
    """Writes what the library logs to standard error, above a progress bar where one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "beside_a_bar", False):
            say(in_words_of_the_terminal(self.format(record)), stderr=True)


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
