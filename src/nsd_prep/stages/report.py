"""The report as a stage of a run: from the run's files to the report's.

Not one of `nsd_prep.stages` itself: what draws takes a second to import.
"""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep import __version__
from nsd_prep.analysis.cluster_figures import images_of_clusters, thumbnail
from nsd_prep.analysis.geometry import Geometry
from nsd_prep.analysis.slices import Anatomy
from nsd_prep.checks import Check
from nsd_prep.files import read_table
from nsd_prep.regions import definition_as_text
from nsd_prep.report.compose import compose_report
from nsd_prep.report.methods import RunFacts
from nsd_prep.report.record import Report, Section
from nsd_prep.report.write import write_report
from nsd_prep.run import Run, TrialsRecord
from nsd_prep.volumes import read_ncsnr

_LIBRARIES: Final = ("numpy", "scipy", "pandas", "xarray", "matplotlib")


def report_run(
    run: Run,
    trials: TrialsRecord,
    geometry: Geometry,
    checks: Sequence[Check],
    further: Sequence[Section] = (),
) -> Report:
    """Write the report of a run to its folder ``report``.

    Parameters
    ----------
    run : Run
        A run whose tables and split are written.
    trials : TrialsRecord
        What the design says.
    geometry : Geometry
        As `nsd_prep.stages.analyse_run` gives it.
    checks : sequence of Check
        All checks that were made.
    further : sequence of Section
        Sections of other analyses.

    Returns
    -------
    Report
        What was written, for `nsd_prep.report.markdown.artifacts`.
    """
    voxels = read_table(run.voxels_file)
    dataset = run.dataset()
    counts = pd.DataFrame.from_dict(
        trials.repetition_counts, orient="index", columns=[3, 2, 1, 0]
    ).rename_axis(index="subject")
    anatomies = {}
    for subject in run.subjects:
        path = dataset.ncsnr_file(subject)
        anatomies[f"subj{subject:02d}"] = Anatomy(
            read_ncsnr(path), nib.Nifti1Image.from_filename(path).affine
        )
    report = compose_report(
        facts_of_run(run, trials, voxels),
        geometry,
        voxels,
        counts,
        checks,
        anatomies=anatomies,
        thumbnails=_thumbnails(dataset.images_file, geometry),
        further=further,
    )
    write_report(run.output_dir / "report", report)
    return report


def _thumbnails(images: Path, geometry: Geometry) -> dict[int, NDArray[np.uint8]]:
    """Return small images of the clusters by nsd_id; none where the images are not there."""
    if not images.is_file():
        return {}
    with h5py.File(images) as file:
        return {
            int(nsd_id): thumbnail(file["imgBrick"][nsd_id])
            for nsd_id in images_of_clusters(geometry)
        }


def facts_of_run(run: Run, trials: TrialsRecord, voxels: pd.DataFrame) -> RunFacts:
    """Gather what the methods of a run depend on.

    Parameters
    ----------
    run : Run
        A run whose split is written.
    trials : TrialsRecord
        What the design says.
    voxels : DataFrame
        A row for each neuroid.

    Returns
    -------
    RunFacts
        The facts.
    """
    dataset = run.dataset()
    split = read_table(run.split_file)
    by_region = voxels.groupby("region", sort=False)
    return RunFacts(
        dataset=dataset.name,
        is_nsd=dataset.is_nsd,
        preparation=dataset.preparation,
        trials_per_session=dataset.trials_per_session,
        sessions={subject: dataset.sessions[subject] for subject in run.subjects},
        sessions_read={subject: len(trials.sessions[subject]) for subject in run.subjects},
        shared_images=sum(trials.repetition_counts[run.subjects[0]]),
        images=trials.n_images,
        train_images=int((split["split"] == "train").sum()),
        regions={name: definition_as_text(definition) for name, definition in run.regions.items()},
        voxels={str(name): len(rows) for name, rows in by_region},
        voxel_sessions_without_data=int(voxels["sessions_without_data"].sum()),
        invalid_voxels=run.invalid_voxels,
        seed=run.seed,
        train_fraction=run.train_fraction,
        versions={"nsd-prep": __version__, "Python": platform.python_version()}
        | {library: version(library) for library in _LIBRARIES},
    )
