"""The pipeline: from a copy of NSD to validated assemblies.

Run ``python flows/nsd_flow.py --help``.
"""

if __name__ == "__main__":  # before the libraries: its server starts while they are imported
    from nsd_prep.flows.interruption import end_at_once_on_request

    end_at_once_on_request()
    from nsd_prep.flows.command import run_command

    raise SystemExit(run_command())

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from nsd_prep.core.parameters import parameters
from nsd_prep.core.threads import share_freed_memory
from nsd_prep.flows.recording import without_success_lines
from nsd_prep.pipeline.composition import run_pipeline
from nsd_prep.pipeline.steps import checks, tables  # noqa: F401 (while the server starts)
from nsd_prep.tasks.artifacts import RunPage, leave_failure
from nsd_prep.tasks.execution import InTasks


def _name() -> str:
    """Return the name of a run: dataset, subjects and regions."""
    asked = flow_run.parameters
    root = (
        "synthetic NSD" if asked.get("synthetic") else Path(asked.get("nsd_root") or "no root").name
    )
    subjects = ", ".join(map(str, asked.get("subjects") or ["all"]))
    regions = [*asked.get("regions", ()), *(["own"] if asked.get("regions_file") else [])]
    return f"{root}: subjects {subjects}; {' '.join(regions)}"


def _takes(stated: Callable[..., dict[str, Any]]) -> Callable[..., Callable[..., Any]]:
    """Give a function the signature and the documentation of the parameters, stated once."""
    return functools.wraps(stated, assigned=("__doc__", "__annotations__"))


@flow(
    name="nsd-prep",
    flow_run_name=_name,
    on_failure=[leave_failure],
    on_crashed=[leave_failure],
)
@_takes(parameters)
def nsd_flow(**chosen: Any) -> dict[str, Any]:  # noqa: D103 (documented by its parameters)
    share_freed_memory()
    with without_success_lines():
        result = run_pipeline(chosen, InTasks, RunPage())
    if chosen["check"]:
        return {"checked": str(chosen["nsd_root"])}
    return {
        "output_dir": str(result.output_dir),
        "images": result.n_images,
        "files": sorted(name for name in result.files if "stimuli_" not in name),
    }
