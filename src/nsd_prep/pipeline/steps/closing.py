"""The end of a run: the table of checks, and the manifest."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from nsd_prep.checks.registry import as_table
from nsd_prep.core.atomic import write_table
from nsd_prep.core.check import Check
from nsd_prep.core.progress import Stages
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.core.versions import software_versions
from nsd_prep.pipeline import outputs
from nsd_prep.pipeline.inputs import Inputs
from nsd_prep.pipeline.ownership import Ownership
from nsd_prep.pipeline.unchanged import State


def write_checks(checks: Sequence[Check], folder: Folder) -> StepOutput:
    """Write all the checks of a run to ``checks.csv``."""
    write_table(folder.path / outputs.CHECKS, as_table(checks))
    return StepOutput.in_folder(folder, [outputs.CHECKS])


def write_manifest(
    inputs: Inputs,
    owned: Ownership,
    stages: Stages,
    run_name: str = "",
    state: State | None = None,
) -> None:
    """Write what was made from what; the last file of a run.

    What this run makes again, and made without some file of before, is rid of that file. `run_name`
    is Prefect's; `state` tells a later run whether anything has changed.
    """
    manifest: dict[str, Any] = {
        **owned.record,
        "software": software_versions(),
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
        "run": run_name,
        "source": _source(inputs),
        "sessions": {
            str(subject): list(numbers) for subject, numbers in inputs.trials.sessions.items()
        },
        "inputs": [record.model_dump() for record in inputs.files],
        "seconds": _rounded(stages.seconds),
        "processor_seconds": _rounded(stages.processor_seconds),
        "state": None if state is None else state.model_dump(mode="json"),
    }
    owned.end(manifest)


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(value, 3) for stage, value in seconds.items()}


def _source(inputs: Inputs) -> dict[str, Any] | None:
    """Return the terms that were accepted and what was transferred; None for a folder."""
    source = inputs.dataset.source
    transfer, consent = source.transfer, source.consent
    if transfer is None:
        return None
    return {
        "terms": None if consent is None else consent.model_dump(mode="json"),
        "transfer": {name: dict(counts) for name, counts in transfer._asdict().items()},
    }
