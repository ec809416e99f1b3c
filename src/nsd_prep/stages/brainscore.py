"""From responses to what Brain-Score packages: train and test assemblies, stimulus sets."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.assembly import read_assembly, voxel_table, write_assembly
from nsd_prep.brainscore.identifiers import assembly_file
from nsd_prep.brainscore.stimulus_sets import write_stimulus_sets
from nsd_prep.brainscore.train_test import TrainAndTest, build_train_and_test
from nsd_prep.brainscore.train_test_checks import check_agreement, check_train_and_test
from nsd_prep.checks import Check
from nsd_prep.files import read_table
from nsd_prep.run import Extracted, Run
from nsd_prep.stages.outputs import run_attributes
from nsd_prep.stages.responses import kept_voxels, repetitions_of_subject, voxels_of_region
from nsd_prep.trials import usable_nsd_ids

_SPLITS: Final = ("train", "test")


def make_train_and_test(run: Run, extracted: Extracted) -> list[Path]:
    """Write the train and the test assembly of all regions.

    Parameters
    ----------
    run : Run
        A run whose split is written.
    extracted : Extracted
        What was extracted.

    Returns
    -------
    list of Path
        The two files.
    """
    trials = read_table(extracted.trials.file)
    nsd_ids = usable_nsd_ids(trials)
    tables = []
    keep: dict[tuple[int, str], NDArray[np.bool_]] = {}
    for region in run.regions:
        of_subjects = voxels_of_region(extracted, region)
        for of in of_subjects:
            keep[of.subject, region] = kept_voxels(run, of)
        kept = [of.kept(keep[of.subject, region]) for of in of_subjects]
        tables.append(voxel_table(region, kept))

    def repetitions(subject: int, region: str) -> NDArray[np.float32]:
        return repetitions_of_subject(extracted, trials, subject, region)[
            :, :, keep[subject, region]
        ]

    assemblies = build_train_and_test(
        repetitions,
        pd.concat(tables, ignore_index=True),
        nsd_ids,
        is_train_of(run),
        zscore_images=run.zscore_images,
        attributes=run_attributes(run),
    )
    files = _assembly_files(run)
    for assembly, file in zip(assemblies, files, strict=True):
        write_assembly(assembly, file)
    return files


def make_stimulus_sets(run: Run, extracted: Extracted) -> list[Path]:
    """Write the images of train and test, and their tables.

    Parameters
    ----------
    run : Run
        A run whose split is written.
    extracted : Extracted
        For the images.

    Returns
    -------
    list of Path
        All the files.

    Raises
    ------
    MissingFilesError, InputFileError
        The file of images is not there, or too short.
    """
    folder = run.brainscore_folder
    nsd_ids = usable_nsd_ids(read_table(extracted.trials.file))
    is_train = is_train_of(run)
    images_file = run.dataset().images_file
    tables = write_stimulus_sets(images_file, folder, nsd_ids, is_train, suffix=run.suffix)
    pictures = [
        folder / f"stimuli_{split}" / name
        for split, table in zip(_SPLITS, tables, strict=True)
        for name in read_table(table)["image_file_name"]
    ]
    return [*tables, *pictures]


def check_brainscore(run: Run, extracted: Extracted) -> list[Check]:
    """Check the train and test assemblies as they were written.

    Parameters
    ----------
    run : Run
        A run whose assemblies are written.
    extracted : Extracted
        For the images.

    Returns
    -------
    list of Check
        Of their form, and against the assemblies of the regions.
    """
    assemblies = read_train_and_test(run)
    is_train = is_train_of(run)
    voxels = [
        voxel_table(region, [one.kept(kept_voxels(run, one)) for one in subjects])
        for region, subjects in ((name, voxels_of_region(extracted, name)) for name in run.regions)
    ]
    found = check_train_and_test(
        assemblies,
        usable_nsd_ids(read_table(extracted.trials.file)),
        is_train,
        pd.concat(voxels, ignore_index=True),
    )
    for region in run.regions:
        of_region = read_assembly(run.assembly_file(region))
        found.append(check_agreement(assemblies, region, of_region, is_train))
    return found


def is_train_of(run: Run) -> NDArray[np.bool_]:
    """Return which of a run's images are for training, bool (n_images,), as the split says."""
    return read_table(run.split_file)["split"].to_numpy() == "train"


def _assembly_files(run: Run) -> list[Path]:
    return [assembly_file(run.brainscore_folder, split, run.suffix) for split in _SPLITS]


def read_train_and_test(run: Run) -> TrainAndTest:
    """Read the train and the test assembly of a run."""
    return TrainAndTest(*(read_assembly(file) for file in _assembly_files(run)))
