"""Brain-Score: train and test assemblies, and the stimulus sets beside them."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import task

from nsd_prep import stages
from nsd_prep.checks import STIMULUS_SETS, Check
from nsd_prep.errors import NSDPrepError
from nsd_prep.files import FileIdentity, sha256_of_file, sha256_of_json
from nsd_prep.run import AssemblyRecord, Extracted, Run
from nsd_prep.tasks.assembly import key_of_made
from nsd_prep.tasks.policy import TRY_AGAIN, cached_by, call_cached


@task(name="make-train-and-test", **cached_by(key_of_made), **TRY_AGAIN)
def _train_and_test(
    run: Run,
    extracted: Path,
    assemblies: Sequence[AssemblyRecord],  # noqa: ARG001 (part of the key)
) -> dict[str, Any]:
    """Write and check the train and the test assembly."""
    content = Extracted.read(extracted)
    files = stages.make_train_and_test(run, content)
    checks = [asdict(check) for check in stages.check_brainscore(run, content)]
    return {"checks": checks, "files": {str(file): sha256_of_file(file) for file in files}}


def _images_key(run: Run, extracted: Path, images_file: FileIdentity) -> str:
    return sha256_of_json([key_of_made(run, extracted), images_file.model_dump()])


@task(name="make-stimulus-sets", **cached_by(_images_key), **TRY_AGAIN)
def _stimulus_sets(
    run: Run,
    extracted: Path,
    images_file: FileIdentity,  # noqa: ARG001 (part of the key)
) -> dict[str, Any]:
    """Write the images of train and test, and their tables."""
    files = stages.make_stimulus_sets(run, Extracted.read(extracted))
    return {"files": {str(file): sha256_of_file(file) for file in files}}


def make_train_and_test(
    run: Run, extracted: Path, assemblies: Sequence[AssemblyRecord], refresh: bool
) -> tuple[list[Path], list[Check]]:
    """Write and check the train and test assemblies, unless they are there already."""
    arguments = {"run": run, "extracted": extracted, "assemblies": assemblies}
    result = call_cached(_train_and_test, run.cache_dir, refresh, **arguments)
    return [Path(path) for path in result["files"]], [Check(**of) for of in result["checks"]]


def make_stimulus_sets(
    run: Run,
    extracted: Path,
    _assemblies: Sequence[AssemblyRecord],
    refresh: bool,
) -> tuple[list[Path], list[Check]]:
    """Write the stimulus sets; where images are missing the run goes on, and a check says so."""
    name, expected = STIMULUS_SETS, "the image of every row"
    meaning = "Without its images a benchmark cannot be packaged; all else is made all the same."
    try:
        identity = FileIdentity.of(run.dataset().images_file)
        arguments = {"run": run, "extracted": extracted, "images_file": identity}
        result = call_cached(_stimulus_sets, run.cache_dir, refresh, **arguments)
    except (NSDPrepError, FileNotFoundError) as error:
        missing = f"{run.dataset().images_file} is not there: download it to have stimulus sets"
        why = str(error) if isinstance(error, NSDPrepError) else missing
        return [], [Check(name, "", why, expected, "not decidable", meaning)]
    files = [Path(path) for path in result["files"]]
    found = f"{len(files) - 2} images"
    return files, [Check(name, "", found, expected, "passed", meaning)]
