"""The command line: ``nsd-prep``, and ``python flows/nsd_flow.py``, which is its ``run``.

Whatever takes long to import is imported by the command that needs it.
"""

import difflib
import functools
import inspect
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cyclopts import App, CycloptsError, Parameter, UnknownCommandError
from rich.console import Console

from nsd_prep import __version__
from nsd_prep.core.errors import NSDPrepError, RemoteFaultError
from nsd_prep.core.parameters import parameters
from nsd_prep.core.versions import software_versions
from nsd_prep.flows import tools
from nsd_prep.flows.server import without_telemetry

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

_EXAMPLES: Final = """\
Examples:

```text
  {name}
      try everything on a small synthetic NSD, written beside the output
  {name} --nsd-root /data/nsd --check
      look at the inputs, and show what a run would read and write
  {name} --nsd-root /data/nsd --output-dir allen2022
      all eight subjects; V1, V2, V4 and IT
  {name} --nsd-root /data/nsd --subjects 1 2 5 7 --regions V1 IT
      four subjects, who share 1000 images; what was extracted before is used again
```

NSD_ROOT in the environment stands for --nsd-root.
"""
_TRIALS: Final = """\
Write all trials of each subject, with a table of the images they show.

What encoding and decoding models are trained on: one file a subject, its rows the trials, its
columns the voxels of the regions. As 'run --single-trials --no-assemblies', with the same options:

```text
  nsd-prep trials --nsd-root /data/nsd --subjects 1 --regions nsdgeneral --output-dir trials
```
"""
#: Options for which nothing is a value.
_MAY_BE_EMPTY: Final = ("--suffix",)
_OPTIONS: Final[dict[str, Any]] = {
    "version": lambda: "\n".join(map(" ".join, software_versions().items())),
    "version_format": "plaintext",
    "help_format": "markdown",
    "default_parameter": Parameter(consume_multiple=True, negative_iterable="", negative_none=""),
}


def _run_app(name: str, words: str) -> App:
    app = App(name=name, help_epilogue=_EXAMPLES.format(name=words), **_OPTIONS)
    app.default(parameters)
    return app


@functools.wraps(parameters)
def _trials(**asked: Any) -> dict[str, Any]:
    """Return the parameters of a run that makes single trials in place of assemblies."""
    return parameters(**asked)


def _with_folder(stated: inspect.Signature, folder: Path) -> inspect.Signature:
    """Return a signature with another output folder by default: what a run replaces is its own."""
    stated_parameters = dict(stated.parameters)
    output = stated_parameters["output_dir"].replace(default=folder)
    return stated.replace(parameters=[*(stated_parameters | {"output_dir": output}).values()])


_trials.__signature__ = _with_folder(  # type: ignore[attr-defined]
    inspect.signature(parameters), Path("nsd-prep-trials")
)


def app() -> App:
    """Return the command ``nsd-prep``."""
    whole = App(
        name="nsd-prep",
        help="Prepare the Natural Scenes Dataset for models of vision.",
        **_OPTIONS,
    )
    whole.command(_run_app("run", "nsd-prep run"))
    trials = App(name="trials", help=_TRIALS, **_OPTIONS)
    trials.default(_trials)
    whole.command(trials)
    whole.command(tools.map_, name="map")
    for tool in (
        tools.synth,
        tools.cache,
        tools.compare,
        tools.package,
        tools.publish,
        tools.deployments,
    ):
        whole.command(tool)
    whole.register_install_completion_command(name="--install-completion")
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``nsd-prep``.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line's words; the program's own where none are given.

    Returns
    -------
    int
        0 when all is well, 1 when something is wrong with the inputs or the results, 2 when with
        the command line, 130 when interrupted.
    """
    return _call(app(), arguments)


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run the flow from a command line, as ``nsd-prep run`` does."""
    return _call(_run_app("nsd_flow.py", "python flows/nsd_flow.py"), arguments)


