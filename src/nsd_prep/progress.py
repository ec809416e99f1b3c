"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LINES: Final = 10


class Stopwatch:
    """How long each stage of some work takes.

    Attributes
    ----------
    seconds : dict of str to float
        For each stage so far, by its name.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        """Note that a stage has just ended, which began where the one before it ended."""
        now = time.monotonic()
        self.seconds[stage] = now - self._last
        self._last = now

    @property
    def total(self) -> float:
        """Seconds of all the stages so far."""
        return sum(self.seconds.values())


@contextmanager
def progress_of(
    description: str, total: int, say: Callable[[str], None] | None = None
) -> Iterator[Callable[[], None]]:
    """Show how far some work is.

    Parameters
    ----------
    description : str
        What is done, such as ``"extracting sessions"``.
    total : int
        How many steps it has.
    say : callable, optional
        Takes a line where there is no terminal; standard error where nothing is given.

    Yields
    ------
    callable
        To be called after each step.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(description, total=total)
            yield lambda: bar.advance(task)
        return
    line = say or (lambda text: console.print(text, highlight=False))
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if done == total or done * _LINES // total > (done - 1) * _LINES // total:
            line(f"{description}: {done} of {total}")

    yield advance
