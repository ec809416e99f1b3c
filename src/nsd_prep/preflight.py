"""Everything that a run needs, looked at before anything is computed."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from nsd_prep import published
from nsd_prep.betas import check_session_file
from nsd_prep.brainscore.features import read_features
from nsd_prep.dataset import Dataset
from nsd_prep.errors import InputFileError, MissingFilesError, NSDPrepError, PreflightError
from nsd_prep.files import FileIdentity, remove_stale_partials, writable_folder
from nsd_prep.masks import labels_that_are_nowhere, select_voxels
from nsd_prep.regions import VoxelSelection
from nsd_prep.run import Run
from nsd_prep.split import train_images
from nsd_prep.stimulus_table import contradictions, read_stimulus_table
from nsd_prep.trials import (
    Design,
    check_planned_trials,
    needed_sessions,
    read_design,
    shared_trials,
    usable_images,
    usable_nsd_ids,
    with_usable,
)
from nsd_prep.volumes import read_ncsnr

_T = TypeVar("_T")


class Preflight(BaseModel):
    """What a run will do, known before it does it.

    Attributes
    ----------
    dataset, layout, preparation : str
        What is read.
    n_images : int
        Images that every chosen subject saw three times.
    n_sessions : int
        Sessions that hold a trial of such an image.
    n_voxels : dict of str to int
        Voxels of each region, all subjects together.
    bytes_to_read : int
        Of the betas, where nothing is in the cache.
    bytes_to_write : int
        Extracted responses and assemblies.
    files : tuple of FileIdentity
        Every input file.
    """

    model_config = ConfigDict(frozen=True)

    dataset: str
    layout: str
    preparation: str
    n_images: int
    n_sessions: int
    n_voxels: dict[str, int]
    bytes_to_read: int
    bytes_to_write: int
    files: tuple[FileIdentity, ...]


class _Problems:
    """Collects what is wrong, so that one look finds it all."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def collect(self, look: Callable[..., _T], *arguments: object) -> _T | None:
        """Return what `look` gives, or None and remember what it says is wrong."""
        try:
            return look(*arguments)
        except PreflightError as error:
            self.found.extend(error.problems)
        except NSDPrepError as error:
            self.found.append(str(error))
        except FileNotFoundError as error:
            self.found.append(f"{error.filename} is missing: download it.")
        except OSError as error:
            self.found.append(
                f"{error.filename or arguments[0]} cannot be read ({error.strerror or error}): "
                "check the disk and the file's permissions."
            )
        return None


def check_inputs(run: Run) -> Preflight:
    """Look for, open and check every file that a run needs.

    Parameters
    ----------
    run : Run
        What is asked for.

    Returns
    -------
    Preflight
        What the run will do.

    Raises
    ------
    PreflightError
        All that is wrong, a sentence each.
    """
    problems = _Problems()
    dataset = run.dataset()
    problems.collect(writable_folder, run.output_dir)
    problems.collect(writable_folder, run.cache_dir)
    problems.collect(remove_stale_partials, run.cache_dir)
    trials = problems.collect(_check_design, run, dataset)
    selections = {
        subject: selection
        for subject in run.subjects
        if (selection := problems.collect(select_voxels, dataset, subject, run.regions))
    }
    if len(selections) == len(run.subjects):
        problems.found.extend(labels_that_are_nowhere(selections.values()))
    for subject in run.subjects:
        selection = selections.get(subject)
        if selection is not None:
            problems.collect(_check_grid, dataset, subject, selection)
        problems.collect(_check_ncsnr, dataset, subject, selection)
    if run.features is not None and trials is not None:
        problems.collect(_check_features, run.features, trials)
    files = [dataset.design_file, *(dataset.ncsnr_file(subject) for subject in run.subjects)]
    sessions = {} if trials is None else needed_sessions(trials)
    missing = [
        dataset.session_file(subject, session)
        for subject, of_subject in sessions.items()
        for session in of_subject
        if not dataset.session_file(subject, session).exists()
    ]
    if missing:
        listed = "".join(f"\n      {path}" for path in missing)
        problems.found.append(
            f"{len(missing)} session files are missing: expected each session that holds a usable "
            f"trial, download them, or describe a smaller copy in dataset.json:{listed}"
        )
    for subject, of_subject in sessions.items():
        for session in of_subject:
            path = dataset.session_file(subject, session)
            if subject in selections and path not in missing:
                problems.collect(
                    check_session_file, path, selections[subject].grid, dataset.trials_per_session
                )
            files.append(path)
    if problems.found or trials is None:
        raise PreflightError(problems.found)
    if dataset.stimulus_table.exists():
        files.append(dataset.stimulus_table)
    files.extend(_label_files(run, dataset))
    return _preflight(run, dataset, trials, sessions, selections, files)


