"""The experiment's design: which image a subject saw in which trial."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import scipy.io
from numpy.typing import NDArray

from nsd_prep.core.digests import read_whole
from nsd_prep.core.errors import InputFileError, ParameterError
from nsd_prep.published import REPETITIONS

#: No count or id of a design is larger; larger ones could not be held exactly by every type.
_LARGEST_NUMBER: Final = 2**31 - 1
#: The columns of a trial table, in order.
TRIAL_COLUMNS: Final = (
    "subject",
    "nsd_id",
    "repetition",
    "session",
    "trial_in_session",
    "global_trial",
)


@dataclass(frozen=True)
class Design:
    """Which image each trial shows.

    Attributes
    ----------
    image_of_trial : ndarray of int64, shape (n_planned_trials,)
        Index (0-based) into the subject's images; the same for all subjects.
    nsd_id_of_image : ndarray of int64, shape (n_subjects, n_images_of_a_subject)
        nsd_id (0-based) of each subject's images; row 0 is subject 1.
    shared_nsd_ids : ndarray of int64, shape (n_shared_images,)
        nsd_id (0-based) of the images that are planned for every subject.
    """

    image_of_trial: NDArray[np.int64]
    nsd_id_of_image: NDArray[np.int64]
    shared_nsd_ids: NDArray[np.int64]

    def nsd_id_of_trial(self, subject: int, n_trials: int) -> NDArray[np.int64]:
        """Return the nsd_id (0-based) of a subject's (1-based) first trials, int64 (n_trials,)."""
        return self.nsd_id_of_image[subject - 1, self.image_of_trial[:n_trials]]


def read_design(path: Path, read: Callable[[Path], bytes] = read_whole) -> Design:
    """Read the experiment design, which counts everything from 1.

    Parameters
    ----------
    path : Path
        ``nsd_expdesign.mat`` (MAT v5) with masterordering, subjectim and sharedix.
    read : callable
        Returns the content of the file.

    Returns
    -------
    Design
        Counted from 0.

    Raises
    ------
    OSError
        There is no such file, or the disk fails.
    InputFileError
        The file cannot be read, or contradicts itself.
    """
    names = ("masterordering", "subjectim", "sharedix")
    content = read(path)
    try:
        variables = scipy.io.loadmat(io.BytesIO(content), variable_names=names)
    except Exception as error:  # a damaged MAT file makes loadmat raise almost anything
        raise InputFileError(
            f"The design {path} cannot be read as a MAT v5 file "
            f"({type(error).__name__}: {error}): download it again."
        ) from error
    missing = [name for name in names if name not in variables]
    if missing:
        raise InputFileError(
            f"The design {path} has no variable {', '.join(missing)}: expected {', '.join(names)}; "
            "download it again."
        )
    # loadmat gives unsigned integers, which would wrap around below zero.
    ordering, subject_images, shared = (
        _whole_numbers(path, name, variables[name]) - 1 for name in names
    )
    design = Design(ordering.ravel(), subject_images, shared.ravel())
    _check_design(path, design)
    return design


def _whole_numbers(path: Path, name: str, values: Any) -> NDArray[np.int64]:
    """Return a matrix of whole numbers, as a MAT v5 file holds every array of them."""
    is_matrix = isinstance(values, np.ndarray) and values.dtype.kind in "iuf" and values.ndim == 2
    if not is_matrix or values.size == 0:
        found = f"{getattr(values, 'dtype', type(values).__name__)} {getattr(values, 'shape', '')}"
        raise InputFileError(
            f"The design {path} has in {name} an array of {found}: expected a matrix of whole "
            f"numbers up to {_LARGEST_NUMBER}; download it again."
        )
    # Not by np.abs, which leaves the lowest int64 below zero.
    sound = (
        (values >= -_LARGEST_NUMBER) & (values <= _LARGEST_NUMBER) & (values == np.floor(values))
    )
    if not sound.all():
        raise InputFileError(
            f"The design {path} has in {name} the value {values[~sound][0]:g}: expected a matrix "
            f"of whole numbers up to {_LARGEST_NUMBER}; download it again."
        )
    return values.astype(np.int64)


