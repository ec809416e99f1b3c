"""A run in Python, without Prefect."""

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any, Final, get_type_hints

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

#: Where the docstring gets the descriptions of the options.
_OPTIONS: Final = "**chosen"
_PROGRESS: Final = inspect.Parameter(
    "progress", inspect.Parameter.KEYWORD_ONLY, default=True, annotation=bool
)


def _with_progress(function: Callable[..., RunResult]) -> Callable[..., RunResult]:
    """Give a function the signature of the parameters, which are stated once, and ``progress``.

    Types are without what they are checked by, and descriptions those of the command line.
    """
    types, stated = get_type_hints(parameters), inspect.signature(parameters)
    plain = [each.replace(annotation=types[name]) for name, each in stated.parameters.items()]
    signature = inspect.Signature([*plain, _PROGRESS], return_annotation=RunResult)
    function.__signature__ = signature  # type: ignore[attr-defined]
    if function.__doc__ and parameters.__doc__:  # python -OO has neither
        listed = inspect.cleandoc(parameters.__doc__).partition("Args:\n")[2].partition("\n\n")[0]
        entries = re.sub(r"^(\w+): ", r"\1\n    ", textwrap.dedent(listed), flags=re.MULTILINE)
        function.__doc__ = inspect.cleandoc(function.__doc__).replace(_OPTIONS, entries)
    return function


@_with_progress
def prepare(*, progress: bool = True, **chosen: Any) -> RunResult:
    """Turn a copy of the Natural Scenes Dataset into validated neural assemblies.

    Does what the flow does, without Prefect, and writes identical files; finished work is not
    repeated. A disk error is raised immediately, whereas the flow retries: call again to resume.
    ``runner`` is always "threads".

    Parameters
    ----------
    **chosen
    progress : bool
        Show progress on a terminal, or in the log elsewhere, and print what came out. Nothing is
        printed otherwise.

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
