"""The command line: ``nsd-prep``, and ``python flows/nsd_flow.py``, which is its ``run``.

Whatever takes long to import is imported by the command that needs it.
"""

import errno
import functools
import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from cyclopts import (
    App,
    CycloptsError,
    Group,
    Parameter,
    UnknownCommandError,
    UnusedCliTokensError,
)

from nsd_prep.core.errors import NSDPrepError, RemoteFaultError
from nsd_prep.core.parameters import GROUPS, parameters, with_own_regions_alone
from nsd_prep.core.progress import counting_from_here
from nsd_prep.core.terminal import console, say
from nsd_prep.core.versions import software_versions
from nsd_prep.flows import interruption
from nsd_prep.flows.options import UsageError
from nsd_prep.flows.runs import run, run_trials
from nsd_prep.flows.server import end_workers
from nsd_prep.flows.terminal import print_error
from nsd_prep.flows.tools.cache import cache
from nsd_prep.flows.tools.compare import compare
from nsd_prep.flows.tools.deployments import deployments
from nsd_prep.flows.tools.export import export
from nsd_prep.flows.tools.map import map_
from nsd_prep.flows.tools.package import package
from nsd_prep.flows.tools.publish import publish
from nsd_prep.flows.tools.regions import regions
from nsd_prep.flows.tools.synth import synth

_EXAMPLES: Final = """\
Examples:

- {name}\\
  try everything on a small synthetic NSD, written beside the output
- {name} --nsd-root /data/nsd --check\\
  check the inputs, and show what a run would read and write
- {name} --nsd-root /data/nsd --output-dir allen2022\\
  all eight subjects; V1, V2, V4 and IT
- {name} --nsd-root /data/nsd --subjects 1 2 5 7 --regions V1 IT\\
  four subjects, who saw all 1,000 shared images three times; sessions extracted before are reused

The environment variable NSD_ROOT is the default of --nsd-root.
"""
_TRIALS: Final = """\
Write all trials of each subject, with a table of the images they show.

These are data for training encoding and decoding models: one file per subject, with trials as rows
and voxels as columns. Equivalent to 'run --single-trials --no-assemblies', with the same options:

- nsd-prep trials --nsd-root /data/nsd --subjects 1 --regions nsdgeneral --output-dir trials
"""


def _otherwise(name: str, words: str) -> inspect.Parameter:
    """Return a parameter of a run with other words of help."""
    stated = inspect.signature(parameters).parameters[name]
    return stated.replace(annotation=Annotated[stated.annotation, Parameter(help=words)])


