"""A run in Python, without Prefect."""

import inspect
from collections.abc import Callable
from typing import Any, Final

from pydantic import ValidationError, validate_call

from nsd_prep.core.check_table import raise_failed
from nsd_prep.core.errors import ParameterError
from nsd_prep.core.parameters import parameters, with_own_regions_alone
from nsd_prep.pipeline.composition import RunResult, run_pipeline
from nsd_prep.pipeline.observer import Observer, TerminalObserver
from nsd_prep.pipeline.run import Run, impossible_value
from nsd_prep.pipeline.step import InThreads
from nsd_prep.pipeline.steps import checks, tables  # noqa: F401 (no run does without them)
from nsd_prep.pipeline.unchanged import unchanged_run

_PROGRESS: Final = inspect.Parameter(
    "progress", inspect.Parameter.KEYWORD_ONLY, default=True, annotation=bool
)


def _with_progress(function: Callable[..., RunResult]) -> Callable[..., RunResult]:
    """Give a function the signature of the parameters, which are stated once, and ``progress``."""
    stated = inspect.signature(parameters, eval_str=True)
    stated = stated.replace(
        parameters=[*stated.parameters.values(), _PROGRESS], return_annotation=RunResult
    )
    function.__signature__ = stated  # type: ignore[attr-defined]
    return function


@_with_progress
def prepare(*, progress: bool = True, **chosen: Any) -> RunResult:
    """Turn a copy of the Natural Scenes Dataset into validated neural assemblies.

    What the flow does, without Prefect: the same files with the same bytes, and what is done is not
    done again. A fault of the disk is raised at once, where the flow tries again;
    call again to resume.

    Parameters
    ----------
    progress : bool
        Show progress on a terminal, or in the log elsewhere, and print what came out. Nothing is
        printed otherwise.
    **chosen
        The options of the command line by their names, such as ``nsd_root="/data/nsd"``,
        ``output_dir="allen2022"``, ``subjects=[1, 2, 5, 7]`` and ``regions=["V1", "IT"]``:
        `nsd_prep.core.parameters.parameters` describes them. ``runner`` is always "threads".

    Returns
    -------
    RunResult
        The output folder, the files in it, and what was checked of them.

    Raises
    ------
    ParameterError
        A parameter is unknown or not possible.
    PreflightError
        All that is wrong with the inputs.
    ExtractionError
        Sessions that could not be extracted, when all others are.
    FailedChecksError
        The checks that failed, when everything is written.
    """
    try:
        run_parameters = validate_call(parameters)(**with_own_regions_alone(chosen))
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "unexpected_keyword_argument":
            raise ParameterError(
                f"There is no parameter {first['loc'][0]!r}: help(nsd_prep.prepare) lists all."
            ) from error
        raise impossible_value(error) from error
    observer = TerminalObserver() if progress else Observer()
    if (earlier := unchanged_run(run_parameters)) is not None:
        observer.show_unchanged(earlier)
        raise_failed(earlier.checks)
        return RunResult(earlier.output_dir, earlier.n_images, earlier.files, earlier.checks)
    return run_pipeline(run_parameters, _in_threads, observer)


def _in_threads(run: Run) -> InThreads:
    if run.runner != "threads" or run.dask_address:
        raise ParameterError(
            f"The runner {run.runner} needs Prefect: run the flow (nsd-prep run --runner "
            f"{run.runner}), or leave runner= out."
        )
    return InThreads(run.workers, run.cache_dir / "records", refresh=run.refresh)
