"""Assembly: the averaged responses of each region, the split, and the tables beside them."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from nsd_prep import __version__, stages
from nsd_prep.files import sha256_of_file, sha256_of_json
from nsd_prep.run import AssemblyRecord, Extracted, Run, TrialsRecord
from nsd_prep.tasks.policy import TRY_AGAIN, cached_by, call_cached


def key_of_made(run: Run, extracted: Path, assemblies: Sequence[AssemblyRecord] = ()) -> str:
    """Return the digest of a run, of what was extracted, and of the assemblies made of it."""
    made = [of.sha256 for of in assemblies]
    return sha256_of_json([__version__, run.model_dump(mode="json"), extracted.name, made])


def _assembly_key(run: Run, extracted: Path, region: str) -> str:
    libraries = [version(library) for library in ("numpy", "xarray", "netCDF4")]
    return sha256_of_json([key_of_made(run, extracted), libraries, region])


@task(
    name="assemble-region",
    task_run_name="assemble-{region}",
    **cached_by(_assembly_key),
    **TRY_AGAIN,
)
def assemble_region(run: Run, extracted: Path, region: str) -> dict[str, Any]:
    """Average a region's responses and write its assembly."""
    record = stages.assemble_region(run, Extracted.read(extracted), region)
    files = {str(record.file): record.sha256}
    return {"assembly": record.model_dump(mode="json"), "files": files}


def assemble_regions(run: Run, extracted: Path, refresh: bool) -> list[AssemblyRecord]:
    """Assemble every region whose assembly is not there already.

    One after another: netCDF-4 files may not be opened or written by several threads at once.
    """
    found = []
    for region in run.regions:
        record = call_cached(
            assemble_region, run.cache_dir, refresh, run=run, extracted=extracted, region=region
        )
        found.append(AssemblyRecord.model_validate(record["assembly"]))
    return found


@task(name="split-images", cache_policy=NO_CACHE, **TRY_AGAIN)
def split_images(run: Run, trials: TrialsRecord) -> Path:
    """Write which images are train and which are test."""
    return stages.split_images(run, trials)


@task(name="tabulate-voxels", **cached_by(key_of_made), **TRY_AGAIN)
def _tabulate(run: Run, extracted: Path) -> dict[str, Any]:
    """Write the tables of neuroids and of noise ceilings."""
    files = stages.tabulate_voxels(run, Extracted.read(extracted))
    return {"files": {str(file): sha256_of_file(file) for file in files}}


def tabulate_voxels(run: Run, extracted: Path, refresh: bool) -> None:
    """Write the tables of neuroids and of noise ceilings, unless they are there already."""
    call_cached(_tabulate, run.cache_dir, refresh, run=run, extracted=extracted)
