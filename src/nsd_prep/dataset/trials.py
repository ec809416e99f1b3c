"""Tables of trials: those of the shared images, and all of a subject."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.counts import first_and_others
from nsd_prep.core.digests import read_whole
from nsd_prep.core.errors import InputFileError, ParameterError
from nsd_prep.core.parameters import SingleTrialImages
from nsd_prep.dataset.design import Design
from nsd_prep.dataset.published import REPETITIONS, TRIALS_PER_SESSION, run_lengths
from nsd_prep.dataset.splits import OWN_SPLIT, SPLITS, split_columns

#: Names of the index: what a row is.
TRIAL: Final = "trial"
IMAGE: Final = "image"
#: Columns of a table of trials that a table of images keeps.
_OF_AN_IMAGE: Final = ("nsd_id", "coco_id", "is_shared", *SPLITS, OWN_SPLIT)
#: The columns of a trial table, in order.
TRIAL_COLUMNS: Final = (
    "subject",
    "nsd_id",
    "repetition",
    "session",
    "trial_in_session",
    "global_trial",
)


def read_coco_ids(path: Path, read: Callable[[Path], bytes] = read_whole) -> pd.Series:
    """Read which COCO image (cocoId) each NSD image (nsdId, 0-based) is a part of."""
    content = read(path)
    try:
        table = pd.read_csv(io.BytesIO(content), usecols=["nsdId", "cocoId"], dtype=np.int64)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputFileError(
            f"The stimulus table {path} does not give COCO ids ({error}): expected whole numbers "
            "in the columns nsdId and cocoId; download it again."
        ) from error
    return table.set_index("nsdId")["cocoId"]


def run_of_trial(trial_in_session: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the run (1 to 12) of trials of a session (0 to 749) of NSD, int64 (n_trials,)."""
    ends = np.cumsum(run_lengths(TRIALS_PER_SESSION))
    return np.searchsorted(ends, trial_in_session, side="right").astype(np.int64) + 1


def trial_table(
    design: Design,
    subject: int,
    sessions: Mapping[int, int],
    trials_per_session: int,
    usable_nsd_ids: NDArray[np.int64],
    *,
    seed: int = 42,
    train_fraction: float = 0.8,
    coco_ids: pd.Series | None = None,
) -> pd.DataFrame:
    """Return a row for each trial of a subject's sessions.

    Parameters
    ----------
    design : Design
        The design.
    subject : int
        1-based.
    sessions : mapping of int to int
        Number of sessions of every subject (1-based) of the dataset.
    trials_per_session : int
        750 in NSD.
    usable_nsd_ids : ndarray of int64, shape (n_images,)
        The images of the assemblies (0-based, ascending), for the split ``nsd_prep``.
    seed, train_fraction : int, float
        Of that split.
    coco_ids : Series of int64, optional
        As `read_coco_ids` gives them.

    Returns
    -------
    DataFrame
        Index ``trial`` (0-based over all the subject's sessions). Columns: nsd_id (0-based),
        coco_id (with `coco_ids`), session (1-based), run (1-based, where sessions have NSD's 750
        trials), trial_in_session (0-based), repetition (0-based), is_shared, and the splits.

    Raises
    ------
    InputFileError
        `coco_ids` lacks an image.
    """
    trials = planned_trials(design, subject, sessions[subject], trials_per_session)
    if coco_ids is not None:
        trials.insert(1, "coco_id", _coco_ids_of(trials["nsd_id"].to_numpy(), coco_ids))
    if trials_per_session == TRIALS_PER_SESSION:
        run = run_of_trial(trials["trial_in_session"].to_numpy())
        trials.insert(trials.columns.get_loc("trial_in_session"), "run", run)
    splits = split_columns(
        trials["nsd_id"].to_numpy(),
        design,
        subject,
        sessions,
        trials_per_session,
        usable_nsd_ids,
        seed,
        train_fraction,
    )
    return trials.join(splits)


def planned_trials(
    design: Design, subject: int, n_sessions: int, trials_per_session: int
) -> pd.DataFrame:
    """Return what the design says of a subject's trials: the index and some of `trial_table`.

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
        Index ``trial`` (0-based); nsd_id (0-based), session (1-based), trial_in_session (0-based),
        repetition (0-based) and is_shared.
    """
    nsd_id = design.nsd_id_of_trial(subject, n_sessions * trials_per_session)
    trial = np.arange(len(nsd_id), dtype=np.int64)
    return pd.DataFrame(
        {
            "nsd_id": nsd_id,
            "session": trial // trials_per_session + 1,
            "trial_in_session": trial % trials_per_session,
            "repetition": repetition_of_trial(nsd_id),
            "is_shared": np.isin(nsd_id, design.shared_nsd_ids),
        },
        index=pd.RangeIndex(len(trial), name=TRIAL),
    )


def _coco_ids_of(nsd_id: NDArray[np.int64], coco_ids: pd.Series) -> NDArray[np.int64]:
    missing = np.setdiff1d(nsd_id, coco_ids.index.to_numpy())
    if len(missing):
        raise InputFileError(
            "The stimulus table has no row for nsd_id "
            f"{first_and_others(missing[0], len(missing), 'image')} of the design: expected one "
            "for each; download it again."
        )
    return coco_ids.loc[nsd_id].to_numpy(dtype=np.int64)


def shows_images(trials: pd.DataFrame, images: SingleTrialImages) -> NDArray[np.bool_]:
    """Return which trials show shared images, the subject's own, or any, bool (n_trials,).

    Raises
    ------
    ParameterError
        There is no such trial.
    """
    is_shared = trials["is_shared"].to_numpy(dtype=np.bool_)
    choices = {"all": np.ones_like(is_shared), "shared": is_shared, "unique": ~is_shared}
    if not choices[images].any():
        raise ParameterError(
            f"The subject has no trial with {images} images: choose another images=."
        )
    return choices[images]


def image_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each image that some trials show.

    Parameters
    ----------
    trials : DataFrame
        All or some rows of `trial_table`; every trial of an image, or none.

    Returns
    -------
    DataFrame
        Index ``image`` (0-based). Columns: nsd_id (0-based, ascending), coco_id where the trials
        have it, n_repetitions, is_shared, and the splits: an image is in the part of its first
        trial.
    """
    columns = [column for column in _OF_AN_IMAGE if column in trials]
    images = trials[columns].drop_duplicates("nsd_id").sort_values("nsd_id", ignore_index=True)
    times = trials["nsd_id"].value_counts()
    images.insert(
        images.columns.get_loc("is_shared"),
        "n_repetitions",
        times.loc[images["nsd_id"]].to_numpy(np.int64),
    )
    return images.rename_axis(index=IMAGE)


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
    trials = planned_trials(design, subject, n_sessions, trials_per_session)
    shared = trials[trials["is_shared"]].rename_axis(index="global_trial").reset_index()
    return shared.assign(subject=np.int64(subject))[list(TRIAL_COLUMNS)]


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
    """Return each subject's sessions (1-based) that hold a usable trial of `shared_trials`."""
    usable = trials[trials["usable"]]
    return {
        int(subject): tuple(sorted(int(session) for session in of_subject["session"].unique()))
        for subject, of_subject in usable.groupby("subject", sort=False)
    }