def _call(command: App, arguments: Sequence[str] | None) -> int:
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        _refuse_empty(words)
        function, bound, _ = command.parse_args(words, print_error=False, exit_on_error=False)
        if function in (parameters, _trials):
            given = bound.arguments
            if function is _trials:
                given |= {"single_trials": True, "assemblies": False}
            if given.get("regions_file") and "regions" not in given:
                given["regions"] = []  # a file of regions stands for the default ones
            bound.apply_defaults()
            return _run(dict(bound.arguments))
        result = function(*bound.args, **bound.kwargs)
        return result if isinstance(result, int) else 0
    except UnknownCommandError:
        listed = ", ".join(name for name in command if not name.startswith("-"))
        first = next((word for word in words if not word.startswith("-")), words[0])
        _print_error(f"There is no command {first!r}: give one of {listed}; --help shows more.")
        return 2
    except CycloptsError as error:
        _print_error(_explained(error, words))
        return 2
    except _UsageError as error:
        _print_error(error)
        return 2
    except (NSDPrepError, RemoteFaultError) as error:  # whose sentences are whole
        _print_error(error)
        return 1
    except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        found = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        _print_error(f"{found}; correct the name and try again.")
        return 1
    except OSError as error:
        _print_error(
            f"{error}: what is done is kept; check the disk and run the same command again."
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted: the same command resumes where it stopped", file=sys.stderr)  # noqa: T201
        return 130


class _UsageError(Exception):
    """What is wrong with a command line."""


def _refuse_empty(words: Sequence[str]) -> None:
    """Raise where an option is given nothing, as by a variable of the shell that is not set."""
    for word, following in zip(words, [*words, "-"][1:], strict=True):
        option = word.removesuffix("=") if word.endswith("=") else word
        if option in _MAY_BE_EMPTY or not option.startswith("--"):
            continue
        if word.endswith("=") or following == "":
            raise _UsageError(f"{option} is given an empty value: give one, or leave it out.")


def _explained(error: CycloptsError, words: Sequence[str]) -> str:
    """Return a sentence about a wrong command line, with the nearest choice where there is one."""
    from nsd_prep.dataset.regions import BUILT_IN_REGIONS

    # Of pydantic's words the reason alone: they begin with a count and end with an address.
    message = re.sub(r"\d+ validation error\S* for \S+\s+|\s*\[type=.*", "", str(error), flags=re.S)
    message = " ".join(message.split()).rstrip(".") + "."
    names = {name.casefold(): name for name in BUILT_IN_REGIONS}
    for word in words:
        for part in word.split(","):
            near = difflib.get_close_matches(part.casefold(), names, 1)
            is_region = part and not part.isdigit() and part not in BUILT_IN_REGIONS
            if is_region and near and f'"{word}"' in message:
                return f"{message} Did you mean {names[near[0]]}?"
        if "," in word and f'"{word}"' in message:
            return f"{message} Separate values by spaces: {word.replace(',', ' ')}"
    return f"{message} --help lists all options."


def _run(asked: dict[str, Any]) -> int:
    """Run the flow with the parameters of a command line."""
    without_telemetry()
    # A run that is asked to end ends as it does on Ctrl-C, and its server with it.
    for request in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(request) is not signal.SIG_IGN:  # nohup
            signal.signal(request, signal.default_int_handler)
    with _lines_on_terminal():
        asked["nsd_root"] = asked["nsd_root"] or os.environ.get("NSD_ROOT") or None
        if asked["synthetic"] or asked["nsd_root"] is None:
            asked["nsd_root"] = _synthetic(asked)
            asked["synthetic"] = False
        print(f"nsd-prep {__version__}: {asked['nsd_root']} to {asked['output_dir']}", flush=True)  # noqa: T201
        return _check(asked) if asked["check"] else _flow(asked)


def _check(asked: dict[str, Any]) -> int:
    """Look at the inputs without Prefect, whose server takes seconds to start."""
    from nsd_prep.pipeline.preflight import load_inputs
    from nsd_prep.pipeline.run import plan_run
    from nsd_prep.pipeline.summary import describe_inputs, print_rendered

    run = plan_run(**asked)
    made = [folder for folder in (run.cache_dir, run.output_dir) if not folder.exists()]
    try:
        print_rendered(describe_inputs(run, load_inputs(run)))
    finally:
        for folder in made:  # to see whether they can be written; of an address the cache is kept
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    return 0


def _flow(asked: dict[str, Any]) -> int:
    from nsd_prep.pipeline.locks import only_run_in
    from nsd_prep.pipeline.run import plan_run

    with only_run_in(plan_run(**asked).output_dir):
        pass  # that another run is there is reported before a server is started

    import gc

    from nsd_prep.flows.server import end_workers, temporary_server

    with temporary_server() as wait_until_it_answers:
        # Both take seconds, the server's start and the import of what the flow needs.
        from nsd_prep.flows.nsd_flow import nsd_flow
        from nsd_prep.flows.recording import quiet_server, wait_until_recorded

        gc.freeze()  # what was imported stays: not to be looked through again and again
        wait_until_it_answers()
        try:
            with quiet_server():
                state: State[Any] = nsd_flow(**asked, return_state=True)  # type: ignore[assignment]
                if state.state_details.flow_run_id is not None:
                    wait_until_recorded(state.state_details.flow_run_id)
                state.result()
        finally:
            end_workers()
    return 0


def _print_error(error: object) -> None:
    Console(stderr=True).print(f"error: {error}", highlight=False, soft_wrap=True, markup=False)


class _Lines(logging.Handler):
    """Writes what the library logs to standard error, above a progress bar where one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "beside_a_bar", False):
            print(self.format(record), file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def _lines_on_terminal() -> Iterator[None]:
    """Show the library's lines: Prefect's handlers are silenced, and take them to the server."""
    logger, lines = logging.getLogger("nsd_prep"), _Lines()
    level = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)


def _synthetic(asked: dict[str, Any]) -> Path:
    from nsd_prep.pipeline.synthetic_beside import synthetic_beside

    if not asked["synthetic"]:
        print("No --nsd-root is given: a synthetic NSD stands in.", flush=True)  # noqa: T201
    root = synthetic_beside(asked["output_dir"], asked["nsd_root"])
    print(  # noqa: T201
        f"Using the synthetic NSD at {root}: NSD's formats, invented responses. Give --nsd-root "
        "for real ones.",
        flush=True,
    )
    return root
