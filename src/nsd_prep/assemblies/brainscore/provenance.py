"""What a run's manifest and checks say of the files that are packaged."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from nsd_prep.core.digests import has_sha256, read_table, read_whole
from nsd_prep.core.errors import InputFileError, MissingFilesError
from nsd_prep.core.threads import each_in_threads

MANIFEST_FILE: Final = "manifest.json"
CHECKS_FILE: Final = "checks.csv"

_OTHERWISE: Final = "or package with unchecked=True, which the package then says"


def verified_checks(output: Path, files: Sequence[Path]) -> dict[str, int]:
    """Verify files against the manifest of their run, and count its checks by verdict.

    Raises
    ------
    MissingFilesError
        There is no manifest in the output folder: the run did not end, or is not there.
    InputFileError
        A file is not what the manifest lists, or a check failed.
    """
    digests = _digests(output / MANIFEST_FILE)
    checks_file = output / CHECKS_FILE
    names = [path.relative_to(output).as_posix() for path in (checks_file, *files)]

    def is_as_listed(name: str) -> bool:
        return name in digests and has_sha256(output / name, digests[name])

    same = each_in_threads(is_as_listed, names)
    wrong = [name for name, as_listed in zip(names, same, strict=True) if not as_listed]
    if wrong:
        raise InputFileError(
            f"{len(wrong)} of {len(names)} files below {output} are not those of its last run, "
            f"{wrong[0]} first: expected each with the SHA-256 that {MANIFEST_FILE} lists; run the "
            f"flow again, {_OTHERWISE}."
        )
    checks = read_table(checks_file)
    failed = checks.loc[checks["verdict"] == "failed", "name"].unique().tolist()
    if failed:
        raise InputFileError(
            f"The run of {output} has failed checks ({', '.join(failed)}): expected none; see "
            f"{CHECKS_FILE} there for what they mean and what to do, {_OTHERWISE}."
        )
    return {str(verdict): int(n) for verdict, n in checks["verdict"].value_counts().items()}


def _digests(manifest: Path) -> dict[str, str]:
    """Return the SHA-256 of each output that a manifest lists, by its name in the folder."""
    try:
        outputs: Any = json.loads(read_whole(manifest))["outputs"]
        listed = TypeAdapter(dict[str, dict[str, str | int]]).validate_python(outputs)
        return {name: str(entry["sha256"]) for name, entry in listed.items()}
    except FileNotFoundError as error:
        raise MissingFilesError(
            f"{manifest} is missing: expected the manifest of a run that ended, whose files are "
            f"packaged; run the flow to its end, {_OTHERWISE}."
        ) from error
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise InputFileError(
            f"{manifest} is not a run's manifest: expected JSON with the SHA-256 of each file "
            f"under 'outputs'; run the flow again, {_OTHERWISE}."
        ) from error
