"""A subject's single trials, from sessions as they are stored to the files that are written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nsd_prep.core.atomic import write_text
from nsd_prep.core.parameters import (
    Normalise,
    SingleTrialImages,
    StoredFormat,
    StoredType,
)
from nsd_prep.dataset.betas import Betas
from nsd_prep.dataset.splits import training_trials
from nsd_prep.dataset.trials import image_table, shows_images
from nsd_prep.single_trials.average import averaged_images
from nsd_prep.single_trials.normalise import INT16_STEP, UNITS, normalised_sessions
from nsd_prep.single_trials.voxels import with_averaged_noise_ceiling
from nsd_prep.single_trials.writer import FORMATS, checked_sessions, write_rows


@dataclass(frozen=True)
class SingleTrialOptions:
    """What single trials are made of, and how they are stored.

    Attributes
    ----------
    normalise : {"session", "none", "train-only"}
        As in `nsd_prep.single_trials.normalise.normalised`.
    split : str
        Whose training images count, for ``train-only``: a column of the trials.
    images : {"all", "shared", "unique"}
        Whose trials are written; normalisation is over all trials of a session all the same.
    average : bool
        One row an image in place of one a trial.
    dtype : {"float32", "float16", "int16"}
        How values are stored.
    format : {"netcdf", "zarr"}
        In what.
    """

    normalise: Normalise = "session"
    split: str = "shared1000"
    images: SingleTrialImages = "all"
    average: bool = False
    dtype: StoredType = "float32"
    format: StoredFormat = "netcdf"

    def attributes(self) -> dict[str, str | int]:
        """Return what a file records of them."""
        recorded: dict[str, str | int] = {
            "normalisation": self.normalise,
            "units": UNITS[self.normalise],
            "images": self.images,
            "averaged": int(self.average),
        }
        if self.normalise == "train-only":
            recorded["training_split"] = self.split
        return recorded


def write_single_trials_of_subject(
    folder: Path,
    subject: int,
    sessions: Iterable[tuple[int, Betas]],
    trials: pd.DataFrame,
    voxels: pd.DataFrame,
    options: SingleTrialOptions,
    attributes: Mapping[str, Any],
) -> tuple[Path, Path]:
    """Write a subject's single trials, or their averages, and the table of the rows.

    Parameters
    ----------
    folder : Path
        Where the files go; with averages also a temporary file of the same size.
    subject : int
        1-based.
    sessions : iterable of (int, ndarray, shape (n_voxels, n_trials))
        Every session (1-based, ascending) with the values of all its trials, as stored.
    trials : DataFrame
        All of the subject's trials, as `nsd_prep.dataset.trials.trial_table` gives them, with
        columns of behaviour or not.
    voxels : DataFrame
        As `nsd_prep.single_trials.voxels.trial_voxels` gives it.
    options : SingleTrialOptions
        What to make.
    attributes : mapping of str to str, number or sequence of numbers
        What else determines the data, and `nsd_prep.dataset.space.Space.attributes`.

    Returns
    -------
    responses : Path
        ``subj01.nc`` or ``subj01.zarr``.
    table : Path
        ``subj01.csv``: the subject, then the columns of the rows.

    Raises
    ------
    ParameterError, InputFileError, OutputError
        As the functions that it calls.
    """
    path = folder / f"subj{subject:02d}{FORMATS[options.format]}"
    keep = shows_images(trials, options.images)
    rows = trials[keep]
    normalised = normalised_sessions(
        sessions,
        trials,
        options.normalise,
        keep=keep,
        is_training=training_trials(trials, options.split)
        if options.normalise == "train-only"
        else None,
        is_surface="vertex_index" in voxels,
    )
    recorded = {"subject": subject} | options.attributes() | dict(attributes)
    if options.average:
        images = image_table(rows)
        folder.mkdir(parents=True, exist_ok=True)
        blocks = averaged_images(normalised, rows, images, len(voxels), folder)
        voxels = with_averaged_noise_ceiling(voxels, images)
        rows = images
    else:
        blocks = checked_sessions(normalised, rows)
    write_rows(
        path,
        blocks,
        rows,
        voxels,
        dtype=options.dtype,
        format=options.format,
        attributes=recorded,
        step=INT16_STEP[options.normalise],
    )
    table = path.with_suffix(".csv")
    named = rows.assign(subject=f"subj{subject:02d}")[["subject", *rows.columns]]
    write_text(table, named.to_csv(lineterminator="\n"))
    return path, table
