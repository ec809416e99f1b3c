"""What the page of a run shows: inputs, progress, checks, report, summary, and why it failed."""

from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from prefect import Flow
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.runtime import flow_run
from typing_extensions import override

from nsd_prep.checks.registry import describe
from nsd_prep.core.check import VERDICTS, Check
from nsd_prep.core.progress import Stage
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.pipeline.observer import TerminalObserver
from nsd_prep.pipeline.summary import Summary


class ProgressArtifact:
    """How far some work is, on the page of the run; sent every few percent.

    Parameters
    ----------
    description : str
        What is done.
    total : int
        How many steps it has.
    """

    _percent_between = 5

    def __init__(self, description: str, total: int) -> None:
        self._description, self._total = description, max(total, 1)
        self._sent = 0
        created = create_progress_artifact(0.0, key="progress", description=description)
        self._id = cast(UUID, created)  # not awaited: the flow is not asynchronous

    def update(self, done: int, note: str = "") -> None:
        """Say how many steps are done; the note stands behind what is done."""
        percent = 100 * done // self._total
        if percent >= self._sent + self._percent_between or done == self._total:
            description = f"{self._description}: {note}" if note else self._description
            update_progress_artifact(self._id, float(percent), description)
            self._sent = percent


def show_markdown(key: str, title: str, text: str) -> None:
    """Show Markdown on the page of the run, under a key in lower case with dashes."""
    create_markdown_artifact(text, key=key, description=title)


def leave_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Leave an artifact that says why a run failed or crashed.

    Parameters
    ----------
    flow : Flow
        Not looked at; Prefect gives all three by name.
    flow_run : FlowRun
        The run. Where it crashed, this is called in another process, so that nothing but this
        argument names it.
    state : State
        Its last state.
    """
    with get_client(sync_client=True) as client:
        client.create_artifact(
            ArtifactCreate(
                type="markdown",
                key="failure",
                description="Why the run did not complete",
                data=f"The run `{flow_run.name}` ended as **{state.name}**.\n\n"
                f"```text\n{state.message}\n```",
                flow_run_id=flow_run.id,
            )
        )


class RunPage(TerminalObserver):
    """Shows a run on its page in Prefect's UI, beside the terminal and the log."""

    def __init__(self) -> None:
        super().__init__()
        self.run_name = str(flow_run.name or "")
        self._progress: ProgressArtifact | None = None

    @override
    def session_extracted(self, stage: Stage) -> None:
        if self._progress is None:
            self._progress = ProgressArtifact(stage.name, stage.total or 0)
        self._progress.update(stage.done, stage.note)

    @override
    def show_inputs(self, text: str) -> None:
        super().show_inputs(text)
        show_markdown("inputs", "What the run will do", text)

    @override
    def show_checks(self, checks: Sequence[Check]) -> None:
        in_order = sorted(checks, key=lambda check: VERDICTS.index(check.verdict))
        rows = [
            {
                "verdict": one.check.verdict,
                "check": one.check.name,
                "where": one.check.where,
                "value": one.value,
                "expectation": one.expectation,
            }
            for one in map(describe, in_order)
        ]
        create_table_artifact(rows, key="all-checks", description="What was checked of the results")

    @override
    def show_report(self, report: StepOutput, output: Folder) -> None:
        for name in report.files:
            path = output.path / name
            if path.suffix == ".md":
                text = path.read_text(encoding="utf-8")
                title = text.splitlines()[0].lstrip("# ")
                show_markdown(path.stem, title, text)

    @override
    def show_summary(self, summary: Summary) -> None:
        super().show_summary(summary)
        show_markdown("summary", "What came out", summary.as_markdown())