def _check_design(path: Path, design: Design) -> None:
    n_images = design.nsd_id_of_image.shape[1]
    n_shared = len(design.shared_nsd_ids)
    lowest, highest = design.image_of_trial.min() + 1, design.image_of_trial.max() + 1
    if lowest < 1 or highest > n_images:
        raise InputFileError(
            f"The design {path} has in masterordering image numbers from {lowest} to {highest}: "
            f"expected 1 to {n_images}, the columns of subjectim; download it again."
        )
    if design.nsd_id_of_image.min() < 0 or design.shared_nsd_ids.min() < 0:
        raise InputFileError(
            f"The design {path} holds an image id below 1 in subjectim or sharedix: expected ids "
            "from 1 up; download it again."
        )
    if len(np.unique(design.shared_nsd_ids)) < n_shared:
        raise InputFileError(
            f"The design {path} has the id {_first_double(design.shared_nsd_ids) + 1} twice in "
            f"sharedix: expected {n_shared} different ids; download it again."
        )
    in_order = np.sort(design.nsd_id_of_image, axis=1)
    rows, columns = np.nonzero(in_order[:, 1:] == in_order[:, :-1])
    if len(rows):
        raise InputFileError(
            f"The design {path} has the id {in_order[rows[0], columns[0]] + 1} twice in subjectim, "
            f"for subject {rows[0] + 1}: expected {n_images} different ids; download it again."
        )
    if n_shared > n_images or (design.nsd_id_of_image[:, :n_shared] != design.shared_nsd_ids).any():
        raise InputFileError(
            f"The design {path} contradicts itself: the first {n_shared} columns of subjectim are "
            "expected to equal sharedix for every subject; download it again."
        )


def _first_double(ids: NDArray[np.int64]) -> int:
    found, times = np.unique(ids, return_counts=True)
    return int(found[times > 1][0])


def check_planned_trials(
    path: Path, design: Design, subject: int, n_sessions: int, trials_per_session: int
) -> None:
    """Raise where the design holds too few trials, or no images, for a subject (1-based).

    Raises
    ------
    InputFileError
        masterordering is too short, or subjectim has no row for the subject.
    """
    needed = n_sessions * trials_per_session
    planned = len(design.image_of_trial)
    if planned < needed:
        raise InputFileError(
            f"The design {path} has {planned} trials in masterordering: expected at least {needed} "
            f"for subject {subject} ({n_sessions} sessions of {trials_per_session} trials); "
            "download it again, or correct dataset.json."
        )
    if subject > len(design.nsd_id_of_image):
        raise InputFileError(
            f"The design {path} has {len(design.nsd_id_of_image)} rows in subjectim: expected one "
            f"for subject {subject}; download it again."
        )


