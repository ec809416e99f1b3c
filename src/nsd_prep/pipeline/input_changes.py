"""Whether input files are still those that an earlier run was made from, by what manifests list."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

#: Of the same root alone: a copy may have other times.
_OF_A_PLACE = ("modified", "etag")


def changed_inputs(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Return the names of the input files of two runs that are not the same any more.

    Parameters
    ----------
    theirs, ours : mapping
        What manifests say of the runs: ``inputs``, and in ``parameters`` their ``nsd_root``.
        Anything else in their place is a record that says nothing.

    Returns
    -------
    list of str
        Paths below the roots, of files that both runs have looked at.
    """
    (root, before), (our_root, now) = _inputs(theirs), _inputs(ours)
    ignored = () if root == our_root else _OF_A_PLACE
    return sorted(
        name
        for name, facts in before.items()
        if name in now
        and any(
            facts[fact] != now[name][fact]
            for fact in facts.keys() & now[name].keys()
            if fact not in ignored
        )
    )


def _inputs(record: Mapping[str, Any]) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the root of a run, and the facts of each of its input files by the path below it."""
    parameters, listed = record.get("parameters"), record.get("inputs")
    root = parameters.get("nsd_root") if isinstance(parameters, Mapping) else None
    if not isinstance(root, str) or not isinstance(listed, Sequence):
        return "", {}
    inputs = {}
    for entry in listed:
        path = entry.get("path") if isinstance(entry, Mapping) else None
        if isinstance(path, str):
            inputs[_below(root, path)] = {
                fact: value for fact, value in entry.items() if fact != "path"
            }
    return root, inputs


def _below(root: str, path: str) -> str:
    pure = PurePosixPath(path)
    return str(pure.relative_to(root)) if pure.is_relative_to(root) else path
