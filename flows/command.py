"""The command line: ``nsd-prep``, and ``python flows/nsd_flow.py``, which is its ``run``.

Whatever takes long to import is imported by the command that needs it.
"""

import functools
import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

from cyclopts import (
    App,
    CycloptsError,
    Group,
    Parameter,
    UnknownCommandError,
    UnusedCliTokensError,
)
from rich.console import Console

from nsd_prep import __version__
from nsd_prep.core.errors import NSDPrepError, RemoteFaultError
from nsd_prep.core.parameters import GROUPS, RegionName, parameters
from nsd_prep.core.progress import Stages, counting_from_here
from nsd_prep.core.versions import software_versions
from nsd_prep.flows import interruption, tools
from nsd_prep.flows.options import as_options
from nsd_prep.flows.server import end_workers, may_be_configured, without_telemetry

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

_EXAMPLES: Final = """\
Examples:

```text
  {name}
      try everything on a small synthetic NSD, written beside the output
  {name} --nsd-root /data/nsd --check
      check the inputs, and show what a run would read and write
  {name} --nsd-root /data/nsd --output-dir allen2022
      all eight subjects; V1, V2, V4 and IT
  {name} --nsd-root /data/nsd --subjects 1 2 5 7 --regions V1 IT
      four subjects, who share 1000 images; sessions extracted before are reused
```

The environment variable NSD_ROOT is the default of --nsd-root.
"""
_TRIALS: Final = """\
Write all trials of each subject, with a table of the images they show.

These are data for training encoding and decoding models: one file per subject, with trials as rows
and voxels as columns. Equivalent to 'run --single-trials --no-assemblies', with the same options:

```text
  nsd-prep trials --nsd-root /data/nsd --subjects 1 --regions nsdgeneral --output-dir trials
```
"""
#: Options of 'trials' that a run has not, or not with all values.
_TRIALS_ALONE: Final = MappingProxyType(
    {
        parameter.name: parameter
        for parameter in (
            inspect.Parameter(
                "normalise",
                inspect.Parameter.KEYWORD_ONLY,
                annotation=Literal["session", "none", "train-only", "run"],
            ),
            inspect.Parameter(
                "experiment",
                inspect.Parameter.KEYWORD_ONLY,
                default="nsd",
                annotation=Annotated[
                    Literal["nsd", "imagery", "synthetic"],
                    Parameter(
                        group=Group("Single trials", sort_key=list(GROUPS).index("Single trials")),
                        help="NSD's main experiment, or NSD-imagery or NSD-synthetic: these are "
                        "z-scored over all their rows (session), over each run (run), or not "
                        "(none).",
                    ),
                ],
            ),
        )
    }
)
#: Options of 'trials' that apply to NSD's two other experiments too.
_OF_EXPERIMENTS: Final = (
    "nsd_root",
    "subjects",
    "regions",
    "regions_file",
    "betas",
    "accept_nsd_terms",
    "output_dir",
    "cache_dir",
    "space",
    "surface_files",
    "normalise",
    "dtype",
    "format",
    "experiment",
)
#: Options for which nothing is a value.
_MAY_BE_EMPTY: Final = ("--suffix",)
_OPTIONS: Final[dict[str, Any]] = {
    "version": lambda: "\n".join(map(" ".join, software_versions().items())),
    "version_format": "plaintext",
    "help_format": "markdown",
    "default_parameter": Parameter(consume_multiple=True, negative_iterable="", negative_none=""),
}


#: Commands, for what the library says of their parameters.
_COMMANDS: Final = (
    parameters,
    tools.synth,
    tools.cache,
    tools.export,
    tools.package,
    tools.publish,
)


def _run_app(name: str, words: str) -> App:
    app = App(name=name, help_epilogue=_EXAMPLES.format(name=words), **_OPTIONS)
    app.default(_command(_run))
    return app


