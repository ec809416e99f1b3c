"""What the page of a run shows: inputs, progress, checks, report, summary, and why it failed."""

from collections.abc import Callable, Sequence
from typing import Any, Final, cast
from uuid import UUID

from prefect import Flow, get_run_logger
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.settings import PREFECT_UI_URL
from typing_extensions import override

from nsd_prep.checks.registry import describe
from nsd_prep.core.check import VERDICTS, Check
from nsd_prep.core.progress import Stage
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.pipeline.observer import TerminalObserver
from nsd_prep.pipeline.summary import Summary

#: The event at the end of a run that made assemblies.
CHECKED: Final = "nsd-prep.assemblies.checked"
#: Keys of what a page shows, numbered in the order of reading; the report's pieces follow.
_SUMMARY, _INPUTS, _PROGRESS, _CHECKS = "01-summary", "02-inputs", "03-progress", "04-all-checks"
_REPORT_FROM: Final = 5


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
        created = create_progress_artifact(0.0, key=_PROGRESS, description=description)
        self.id = cast(UUID, created)  # not awaited: the flow is not asynchronous

    def update(self, done: int, note: str = "") -> None:
        """Say how many steps are done; the note stands behind what is done."""
        percent = 100 * done // self._total
        if percent >= self._sent + self._percent_between or done == self._total:
            description = f"{self._description}: {note}" if note else self._description
            update_progress_artifact(self.id, float(percent), description)
            self._sent = percent


def show_markdown(key: str, title: str, text: str) -> UUID:
    """Show Markdown on the run's page, under a key in lower case with dashes; return its id."""
    return cast(UUID, create_markdown_artifact(text, key=key, description=title))


def leave_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Leave an artifact that says why a run failed or crashed.

    Prefect gives all three arguments by name; where the run crashed, it calls this in another
    process, in which nothing but `flow_run` names the run.
    """
    _leave(
        flow_run,
        "failure",
        "Why the run did not complete",
        f"The run `{flow_run.name}` ended as **{state.name}**.\n\n```text\n{state.message}\n```",
    )


def leave_cancellation(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Leave an artifact that says what is kept of a run that was cancelled; as `leave_failure`."""
    folder = flow_run.parameters.get("output_dir")
    _leave_kept(
        flow_run,
        "Every session that was recorded as extracted is kept in the cache, and nothing partial "
        f"stands under its final name{f' in `{folder}`' if folder else ''}; `manifest.json` is "
        "there only when everything else is. A run with the same parameters resumes where this one "
        "stopped.",
    )


def leave_cancelled_packages(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Leave an artifact that says what is kept of packages; as `leave_cancellation`."""
    _leave_kept(
        flow_run,
        f"What the packages are made of, in `{flow_run.parameters.get('output_dir')}`, is as it "
        "was. Of the packages themselves some files may be there, each of them whole; `index.json` "
        "is written last. A run with the same parameters writes them again.",
    )


def _leave_kept(flow_run: FlowRun, text: str) -> None:
    _leave(
        flow_run,
        "cancellation",
        "What is kept of the cancelled run",
        f"The run `{flow_run.name}` was cancelled. {text}",
    )


def _leave(flow_run: FlowRun, key: str, title: str, text: str) -> None:
    with get_client(sync_client=True) as client:
        client.create_artifact(
            ArtifactCreate(
                type="markdown", key=key, description=title, data=text, flow_run_id=flow_run.id
            )
        )


def emit_checked(summary: Summary) -> None:
    """Emit the event that assemblies are written and checked, for other flows to start from.

    Of a run that made none there is no event. Prefect adds the run, its flow and its deployment to
    what the event is related to.
    """
    if not summary.assemblies:
        return
    failed = summary.verdicts["failed"] > 0
    emit_event(
        CHECKED,
        resource={
            "prefect.resource.id": f"nsd-prep.assemblies.{summary.output_dir}",
            "prefect.resource.name": summary.output_dir.name,
            "nsd-prep.verdict": "failed" if failed else "passed",
            "nsd-prep.brainscore": "yes" if summary.can_be_packaged else "no",
        },
        payload={
            "output_dir": str(summary.output_dir),
            "suffix": summary.suffix,
            "assemblies": summary.assemblies,
            "checks": dict(summary.verdicts),
        },
    )


class RunPage(TerminalObserver):
    """Shows a run on its page in Prefect's UI, beside the terminal and the log."""

    def __init__(self, words: Callable[[str], str] = str) -> None:
        super().__init__(words)
        self.run_name = str(flow_run.name or "")
        self._progress: ProgressArtifact | None = None
        #: What the page shows, by key: title and id.
        self._shown: dict[str, tuple[str, UUID]] = {}

    @override
    def session_extracted(self, stage: Stage) -> None:
        if self._progress is None:
            self._progress = ProgressArtifact(stage.name, stage.total or 0)
            self._shown[_PROGRESS] = (stage.name.capitalize(), self._progress.id)
        self._progress.update(stage.done, stage.note)

    @override
    def show_inputs(self, text: str) -> None:
        super().show_inputs(text)
        self._show_markdown(_INPUTS, "What the run will do", text)

    @override
    def show_checks(self, checks: Sequence[Check]) -> None:
        in_order = sorted(checks, key=lambda check: VERDICTS.index(check.verdict))
        rows = [
            {
                "verdict": row.check.verdict,
                "check": row.check.name,
                "where": row.check.where,
                "value": row.value,
                "expectation": row.expectation,
            }
            for row in map(describe, in_order)
        ]
        title = "What was checked of the results"
        created = create_table_artifact(rows, key=_CHECKS, description=title)
        self._shown[_CHECKS] = (title, cast(UUID, created))

    @override
    def show_report(self, report: StepOutput, output: Folder) -> None:
        pieces = [output.path / name for name in report.files if name.endswith(".md")]
        # The overview first, and then what was checked.
        pieces.sort(key=lambda path: (path.stem != "report", path.stem != "checks"))
        for number, path in enumerate(pieces, _REPORT_FROM):
            text = path.read_text(encoding="utf-8")
            title = text.splitlines()[0].lstrip("# ")
            self._show_markdown(f"{number:02}-{path.stem}", title, text)

    @override
    def show_summary(self, summary: Summary) -> None:
        super().show_summary(summary)
        for line in summary.lines:
            get_run_logger().info(line.strip())
        self._show_markdown(_SUMMARY, "What came out", summary.as_markdown() + self._contents())
        emit_checked(summary)

    def _show_markdown(self, key: str, title: str, text: str) -> None:
        self._shown[key] = (title, show_markdown(key, title, text))

    def _contents(self) -> str:
        """Return links to what the page shows: the UI has it in no order."""
        pages = str(PREFECT_UI_URL.value() or "").rstrip("/")
        links = [
            f"- [{title}]({pages}/artifacts/artifact/{artifact})"
            for _, (title, artifact) in sorted(self._shown.items())
        ]
        return "\n\n**On this server**\n\n" + "\n".join(links) if links else ""
