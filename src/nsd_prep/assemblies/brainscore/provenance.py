"""What a run's manifest and checks say of the files that are packaged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import pandas as pd
from pydantic import BaseModel, Field, model_validator

from nsd_prep.core.digests import has_digest, read_table, read_whole
from nsd_prep.core.errors import InputFileError, MissingFilesError
from nsd_prep.core.records import Digested
from nsd_prep.core.threads import each_in_threads

MANIFEST_FILE: Final = "manifest.json"
CHECKS_FILE: Final = "checks.csv"

_OTHERWISE: Final = "or package with unchecked=True, which the package then says"


class _Output(Digested):
    """What a manifest says of a file; versions up to 0.4 did not name its run."""

    run: str | None = None

    @model_validator(mode="after")
    def _check_digest(self) -> Self:
        if not self.file_digest:
            raise ValueError("expected the digest of a file")
        return self


class _EarlierRun(BaseModel):
    written: str | None = None


class _Manifest(BaseModel):
    outputs: dict[str, _Output]
    earlier_runs: dict[str, _EarlierRun] = Field(default_factory=dict)

    def checks_file(self, run: str | None) -> str:
        """Return where the checks of a run are: they are kept beside those of the last."""
        last = self.outputs.get(CHECKS_FILE)
        return CHECKS_FILE if last is None or last.run == run else f"checks-{run}.csv"


def verified_checks(output: Path, files: Sequence[Path]) -> dict[str, int]:
    """Verify files against the manifest, and count the checks of their run by verdict.

    Raises
    ------
    MissingFilesError
        There is no manifest in the output folder: the run did not end, or is not there.
    InputFileError
        A file is not what the manifest lists, its run did not end, or a check of it failed.
    """
    manifest = _read(output / MANIFEST_FILE)
    names = [path.relative_to(output).as_posix() for path in files]
    runs = {manifest.outputs[name].run for name in names if name in manifest.outputs}
    checks_files = sorted(manifest.checks_file(run) for run in runs) or [CHECKS_FILE]
    names = [*checks_files, *names]

    def is_as_listed(name: str) -> bool:
        entry = manifest.outputs.get(name)
        return entry is not None and has_digest(output / name, entry.file_digest)

    for run in runs & manifest.earlier_runs.keys():
        if run is not None and manifest.earlier_runs[run].written is None:
            raise InputFileError(
                f"Files below {output} are of a run that did not end, {run} in {MANIFEST_FILE}: "
                f"expected a run that did; run the flow again with its options, {_OTHERWISE}."
            )
    same = each_in_threads(is_as_listed, names)
    wrong = [name for name, as_listed in zip(names, same, strict=True) if not as_listed]
    if wrong:
        raise InputFileError(
            f"{len(wrong)} of {len(names)} files below {output} are not those of its runs, "
            f"{wrong[0]} first: expected each with the digest that {MANIFEST_FILE} lists; run the "
            f"flow again, {_OTHERWISE}."
        )
    checks = pd.concat([read_table(output / name) for name in checks_files])
    failed = checks.loc[checks["verdict"] == "failed", "name"].unique().tolist()
    if failed:
        raise InputFileError(
            f"The run of {output} has failed checks ({', '.join(failed)}): expected none; see "
            f"{', '.join(checks_files)} there for what they mean and what to do, {_OTHERWISE}."
        )
    return {str(verdict): int(n) for verdict, n in checks["verdict"].value_counts().items()}


def _read(manifest: Path) -> _Manifest:
    try:
        return _Manifest.model_validate_json(read_whole(manifest))
    except FileNotFoundError as error:
        raise MissingFilesError(
            f"{manifest} is missing: expected the manifest of a run that ended, whose files are "
            f"packaged; run the flow to its end, {_OTHERWISE}."
        ) from error
    except ValueError as error:
        raise InputFileError(
            f"{manifest} is not a run's manifest: expected JSON with the digest of each file "
            f"under 'outputs'; run the flow again, {_OTHERWISE}."
        ) from error
