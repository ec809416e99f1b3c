"""What people see of a run: nothing, its progress and summary on the terminal, or more."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from nsd_prep.core.check import Check
from nsd_prep.core.progress import Stage, Stages
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.core.terminal import print_rendered
from nsd_prep.pipeline.summary import Summary
from nsd_prep.pipeline.unchanged import UnchangedRun


class Observer:
    """Is told how far a run is, and what came out; shows nothing.

    Attributes
    ----------
    stages : Stages
        How long each stage took.
    run_name : str
        What the run is called where it is shown; "" where it has no name.
    """

    run_name = ""

    def __init__(self) -> None:
        self.stages = Stages(shown=False)

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[Stage]:
        """Be told of a stage while it is under way, as `Stages.stage`."""
        return self.stages.stage(name, total)

    def session_extracted(self, stage: Stage) -> None:
        """Be told that one more session is extracted."""

    def show_inputs(self, text: str) -> None:
        """Show what a run will do."""

    def show_checks(self, checks: Sequence[Check]) -> None:
        """Show all that was checked."""

    def show_report(self, report: StepOutput, output: Folder) -> None:
        """Show the report, which is written."""

    def show_summary(self, summary: Summary) -> None:
        """Show what came out."""

    def show_unchanged(self, run: UnchangedRun) -> None:
        """Show that nothing is to be done, and what came out before."""


class TerminalObserver(Observer):
    """Shows progress on a terminal or in the log, and inputs and summary on standard output.

    Parameters
    ----------
    words : callable, optional
        Gives what the run will do in the words of who reads it.
    """

    def __init__(self, words: Callable[[str], str] = str) -> None:
        self.stages = Stages()
        self._words = words

    def show_inputs(self, text: str) -> None:
        """Print what the run will do."""
        print_rendered(self._words(text))

    def show_summary(self, summary: Summary) -> None:
        """Print tables and lines."""
        print_rendered(summary.for_terminal())

    def show_unchanged(self, run: UnchangedRun) -> None:
        """Print a sentence, tables and lines."""
        print_rendered(run.sentence)
        self.show_summary(run.summary(self.stages.total))
