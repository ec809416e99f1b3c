"""The end of a run: checks of what was written, and the manifest."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from nsd_prep import __version__, assembly_checks
from nsd_prep.assembly import read_assembly, voxel_table
from nsd_prep.checks import Check, as_table
from nsd_prep.files import read_table, sha256_of_file, write_json, write_text
from nsd_prep.preflight import Preflight
from nsd_prep.run import Extracted, Run, TrialsRecord
from nsd_prep.stages.responses import kept_voxels, voxels_of_region
from nsd_prep.trials import usable_nsd_ids

_LIBRARIES: Final = ("numpy", "pandas", "xarray", "h5py", "netCDF4", "nibabel", "scipy", "prefect")


def validate(run: Run, extracted: Extracted) -> list[Check]:
    """Check the files that were written.

    Parameters
    ----------
    run : Run
        The run.
    extracted : Extracted
        What was extracted.

    Returns
    -------
    list of Check
        Failed ones among them; it is the caller's to act on them.
    """
    trials = extracted.trials
    nsd_ids = usable_nsd_ids(read_table(trials.file))
    is_nsd = run.dataset().is_nsd
    n_sessions = {f"subj{subject:02d}": len(of) for subject, of in trials.sessions.items()}
    found = assembly_checks.check_split(nsd_ids, read_table(run.split_file))
    if is_nsd:
        counts = pd.DataFrame.from_dict(trials.repetition_counts, orient="index")
        found += assembly_checks.check_published_repetitions(counts, len(nsd_ids), run.subjects)
    for region in run.regions:
        of_subjects = voxels_of_region(extracted, region)
        table = voxel_table(region, of_subjects)
        kept = np.concatenate([kept_voxels(run, of) for of in of_subjects])
        assembly = read_assembly(run.assembly_file(region))
        found += assembly_checks.check_form(region, assembly, run.subjects, nsd_ids)
        found += assembly_checks.check_signal(region, assembly, table[kept])
        found += assembly_checks.check_coverage(region, table, n_sessions)
        if is_nsd:
            found += assembly_checks.check_published_region(region, table, run.subjects)
    return found


def write_checks(run: Run, found: Sequence[Check]) -> Path:
    """Write all the checks of a run.

    Parameters
    ----------
    run : Run
        The run.
    found : sequence of Check
        Its checks.

    Returns
    -------
    Path
        ``checks.csv``.
    """
    table = as_table(found).to_csv(index=False, lineterminator="\n")
    write_text(run.checks_file, table)
    return run.checks_file


def write_manifest(
    run: Run,
    preflight: Preflight,
    trials: TrialsRecord,
    further_files: Sequence[Path],
    seconds: Mapping[str, float],
) -> Path:
    """Write what was made from what; the last file of a run.

    Parameters
    ----------
    run : Run
        The run.
    preflight : Preflight
        The input files.
    trials : TrialsRecord
        The images.
    further_files : sequence of Path
        What was written beside the files that every run writes.
    seconds : mapping of str to float
        How long each stage took.

    Returns
    -------
    Path
        ``manifest.json``.
    """
    manifest: dict[str, Any] = {
        "software": {"nsd-prep": __version__, "python": platform.python_version()}
        | {library: version(library) for library in _LIBRARIES},
        "parameters": json.loads(run.model_dump_json()),
        "dataset": {"name": preflight.dataset, "layout": preflight.layout}
        | {"preparation": preflight.preparation},
        "images": {"number": trials.n_images, "sha256_of_nsd_ids": trials.images_digest},
        "sessions": {str(subject): list(of) for subject, of in trials.sessions.items()},
        "inputs": [identity.model_dump() for identity in preflight.files],
        "outputs": {
            str(path.relative_to(run.output_dir)): {
                "bytes": path.stat().st_size,
                "sha256": sha256_of_file(path),
            }
            for path in (*run.output_files, *further_files)
        },
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
    }
    write_json(run.manifest_file, manifest)
    return run.manifest_file
