"""The pipeline: from a copy of NSD to validated assemblies.

Run ``python flows/nsd_flow.py --help``.
"""

if __name__ == "__main__":  # before the libraries: its server starts while they are imported
    from nsd_prep.flows.interruption import end_at_once_on_request, ending_with
    from nsd_prep.flows.streams import open_closed_streams

    open_closed_streams()
    end_at_once_on_request()
    from nsd_prep.flows.command import run_command

    raise SystemExit(ending_with(run_command()))

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from prefect import flow
from prefect.runtime import deployment, flow_run
from pydantic import Field

from nsd_prep import __version__
from nsd_prep.core.parameters import TITLES, parameters
from nsd_prep.core.threads import share_freed_memory
from nsd_prep.flows.recording import library_log_to_server, without_success_lines
from nsd_prep.flows.terminal import in_words_of_the_terminal
from nsd_prep.pipeline.composition import run_pipeline
from nsd_prep.pipeline.steps import checks, tables  # noqa: F401 (while the server starts)
from nsd_prep.tasks.artifacts import RunPage, leave_cancellation, leave_failure
from nsd_prep.tasks.execution import InTasks

#: Names that Prefect gives by itself (two words or three), and those of its form: a Greek letter
#: with a number, the name of a star (up to two words, or none), and perhaps another word.
_GENERATED: Final = re.compile(
    r"[a-z0-9]+(-[a-z0-9]+){1,2}"
    r"|(alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho"
    r"|sigma|tau|upsilon|phi|chi|psi|omega)[0-9]*(-[a-z]*){0,3}"
)


def _name() -> str:
    """Return the name of a run: dataset, subjects and regions; or what a person has named it.

    A run of a deployment that has a name like Prefect's own keeps that in parentheses, since it may
    be a person's all the same.
    """
    name = str(flow_run.name or "")
    described = _description(flow_run.parameters)
    if deployment.id is None or not name:
        return described
    return f"{described} ({name})" if _GENERATED.fullmatch(name) else name


def _description(options: Mapping[str, Any]) -> str:
    root = (
        "synthetic NSD"
        if options.get("synthetic")
        else Path(options.get("nsd_root") or "no root").name
    )
    subjects = ", ".join(map(str, options.get("subjects") or ["all"]))
    regions = [*options.get("regions", ()), *(["own"] if options.get("regions_file") else [])]
    return f"{root}: subjects {subjects}; {' '.join(regions)}"


def _takes(stated: Callable[..., dict[str, Any]]) -> Callable[..., Callable[..., Any]]:
    """Give a function the signature and the documentation of the parameters, stated once.

    Each parameter has a title, for the form.
    """
    signature = inspect.signature(stated)
    titled = [
        parameter.replace(
            annotation=Annotated[
                parameter.annotation, Field(json_schema_extra={"title": TITLES[parameter.name]})
            ]
        )
        for parameter in signature.parameters.values()
    ]

    def take(function: Callable[..., Any]) -> Callable[..., Any]:
        function = functools.wraps(stated, assigned=("__doc__",))(function)
        function.__signature__ = signature.replace(parameters=titled)  # type: ignore[attr-defined]
        function.__annotations__ = {parameter.name: parameter.annotation for parameter in titled}
        return function

    return take


@flow(
    name="nsd-prep",
    version=__version__,
    flow_run_name=_name,
    on_failure=[leave_failure],
    on_crashed=[leave_failure],
    on_cancellation=[leave_cancellation],
)
@_takes(parameters)
def nsd_flow(**chosen: Any) -> dict[str, Any]:  # noqa: D103 (documented by its parameters)
    share_freed_memory()
    with without_success_lines(), library_log_to_server():
        result = run_pipeline(chosen, InTasks, RunPage(in_words_of_the_terminal))
    if chosen["check"]:
        return {"checked": str(chosen["nsd_root"] or "the synthetic dataset")}
    return {
        "output_dir": str(result.output_dir),
        "images": result.n_images,
        "files": sorted(name for name in result.files if "stimuli_" not in name),
    }


def _root_is_required() -> inspect.Signature:
    """Return the flow's signature as forms see it: without a root a run is refused at submission.

    Called from Python, the flow takes the default, and says what to do.
    """
    stated = inspect.signature(nsd_flow.fn).parameters.values()
    empty = inspect.Parameter.empty
    return inspect.Signature(
        [
            parameter.replace(default=empty) if parameter.name == "nsd_root" else parameter
            for parameter in stated
        ]
    )


nsd_flow.__signature__ = _root_is_required()  # type: ignore[attr-defined]
