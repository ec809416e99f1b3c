"""Progress of a run: a line for each stage, and a bar or a line now and then for a long one."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from nsd_prep.core.terminal import console

_logger: Final = logging.getLogger(__name__)
#: Nothing is silent for longer than this, in seconds.
_SILENCE: Final = 4.0
_LONGEST_BAR: Final = 40
_SHORTEST_BAR: Final = 5
#: As long as a clock of up to a day.
_CLOCK: Final = "00:00:00"
#: The stage that is under way, for functions that do a long stage's work step by step.
_CURRENT: Final[ContextVar["Stage | None"]] = ContextVar("current stage", default=None)
#: When the command began of which the stages are a part, for their total.
_BEGAN: Final[ContextVar[float | None]] = ContextVar("begin of the command", default=None)


class Stage:
    """A stage of a run that is under way: what is done, and how many steps it has, if known."""

    def __init__(self, name: str, total: int | None = None) -> None:
        self.name = name
        self.total = total
        self.done = 0
        self.note = ""
        self._started, self._worked = time.monotonic(), time.process_time()
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """How long it has been under way."""
        return time.monotonic() - self._started

    @property
    def processor_seconds(self) -> float:
        """How long this process, with all its threads, has had a processor since it began."""
        return time.process_time() - self._worked

    def advance(self) -> None:
        """Count one more step."""
        with self._lock:
            self.done += 1

    def __str__(self) -> str:
        """Return how far it is."""
        steps = f"{self.done} of {self.total}, " if self.total else ""
        note = f", {self.note}" if self.note else ""
        return f"{self.name}: {steps}{self.seconds:.0f} s{note}"


def current_stage() -> Stage:
    """Return the stage that is under way in this context; one that nobody sees where there is none.

    A function with many steps sets its ``total`` and calls its ``advance``.
    """
    return _CURRENT.get() or Stage("")


@contextmanager
def counting_from_here() -> Iterator[None]:
    """Let the total of stages in a block count from its begin."""
    token = _BEGAN.set(time.monotonic())
    try:
        yield
    finally:
        _BEGAN.reset(token)


class Stages:
    """The stages of a run, one after another, and the ``seconds`` that each took, by its name.

    Its ``processor_seconds`` beside them are those of this process: what workers of their own did
    is not in them.

    Where they are ``shown``, a bar on a terminal or lines in the log tell how far a stage is.
    """

    def __init__(self, *, shown: bool = True) -> None:
        self.seconds: dict[str, float] = {}
        self.processor_seconds: dict[str, float] = {}
        self._shown = shown
        self._began = time.monotonic()

    @property
    def total(self) -> float:
        """Seconds since the command began, or else since the stages did."""
        return time.monotonic() - (_BEGAN.get() or self._began)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        """Show that a stage is under way, whose steps are counted by what this gives."""
        stage = Stage(name, total)
        token = _CURRENT.set(stage)
        try:
            with _watched(stage) if self._shown else nullcontext():
                yield stage
        finally:
            _CURRENT.reset(token)
        self.seconds[name] = self.seconds.get(name, 0) + stage.seconds
        worked = self.processor_seconds.get(name, 0) + stage.processor_seconds
        self.processor_seconds[name] = worked
        if self._shown:
            _logger.info("%s: %.1f s", name, stage.seconds)


@contextmanager
def _watched(stage: Stage) -> Iterator[None]:
    """Show how far a stage is while the block runs."""
    ended = threading.Event()
    # In the context of the run, or its lines would not reach the run's log.
    context = copy_context()
    watch = threading.Thread(target=context.run, args=(_watch, stage, ended), daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()


def _watch(stage: Stage, ended: threading.Event) -> None:
    """Show how far a stage is until it ends: a bar on a terminal, lines in the log."""
    output = console(stderr=True)
    if not output.is_terminal:
        while not ended.wait(_SILENCE):
            _logger.info("%s", stage)
        return
    # A line on the terminal beside the bar would be noise: those are for the log alone.
    bar = _Bar(console=output, transient=True)
    task = bar.add_task("", steps="")
    bar.show(task, stage)
    with bar:
        spoken = time.monotonic()
        while not ended.wait(0.1):
            bar.show(task, stage)
            if time.monotonic() - spoken > _SILENCE:
                _logger.info("%s", stage, extra={"beside_a_bar": True})
                spoken = time.monotonic()


class _Bar(Progress):
    """A progress bar of one stage, which leaves out what its line has no room for."""

    def __init__(self, *, console: Console, transient: bool = False) -> None:
        whole = Column(no_wrap=True)
        self._bar = BarColumn(_LONGEST_BAR)
        self._remaining = TimeRemainingColumn(table_column=whole)
        self._always = (
            SpinnerColumn(table_column=whole),
            TextColumn("{task.description}", table_column=whole, markup=False),
            TextColumn("{task.fields[steps]}", table_column=whole),
            TimeElapsedColumn(table_column=whole),
        )
        super().__init__(*self._always, console=console, transient=transient)

    def show(self, task: TaskID, stage: Stage) -> None:
        """Show how far a stage is, in the width that the terminal has now."""
        steps = f"{stage.done}/{stage.total}" if stage.total else ""
        described = f"{stage.name}: {stage.note}" if stage.note else stage.name
        # Beside the description: the spinner, the steps, a clock, and a space between two of them.
        room = self.console.width - len(" ".join(["*", "", steps, _CLOCK]))
        if len(described) > room:
            described = f"{described[: max(room - 1, 0)]}…"
        self.columns = self._fitting(room - len(described))
        self.update(
            task, description=described, completed=stage.done, total=stage.total, steps=steps
        )

    def _fitting(self, room: int) -> tuple[ProgressColumn, ...]:
        """Return the columns of a line in which there is room beside those that always stand."""
        spinner, description, steps, elapsed = self._always
        for more in ((self._remaining,), ()):
            length = min(room - 1 - len(more) * len(f" {_CLOCK}"), _LONGEST_BAR)
            if length >= _SHORTEST_BAR:
                self._bar.bar_width = length
                return (spinner, description, self._bar, steps, elapsed, *more)
        return self._always
