"""The manifest of an export: what its folder holds, and what that was made from."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from nsd_prep.core.errors import ParameterError

MANIFEST: Final = "manifest.json"
KIND: Final = "nsd-prep export"
#: What a run that has not ended leaves in its folder in place of a manifest.
OF_A_RUN: Final = ".nsd-prep-owned.json"


def read_manifest(folder: Path, like: str) -> dict[str, Any] | None:
    """Return the manifest of an export like one; None where a folder has none.

    Raises
    ------
    ParameterError
        The folder holds something else than such an export.
    """
    file = folder / MANIFEST
    if not file.exists():
        if (folder / OF_A_RUN).exists():
            raise ParameterError(
                f"{folder} holds what a run wrote that has not ended ({OF_A_RUN}), expected "
                f"nothing or an export like {like}: choose another folder."
            )
        return None
    content: Any = None
    with suppress(ValueError, RecursionError, IsADirectoryError):
        content = json.loads(file.read_bytes())
    facts = content if isinstance(content, dict) else {}
    if (facts.get("kind"), facts.get("like")) != (KIND, like):
        is_export = facts.get("kind") == KIND
        found = f"an export like {facts.get('like')}" if is_export else "something else"
        raise ParameterError(
            f"{folder} holds {found} ({MANIFEST}), expected nothing or an export like "
            f"{like}: choose another folder."
        )
    if (problem := _problem_of(facts)) is not None:
        raise ParameterError(
            f"{file} is not as an export wrote it ({problem}): put back what it was, or choose "
            "another folder."
        )
    return facts


def _problem_of(manifest: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the form of an export's manifest."""
    kinds: dict[str, tuple[type, str]] = {
        "outputs": (dict, "mapping"),
        "made_from": (dict, "mapping"),
        "subjects": (dict, "mapping"),
        "unfinished": (list, "list"),
    }
    for name, (kind, word) in kinds.items():
        value = manifest.get(name, {} if name == "outputs" else kind())
        if not isinstance(value, kind) or (name == "outputs" and name not in manifest):
            return f"expected a {word} in {name}"
    for name in ("outputs", "subjects"):
        for key, entry in manifest.get(name, {}).items():
            if not isinstance(entry, dict):
                return f"expected a mapping in {name}, {key}"
            if not isinstance(entry.get("design", ""), str):
                return f"expected text in {name}, {key}, design"
    if not all(isinstance(name, str) for name in manifest.get("unfinished", [])):
        return "expected names in unfinished"
    return None
