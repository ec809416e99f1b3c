"""Assembly: the averaged responses of each region, the split, and the tables beside them."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from nsd_prep import __version__, stages
from nsd_prep.files import sha256_of_json
from nsd_prep.run import AssemblyRecord, Extracted, Run, TrialsRecord
from nsd_prep.tasks.policy import cached_by, call_cached


def _key(run: Run, extracted: Path, region: str) -> str:
    libraries = [version(library) for library in ("numpy", "xarray", "netCDF4")]
    asked = run.model_dump(mode="json")
    return sha256_of_json([__version__, libraries, asked, extracted.name, region])


@task(name="assemble-region", task_run_name="assemble-{region}", **cached_by(_key))
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


@task(name="split-images", cache_policy=NO_CACHE)
def split_images(run: Run, trials: TrialsRecord) -> Path:
    """Write which images are train and which are test."""
    return stages.split_images(run, trials)


@task(name="tabulate-voxels", cache_policy=NO_CACHE)
def tabulate_voxels(run: Run, extracted: Path) -> None:
    """Write the tables of neuroids and of noise ceilings."""
    stages.tabulate_voxels(run, Extracted.read(extracted))
