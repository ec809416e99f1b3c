"""The report: figures, tables and every check on one page."""

from collections.abc import Sequence

from prefect import task

from nsd_prep.core.check import Check
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.pipeline.prepared import Prepared
from nsd_prep.pipeline.steps.assemblies import Representations
from nsd_prep.pipeline.steps.checks import Volumes
from nsd_prep.pipeline.steps.encoding import Encoding
from nsd_prep.tasks.policy import cached


@task(name="write-report", **cached())
def write_report(
    prepared: Prepared,
    representations: Representations,
    volumes: Volumes,
    examined: StepOutput,  # noqa: ARG001 (its table of sessions is read)
    checks: Sequence[Check],
    stimuli: StepOutput,
    encoding: Encoding | None,
    folder: Folder,
    *,
    crossnobis: bool = False,
) -> StepOutput:
    """Write the report; what draws and regresses is imported only where it is needed."""
    from nsd_prep.pipeline.steps.report import write_report

    return write_report(
        prepared,
        representations,
        volumes,
        checks,
        stimuli,
        encoding,
        folder,
        crossnobis=crossnobis,
    )