#: Options of 'trials' that a run has not, or not with all values or the same help.
_TRIALS_ALONE: Final = MappingProxyType(
    {
        parameter.name: parameter
        for parameter in (
            _otherwise("subjects", "Subjects (1 to 8); by default, all subjects in the dataset."),
            _otherwise(
                "regions",
                "Built-in regions, whose voxels are written; each is a column of the "
                "table of voxels, such as in_V1.",
            ),
            _otherwise(
                "output_dir",
                "Folder for the files of trials, their tables and the manifest. A run replaces "
                "files that it writes again and keeps results of other regions and subjects; if "
                "the folder holds results made with different options, it stops before computing "
                "anything.",
            ),
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
#: Options of a run that say nothing of single trials, or that 'trials' sets itself.
_OF_ASSEMBLIES: Final = (
    "assemblies",
    "single_trials",
    "brainscore",
    "features",
    "zscore_images",
    "crossnobis",
    "suffix",
    "invalid_voxels",
)
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
    app.default(_command(run))
    return app


def _command(
    action: Callable[[dict[str, Any]], int],
    more: Mapping[str, inspect.Parameter] = MappingProxyType({}),
    without_effect: Collection[str] = (),
    **other_defaults: Any,
) -> Callable[..., int]:
    """Return a command that takes the parameters in groups, and calls a function with them.

    `more` are parameters of this command alone, or in place of those of the same name; help does
    not show those that are `without_effect`.
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
            default = other_defaults.get(name, parameter.default)
            shown = Parameter(show=name not in without_effect)
            hint = Annotated[hint, in_group, shown]
            grouped.append(parameter.replace(annotation=hint, default=default))
    grouped += [parameter for name, parameter in more.items() if name not in stated]

    @functools.wraps(parameters)
    def command(**options: Any) -> int:
        defaults = {parameter.name: parameter.default for parameter in grouped}
        return action(defaults | with_own_regions_alone(options))

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
    folder = Path("nsd-prep-trials")
    trials.default(_command(run_trials, _TRIALS_ALONE, _OF_ASSEMBLIES, output_dir=folder))
    whole.command(trials)
    whole.command(map_, name="map")
    for tool in (
        synth,
        cache,
        compare,
        export,
        package,
        publish,
        regions,
        deployments,
    ):
        whole.command(tool)
    whole.register_install_completion_command(name="--install-completion")
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``nsd-prep`` with the words of a command line, or the program's own.

    The exit status is 0 when all is well, 1 when something is wrong with the inputs or the results,
    2 when with the command line, 130 when interrupted.
    """
    return _call(app(), arguments)


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run the flow from a command line, as ``nsd-prep run`` does."""
    return _call(_run_app("nsd_flow.py", "python flows/nsd_flow.py"), arguments)


def _call(command: App, arguments: Sequence[str] | None) -> int:
    words = sys.argv[1:] if arguments is None else list(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that it cannot show is no reason to end
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with interruption.ending_in_order(end_workers), counting_from_here():
            status = _status(command, words)
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        say(interruption.sentence(words), stderr=True)
        interruption.keep_status()
        return interruption.STATUS
    except BrokenPipeError:  # "| head -1": nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _status(command: App, words: Sequence[str]) -> int:
    """Do what a command line says; return the exit status, after a sentence of what is wrong."""
    command.console = console()
    try:
        _refuse_empty(words)
        function, bound, _ = command.parse_args(words, print_error=False, exit_on_error=False)
        for name, value in bound.arguments.items():
            option = f"--{name.replace('_', '-')}"
            if value == [] and option in words:
                raise UsageError(f"{option} has no value: give at least one, or leave it out.")
        result = function(*bound.args, **bound.kwargs)
        return result if isinstance(result, int) else 0
    except UnknownCommandError:
        listed = ", ".join(name for name in command if not name.startswith("-"))
        first = next((word for word in words if not word.startswith("-")), words[0])
        print_error(f"There is no command {first!r}: give one of {listed}; --help shows more.")
        return 2
    except UnusedCliTokensError as error:
        unused = (error.unused_tokens or [""])[0]
        may_be_root = _lacks_root(command, words) and ("/" in unused or Path(unused).exists())
        advice = (
            f"give the dataset as --nsd-root {unused}."
            if may_be_root
            else "leave it out; --help lists what there is."
        )
        print_error(f"{unused!r} does not belong to any option: {advice}")
        return 2
    except CycloptsError as error:
        print_error(_explained(error, words))
        return 2
    except UsageError as error:
        print_error(error)
        return 2
    except (NSDPrepError, RemoteFaultError) as error:  # whose sentences are whole
        print_error(error)
        return 1
    except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        problem = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print_error(f"{problem}; correct the name and try again.")
        return 1
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            print_error("A path is too long for the disk, or a name in it: give a shorter one.")
            return 2
        print_error(
            f"{error}: finished work is kept; check the disk and run the same command again."
        )
        return 1


def _lacks_root(command: App, words: Sequence[str]) -> bool:
    """Return whether a command line is that of a run, and names no dataset."""
    is_of_run = "run" not in command or words[0] in ("run", "trials")
    return is_of_run and not any(word.split("=")[0] == "--nsd-root" for word in words)


def _refuse_empty(words: Sequence[str]) -> None:
    """Raise where an option is given nothing, as by a variable of the shell that is not set."""
    for word, following in zip(words, [*words, "-"][1:], strict=True):
        option = word.removesuffix("=") if word.endswith("=") else word
        if option in _MAY_BE_EMPTY or not option.startswith("--"):
            continue
        if word.endswith("=") or following == "":
            raise UsageError(f"{option} has an empty value: give one, or leave it out.")


def _explained(error: CycloptsError, words: Sequence[str]) -> str:
    """Return a sentence about a wrong command line, with the nearest choice where there is one."""
    from nsd_prep.dataset.regions import BUILT_IN_REGIONS, nearest_region

    # Of pydantic's words the reason alone: they begin with a count and end with an address.
    message = re.sub(r"\d+ validation error\S* for \S+\s+|\s*\[type=.*", "", str(error), flags=re.S)
    message = " ".join(message.split()).rstrip(".?") + "."
    missing = re.search(r'Command "(.*)" parameter --(\S+) requires an argument', message)
    if missing and f"--{missing[2]}" in words:
        return f"--{missing[2]} needs a value: give one, or leave it out."
    if missing:
        return f"{missing[1]} needs {missing[2].upper()}: {missing[1]} --help says what that is."
    if likely := re.search(r' Did you mean "?([^" ]*)"?\.$', message):
        return f"{message[: likely.start()]} Did you mean {likely[1]}?"
    for word in words:
        for part in word.split(","):
            is_region = part and not part.isdigit() and part not in BUILT_IN_REGIONS
            if is_region and f'"{word}"' in message and (near := nearest_region(part)):
                return f"{message} Did you mean {near}?"
        if "," in word and f'"{word}"' in message:
            return f"{message} Separate values by spaces: {word.replace(',', ' ')}"
    return f"{message} --help lists all options."
