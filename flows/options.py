"""What the library says of parameters, in the words of the command line."""

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from cyclopts import Parameter

#: An option without a value, and without a ``--no-`` that takes it back.
Flag = Annotated[bool, Parameter(negative="")]


class UsageError(Exception):
    """What is wrong with a command line."""


def as_options(text: str, commands: Iterable[Callable[..., Any]], more: Iterable[str] = ()) -> str:
    """Return a text in which parameters are called as the options of commands.

    The library speaks as Python does: ``subjects=``, ``report=False``,
    ``missing_regions="skip"``. On a command line these are ``--subjects``, ``--no-report`` and
    ``--missing-regions skip``. `more` are parameters beside those of the commands.
    """
    names = {name for command in commands for name in inspect.signature(command).parameters}
    names |= set(more)
    # A value with nothing around it may be a path, and ends before a sentence does.
    value = r"\"[^\"]*\"|'[^']*'|\[[^\]]*\]|[/~.-]*\w(?:[\w./:-]*\w)?|[/~]+"
    return re.sub(
        rf"(?<![\w./-])({'|'.join(sorted(names, key=len, reverse=True))})=({value})?", _option, text
    )


def _option(match: "re.Match[str]") -> str:
    name, value = match[1].replace("_", "-"), match[2]
    if value == "None":
        return f"no --{name}"
    if value == "False":
        return f"--no-{name}"
    if value in (None, "True"):
        return f"--{name}"
    if value.startswith("["):
        value = " ".join(re.findall(r"[^][\"', ]+", value))
    elif " " not in value:
        value = value.strip("\"'")
    return f"--{name} {value}"