def repetition_of_trial(nsd_id_of_trial: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often each trial's image had been seen before.

    Parameters
    ----------
    nsd_id_of_trial : ndarray of int64, shape (n_trials,)
        In the order of the trials, over all sessions of a subject.

    Returns
    -------
    ndarray of int64, shape (n_trials,)
        0 at the first presentation, 1 at the second, and so on.
    """
    trials = pd.Series(nsd_id_of_trial)
    return trials.groupby(trials).cumcount().to_numpy(dtype=np.int64)


def shared_trials(
    design: Design, subject: int, n_sessions: int, trials_per_session: int
) -> pd.DataFrame:
    """Return every trial in which a subject saw a shared image.

    Parameters
    ----------
    design : Design
        The design.
    subject : int
        1-based.
    n_sessions, trials_per_session : int
        What the subject's betas hold.

    Returns
    -------
    DataFrame
        In the order of the trials, all int64: subject (1-based), nsd_id (0-based), repetition
        (0-based), session (1-based), trial_in_session (0-based), global_trial (0-based).
    """
    nsd_id = design.nsd_id_of_trial(subject, n_sessions * trials_per_session)
    global_trial = np.flatnonzero(np.isin(nsd_id, design.shared_nsd_ids)).astype(np.int64)
    return pd.DataFrame(
        {
            "subject": np.full(len(global_trial), subject, dtype=np.int64),
            "nsd_id": nsd_id[global_trial],
            "repetition": repetition_of_trial(nsd_id)[global_trial],
            "session": global_trial // trials_per_session + 1,
            "trial_in_session": global_trial % trials_per_session,
            "global_trial": global_trial,
        },
        columns=list(TRIAL_COLUMNS),
    )


def repetition_counts(trials: pd.DataFrame, shared_nsd_ids: NDArray[np.int64]) -> pd.DataFrame:
    """Count the shared images that each subject saw 3, 2, 1 and 0 times.

    Parameters
    ----------
    trials : DataFrame
        Shared trials of one subject or more.
    shared_nsd_ids : ndarray of int64, shape (n_shared_images,)
        0-based.

    Returns
    -------
    DataFrame of int64, shape (n_subjects, 4)
        Index subject, in the order of `trials`; columns 3, 2, 1, 0.
    """
    counts = {
        subject: np.bincount(
            of_subject.groupby("nsd_id").size().reindex(shared_nsd_ids, fill_value=0),
            minlength=REPETITIONS + 1,
        )[REPETITIONS::-1]
        for subject, of_subject in trials.groupby("subject", sort=False)
    }
    table = pd.DataFrame.from_dict(
        counts, orient="index", columns=list(range(REPETITIONS, -1, -1)), dtype=np.int64
    )
    return table.rename_axis(index="subject", columns="times_seen")


def usable_images(trials: pd.DataFrame, subjects: Sequence[int]) -> NDArray[np.int64]:
    """Return the images that every subject saw exactly three times.

    Parameters
    ----------
    trials : DataFrame
        Shared trials of the chosen subjects.
    subjects : sequence of int
        The chosen subjects (1-based); one without a shared trial leaves no image.

    Returns
    -------
    ndarray of int64, shape (n_images,)
        nsd_id (0-based), ascending.

    Raises
    ------
    ParameterError
        There is no such image.
    """
    times = trials.groupby(["nsd_id", "subject"]).size().unstack(fill_value=0)
    times = times.reindex(columns=list(subjects), fill_value=0)
    nsd_ids = times.index[(times == REPETITIONS).all(axis=1)].to_numpy(np.int64)
    if len(nsd_ids) == 0:
        listed = ", ".join(str(subject) for subject in subjects)
        raise ParameterError(
            f"No shared image was seen three times by all of the subjects {listed}: choose "
            "other subjects, or a copy of the dataset that holds more sessions."
        )
    return np.sort(nsd_ids)


def with_usable(trials: pd.DataFrame, nsd_ids: NDArray[np.int64]) -> pd.DataFrame:
    """Return the trials with a column ``usable``: whether the image is among `nsd_ids`."""
    return trials.assign(usable=trials["nsd_id"].isin(nsd_ids))


def usable_nsd_ids(trials: pd.DataFrame) -> NDArray[np.int64]:
    """Return the usable images of shared trials with the column ``usable``.

    Returns
    -------
    ndarray of int64, shape (n_images,)
        nsd_id (0-based), ascending.
    """
    return np.unique(trials.loc[trials["usable"], "nsd_id"].to_numpy(dtype=np.int64))


def needed_sessions(trials: pd.DataFrame) -> dict[int, tuple[int, ...]]:
    """Return the sessions that hold a usable trial, of shared trials with the column ``usable``.

    Returns
    -------
    dict of int to tuple of int
        Sessions (1-based, ascending) of each subject (1-based), in the order of `trials`.
    """
    usable = trials[trials["usable"]]
    return {
        int(subject): tuple(sorted(int(session) for session in of_subject["session"].unique()))
        for subject, of_subject in usable.groupby("subject", sort=False)
    }