def _command(
    run: Callable[[dict[str, Any]], int],
    more: Mapping[str, inspect.Parameter] = MappingProxyType({}),
    **defaults: Any,
) -> Callable[..., int]:
    """Return a command that takes the parameters in groups, and does a run with them.

    `more` are parameters of this command alone, or in place of those of the same name.
    """
    stated = inspect.signature(parameters).parameters
    grouped = []
    for number, (group, names) in enumerate(GROUPS.items()):
        in_group = Parameter(group=Group(group, sort_key=number))
        for name in names:
            parameter = stated[name]
            # Text, since an address would not survive as a path; shells complete it as one.
            hint = str | Path | None if name == "nsd_root" else parameter.annotation
            hint = more[name].annotation if name in more else hint
            default = defaults.get(name, parameter.default)
            grouped.append(parameter.replace(annotation=Annotated[hint, in_group], default=default))
    grouped += [parameter for name, parameter in more.items() if name not in stated]

    @functools.wraps(parameters)
    def command(**options: Any) -> int:
        if options.get("regions_file") and "regions" not in options:
            options["regions"] = []  # a file of regions stands for the default ones
        return run({parameter.name: parameter.default for parameter in grouped} | options)

    command.__signature__ = inspect.Signature(grouped)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in grouped}
    return command