def _check_design(run: Run, dataset: Dataset) -> pd.DataFrame:
    """Check the design against the sessions and its copy; return the trials, usable ones marked."""
    design = read_design(dataset.design_file)
    if dataset.is_nsd:
        _check_published_sizes(dataset.design_file, design)
    for subject in run.subjects:
        check_planned_trials(
            dataset.design_file,
            design,
            subject,
            dataset.sessions[subject],
            dataset.trials_per_session,
        )
    if dataset.stimulus_table.exists():
        found = contradictions(
            design,
            read_stimulus_table(dataset.stimulus_table, run.subjects),
            {subject: dataset.trials(subject) for subject in run.subjects},
            dataset.design_file,
            dataset.stimulus_table,
        )
        if found:
            raise PreflightError(found)
    trials = trials_of_subjects(run, dataset, design)
    train_images(
        int(trials.loc[trials["usable"], "nsd_id"].nunique()), run.seed, run.train_fraction
    )
    return trials


def _check_features(path: Path, trials: pd.DataFrame) -> None:
    """Raise where a features file is not of its form, or lacks an image."""
    read_features(path).select(usable_nsd_ids(trials))


def trials_of_subjects(run: Run, dataset: Dataset, design: Design) -> pd.DataFrame:
    """Return the shared trials of a run's subjects, the usable ones marked.

    Parameters
    ----------
    run : Run
        Which subjects.
    dataset : Dataset
        Their sessions.
    design : Design
        What they saw.

    Returns
    -------
    DataFrame
        As `nsd_prep.trials.shared_trials`, and ``usable``; subjects in the run's order.

    Raises
    ------
    ParameterError
        No image was seen three times by all.
    """
    trials = pd.concat(
        [
            shared_trials(design, subject, dataset.sessions[subject], dataset.trials_per_session)
            for subject in run.subjects
        ],
        ignore_index=True,
    )
    return with_usable(trials, usable_images(trials, run.subjects))


def _check_published_sizes(path: Path, design: Design) -> None:
    found = (
        len(design.image_of_trial),
        *design.nsd_id_of_image.shape,
        len(design.shared_nsd_ids),
    )
    expected = (
        published.PLANNED_TRIALS,
        len(published.SUBJECTS),
        published.IMAGES_OF_A_SUBJECT,
        published.SHARED_IMAGES,
    )
    highest = int(design.nsd_id_of_image.max()) + 1
    if found != expected or highest > published.IMAGES:
        raise InputFileError(
            f"The design {path} has not NSD's sizes: expected {expected} trials, subjects, images "
            f"of a subject and shared images and ids up to {published.IMAGES}, found {found} and "
            f"{highest}; download it again, or describe another dataset in dataset.json."
        )


def _check_grid(dataset: Dataset, subject: int, selection: VoxelSelection) -> None:
    expected = published.GRIDS[subject][::-1]
    if dataset.is_nsd and selection.grid != expected:
        raise InputFileError(
            f"The label volumes of subject {subject} lie on the grid (Z, Y, X) {selection.grid}: "
            f"expected {expected}, NSD's func1pt8mm; download them again, in that space."
        )


def _check_ncsnr(dataset: Dataset, subject: int, selection: VoxelSelection | None) -> None:
    path = dataset.ncsnr_file(subject)
    if not path.exists():
        raise MissingFilesError(f"The ncsnr of subject {subject} is missing: expected {path}.")
    shape = read_ncsnr(path).shape
    if selection is not None and shape != selection.grid:
        raise InputFileError(
            f"{path} lies on the grid (Z, Y, X) {shape}: expected {selection.grid}, that of the "
            f"label volumes of subject {subject}; download it again."
        )


def _label_files(run: Run, dataset: Dataset) -> list[Path]:
    candidates = [
        dataset.roi_file(subject, volume, hemisphere)
        for subject in run.subjects
        for volume in sorted({name for region in run.regions.values() for name in region.labels})
        for hemisphere in (None, "lh", "rh")
    ]
    tables = [
        dataset.label_table(subject, volume)
        for subject in run.subjects
        for region in run.regions.values()
        for volume, labels in region.labels.items()
        if any(isinstance(label, str) for label in labels)
    ]
    return [path for path in (*candidates, *tables) if path is not None and path.exists()]


def _preflight(
    run: Run,
    dataset: Dataset,
    trials: pd.DataFrame,
    sessions: dict[int, tuple[int, ...]],
    selections: dict[int, VoxelSelection],
    files: list[Path],
) -> Preflight:
    value, response = np.dtype(np.int16).itemsize, np.dtype(np.float32).itemsize
    n_images = int(trials.loc[trials["usable"], "nsd_id"].nunique())
    n_voxels = {
        region: sum(len(selection.regions[region]) for selection in selections.values())
        for region in run.regions
    }
    shared = trials.groupby(["subject", "session"]).size()
    to_read = to_write = 0
    for subject, of_subject in sessions.items():
        selection = selections[subject]
        read_voxels = len(selection.union(run.regions))
        stored_voxels = sum(len(voxels) for voxels in selection.regions.values())
        to_read += len(of_subject) * read_voxels * dataset.trials_per_session * value
        kept = int(shared.loc[[(subject, session) for session in of_subject]].sum())
        to_write += kept * stored_voxels * response
    return Preflight(
        dataset=dataset.name,
        layout=dataset.layout,
        preparation=dataset.preparation,
        n_images=n_images,
        n_sessions=sum(len(of_subject) for of_subject in sessions.values()),
        n_voxels=n_voxels,
        bytes_to_read=to_read,
        bytes_to_write=to_write + n_images * sum(n_voxels.values()) * response,
        files=tuple(FileIdentity.of(path) for path in files),
    )