def app() -> App:
    """Return the command ``nsd-prep``."""
    whole = App(
        name="nsd-prep",
        help="Prepare the Natural Scenes Dataset for models of vision.",
        **_OPTIONS,
    )
    whole.command(_run_app("run", "nsd-prep run"))
    trials = App(name="trials", help=_TRIALS, **_OPTIONS)
    # What a run replaces is its own: another folder by default.
    trials.default(_command(_trials, _TRIALS_ALONE, output_dir=Path("nsd-prep-trials")))
    whole.command(trials)
    whole.command(tools.map_, name="map")
    for tool in (
        tools.synth,
        tools.cache,
        tools.compare,
        tools.export,
        tools.package,
        tools.publish,
        tools.regions,
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
        with interruption.ending_in_order(end_workers), counting_from_here():
            status = _status(command, words)
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        print(interruption.SENTENCE, file=sys.stderr)  # noqa: T201
        interruption.keep_status()
        return interruption.STATUS
    except BrokenPipeError:  # "| head -1": nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _status(command: App, words: Sequence[str]) -> int:
    """Do what a command line says; return the exit status, after a sentence of what is wrong."""
    try:
        _refuse_empty(words)
        function, bound, _ = command.parse_args(words, print_error=False, exit_on_error=False)
        for name, value in bound.arguments.items():
            option = f"--{name.replace('_', '-')}"
            if value == [] and option in words:
                raise _UsageError(f"{option} has no value: give at least one, or leave it out.")
        result = function(*bound.args, **bound.kwargs)
        return result if isinstance(result, int) else 0
    except UnknownCommandError:
        listed = ", ".join(name for name in command if not name.startswith("-"))
        first = next((word for word in words if not word.startswith("-")), words[0])
        _print_error(f"There is no command {first!r}: give one of {listed}; --help shows more.")
        return 2
    except UnusedCliTokensError as error:
        unused = (error.unused_tokens or [""])[0]
        _print_error(
            f"{unused!r} does not belong to any option: give the dataset as --nsd-root {unused}."
            if "/" in unused or Path(unused).exists()
            else f"{unused!r} does not belong to any option: leave it out; --help lists them."
        )
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
        problem = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        _print_error(f"{problem}; correct the name and try again.")
        return 1
    except BrokenPipeError:
        raise
    except OSError as error:
        _print_error(
            f"{error}: finished work is kept; check the disk and run the same command again."
        )
        return 1


class _UsageError(Exception):
    """What is wrong with a command line."""


def _refuse_empty(words: Sequence[str]) -> None:
    """Raise where an option is given nothing, as by a variable of the shell that is not set."""
    for word, following in zip(words, [*words, "-"][1:], strict=True):
        option = word.removesuffix("=") if word.endswith("=") else word
        if option in _MAY_BE_EMPTY or not option.startswith("--"):
            continue
        if word.endswith("=") or following == "":
            raise _UsageError(f"{option} has an empty value: give one, or leave it out.")


def _explained(error: CycloptsError, words: Sequence[str]) -> str:
    """Return a sentence about a wrong command line, with the nearest choice where there is one."""
    from nsd_prep.dataset.regions import BUILT_IN_REGIONS, nearest_region

    # Of pydantic's words the reason alone: they begin with a count and end with an address.
    message = re.sub(r"\d+ validation error\S* for \S+\s+|\s*\[type=.*", "", str(error), flags=re.S)
    message = " ".join(message.split()).rstrip(".?") + "."
    for word in words:
        for part in word.split(","):
            is_region = part and not part.isdigit() and part not in BUILT_IN_REGIONS
            if is_region and f'"{word}"' in message and (near := nearest_region(part)):
                return f"{message} Did you mean {near}?"
        if "," in word and f'"{word}"' in message:
            return f"{message} Separate values by spaces: {word.replace(',', ' ')}"
    return f"{message} --help lists all options."


def _trials(options: dict[str, Any]) -> int:
    """Run the flow for single trials in place of assemblies; or write another experiment."""
    experiment = options.pop("experiment")
    if experiment != "nsd":
        return _experiment(options, experiment)
    if options["normalise"] == "run":
        raise _UsageError(
            "--normalise run applies only to --experiment imagery and synthetic: choose session, "
            "none or train-only."
        )
    return _run(options | {"single_trials": True, "assemblies": False})


def _experiment(options: dict[str, Any], experiment: Literal["imagery", "synthetic"]) -> int:
    """Write the rows of NSD-imagery or NSD-synthetic, without Prefect."""
    usual = parameters()
    for name, value in options.items():
        if name not in _OF_EXPERIMENTS and value != usual[name]:
            option = f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
            raise _UsageError(
                f"{option} applies only to NSD's main experiment: leave it out with --experiment "
                f"{experiment}."
            )
    root = options["nsd_root"] or os.environ.get("NSD_ROOT")
    if not root:
        raise _UsageError(f"--experiment {experiment} needs --nsd-root: give the dataset.")
    from nsd_prep.checks.registry import as_table
    from nsd_prep.core.check_table import raise_failed
    from nsd_prep.notebook import open_nsd

    output = options["output_dir"].expanduser().absolute()
    with _lines_on_terminal():
        nsd = open_nsd(
            root,
            subjects=options["subjects"],
            preparation=options["betas"],
            regions_file=options["regions_file"],
            cache_dir=options["cache_dir"] or output / "cache",
            accept_nsd_terms=options["accept_nsd_terms"],
            space=options["space"],
            surface_files=options["surface_files"],
        )
        own = [name for name in nsd.regions if name not in get_args(RegionName)]
        try:
            files, checks = nsd.write_experiment(
                experiment,
                output,
                [*options["regions"], *own],
                normalise=options["normalise"],
                dtype=options["dtype"],
                format=options["format"],
            )
        finally:
            nsd.close()
    print(f"Written: {len(files)} files in {output}")  # noqa: T201
    raise_failed(as_table(checks))
    return 0


def _run(options: dict[str, Any]) -> int:
    """Run the flow with the parameters of a command line."""
    without_telemetry()
    with _lines_on_terminal():
        options["nsd_root"] = options["nsd_root"] or os.environ.get("NSD_ROOT") or None
        if options["synthetic"] or options["nsd_root"] is None:
            options["nsd_root"] = _synthetic(options)
            options["synthetic"] = False
        root, output = options["nsd_root"], options["output_dir"]
        print(f"nsd-prep {__version__}: {root} to {output}", flush=True)  # noqa: T201
        if options["check"]:
            return _check(options)
        # A run with a server of one's own is one for its history, whatever it has to do.
        if not may_be_configured() and _is_unchanged(options):
            return 0
        return _flow(options)


def _check(options: dict[str, Any]) -> int:
    """Look at the inputs without Prefect, whose server takes seconds to start."""
    from nsd_prep.pipeline.descriptions import describe_inputs
    from nsd_prep.pipeline.outputs import OutputFolder
    from nsd_prep.pipeline.ownership import Ownership
    from nsd_prep.pipeline.preflight import load_inputs
    from nsd_prep.pipeline.run import plan_run
    from nsd_prep.pipeline.summary import print_rendered

    run = plan_run(**options)
    new_folders = [folder for folder in (run.cache_dir, run.output_dir) if not folder.exists()]
    try:
        inputs = load_inputs(run)
        owned = Ownership(OutputFolder(path=run.output_dir), run, inputs)
        owned.require_that_all_belongs_together()
        print_rendered(describe_inputs(run, inputs) + owned.account())
    finally:
        for (
            folder
        ) in new_folders:  # to see whether they can be written; of an address the cache is kept
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    return 0


def _is_unchanged(options: dict[str, Any]) -> bool:
    """Show what the same run showed before, where nothing has changed, and raise as it did."""
    from nsd_prep.core.check_table import raise_failed
    from nsd_prep.pipeline.observer import TerminalObserver
    from nsd_prep.pipeline.unchanged import unchanged_run

    observer = TerminalObserver()
    earlier = unchanged_run(options)
    if earlier is None:
        return False
    observer.show_unchanged(earlier)
    raise_failed(earlier.checks)
    return True


def _flow(options: dict[str, Any]) -> int:
    from nsd_prep.pipeline.locks import only_run_in
    from nsd_prep.pipeline.run import plan_run

    run = plan_run(**options)
    with only_run_in(run.output_dir):
        pass  # that another run is there is reported before a server is started
    options |= {"nsd_root": run.nsd_root, "output_dir": run.output_dir, "features": run.features}
    for name in ("cache_dir", "regions_file"):
        options[name] = options[name] and options[name].expanduser().absolute()

    import gc

    from nsd_prep.flows.server import temporary_server
    from nsd_prep.pipeline.libraries import import_report

    with ExitStack() as stack:
        with Stages().stage("starting"):
            wait_until_it_answers = stack.enter_context(temporary_server())
            # Both take seconds, the server's start and the import of what the flow needs.
            from nsd_prep.flows.recording import log_to_server, silence_console

            silence_console()
            from nsd_prep.flows.nsd_flow import nsd_flow

            if options["report"]:
                import_report()
            gc.freeze()  # what was imported stays: not to be looked through again and again
            wait_until_it_answers()
        try:
            with log_to_server():
                silence_console()  # whose handler Prefect makes anew with other settings
                state: State[Any] = nsd_flow(**options, return_state=True)  # type: ignore[assignment]
                state.result()
        finally:
            end_workers()
    return 0


def _print_error(error: object) -> None:
    sentence = as_options(f"error: {error}", _COMMANDS)
    Console(stderr=True).print(sentence, highlight=False, soft_wrap=True, markup=False)


class _Lines(logging.Handler):
    """Writes what the library logs to standard error, above a progress bar where one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "beside_a_bar", False):
            print(as_options(self.format(record), _COMMANDS), file=sys.stderr, flush=True)  # noqa: T201


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


def _synthetic(options: dict[str, Any]) -> Path:
    from nsd_prep.pipeline.synthetic_beside import synthetic_beside

    if not options["synthetic"]:
        print("No --nsd-root given: using a synthetic dataset.", flush=True)  # noqa: T201
    root = synthetic_beside(options["output_dir"], options["nsd_root"])
    print(  # noqa: T201
        f"Using the synthetic dataset at {root}: NSD's formats, simulated responses. Give "
        "--nsd-root to use real data.",
        flush=True,
    )
    return root
