"""Splits into training and test: of the usable images, and of a subject's trials."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.counts import first_and_others
from nsd_prep.core.digests import read_whole
from nsd_prep.core.errors import ParameterError
from nsd_prep.core.parameters import TrainingSplit
from nsd_prep.dataset.design import Design
from nsd_prep.dataset.published import (
    IMAGES_OF_A_SUBJECT,
    PLANNED_TRIALS,
    REPETITIONS,
    SESSION_COUNTS,
    TRIALS_PER_SESSION,
)

#: The columns, in order.
SPLITS: Final[tuple[TrainingSplit, ...]] = get_args(TrainingSplit)
TRAIN: Final = "train"
TEST: Final = "test"
#: The column of a split that a user gives.
OWN_SPLIT: Final = "split_file"
#: In neither part of a split. A word, since an empty field of a CSV file is read as missing.
UNUSED: Final = "unused"
#: Sessions of each subject that were withheld until the Algonauts 2023 challenge had ended: its
#: test images come from them, and earlier papers could not use them.
LAST_SESSIONS: Final = 3


def train_images(n_images: int, seed: int = 42, train_fraction: float = 0.8) -> NDArray[np.bool_]:
    """Choose the train images.

    The indices 0..n-1 are shuffled by NumPy's ``RandomState(seed)``; the first
    ``int(train_fraction * n)`` are train. This is the split of the published Allen2022 benchmark.

    Parameters
    ----------
    n_images : int
        How many images there are.
    seed : int
        0 to 2**32 - 1.
    train_fraction : float
        Above 0 and below 1.

    Returns
    -------
    ndarray of bool, shape (n_images,)
        True for train, False for test, in the order of the images.

    Raises
    ------
    ParameterError
        Train or test would be empty.
    """
    n_train = int(train_fraction * n_images)
    if not 0 < n_train < n_images:
        raise ParameterError(
            f"The split leaves {n_train} of {n_images} images for train: expected at least one for "
            "train and one for test; choose another train_fraction=, or subjects that share more "
            "images."
        )
    # RandomState, not Generator: the published split was made with it.
    order = np.arange(n_images)
    np.random.RandomState(seed).shuffle(order)
    is_train = np.zeros(n_images, dtype=np.bool_)
    is_train[order[:n_train]] = True
    return is_train


def images_seen_three_times(
    design: Design, sessions: Mapping[int, int], trials_per_session: int
) -> NDArray[np.int64]:
    """Return the shared images that every subject of a dataset saw exactly three times.

    Parameters
    ----------
    design : Design
        The design.
    sessions : mapping of int to int
        Number of sessions of every subject (1-based) of the dataset, chosen for a run or not.
    trials_per_session : int
        750 in NSD.

    Returns
    -------
    ndarray of int64, shape (n_images,)
        nsd_id (0-based), ascending: 515 in NSD; none where subjects share none.
    """
    seen = np.ones(len(design.shared_nsd_ids), dtype=np.bool_)
    for subject, n_sessions in sessions.items():
        nsd_id = design.nsd_id_of_trial(subject, n_sessions * trials_per_session)
        times = np.isin(nsd_id, design.shared_nsd_ids)
        counts = pd.Series(nsd_id[times]).value_counts()
        seen &= counts.reindex(design.shared_nsd_ids, fill_value=0).to_numpy() == REPETITIONS
    return np.sort(design.shared_nsd_ids[seen])


def split_columns(
    nsd_id: NDArray[np.int64],
    design: Design,
    subject: int,
    sessions: Mapping[int, int],
    trials_per_session: int,
    usable_nsd_ids: NDArray[np.int64],
    seed: int = 42,
    train_fraction: float = 0.8,
) -> pd.DataFrame:
    """Return for each trial in which part of each split it is.

    Parameters
    ----------
    nsd_id : ndarray of int64, shape (n_trials,)
        0-based image of each trial of the subject's sessions.
    design : Design
        The design.
    subject : int
        1-based.
    sessions : mapping of int to int
        Number of sessions of every subject (1-based) of the dataset.
    trials_per_session : int
        750 in NSD.
    usable_nsd_ids : ndarray of int64, shape (n_images,)
        The images of the assemblies (0-based, ascending).
    seed, train_fraction : int, float
        As `nsd_prep.dataset.splits.train_images` takes them.

    Returns
    -------
    DataFrame of str, shape (n_trials, n_splits)
        ``shared1000``: test are the shared images, train all others.
        ``shared1000_37``: the same in all sessions but the last three, whose trials are unused.
        ``algonauts2023``: train are the trials before the last three sessions, test those of
        images that are first shown in them; of the shared images among these, none, or where the
        subject took part in all planned sessions those of which all presentations lie in them.
        ``shared515``: test are the images that all subjects of the dataset saw three times, train
        all others.
        ``nsd_prep``: the assemblies' split of the usable images; all others are ``unused``.
        Left out are splits that need sessions that are not there (`training_trials` says so).

    Raises
    ------
    ParameterError
        Train or test of ``nsd_prep`` would be empty.
    """
    three_times = images_seen_three_times(design, sessions, trials_per_session)
    is_train = train_images(len(usable_nsd_ids), seed, train_fraction)
    ours = np.full(len(nsd_id), UNUSED, dtype=object)
    ours[np.isin(nsd_id, usable_nsd_ids[is_train])] = TRAIN
    ours[np.isin(nsd_id, usable_nsd_ids[~is_train])] = TEST
    is_shared = np.isin(nsd_id, design.shared_nsd_ids)
    columns = {
        "shared1000": _train_but(is_shared),
        "shared515": _train_but(np.isin(nsd_id, three_times)),
        "nsd_prep": ours,
    } | _splits_by_session(
        nsd_id,
        is_shared,
        n_sessions=_sessions_of_subject(design, subject, sessions, trials_per_session),
        n_planned=len(design.image_of_trial) // trials_per_session,
        trials_per_session=trials_per_session,
    )
    return pd.DataFrame({name: columns[name] for name in SPLITS if name in columns}, dtype=object)


def _sessions_of_subject(
    design: Design, subject: int, sessions: Mapping[int, int], trials_per_session: int
) -> int:
    """Return how many sessions a subject took part in, whether a copy holds all of them or not."""
    sizes = (len(design.image_of_trial), trials_per_session, design.nsd_id_of_image.shape[1])
    if sizes == (PLANNED_TRIALS, TRIALS_PER_SESSION, IMAGES_OF_A_SUBJECT):
        return max(sessions[subject], SESSION_COUNTS[subject])
    return sessions[subject]


def _splits_by_session(
    nsd_id: NDArray[np.int64],
    is_shared: NDArray[np.bool_],
    *,
    n_sessions: int,
    n_planned: int,
    trials_per_session: int,
) -> dict[str, NDArray[np.object_]]:
    """Return the splits that take a subject's last three sessions apart, as far as they are there.

    Parameters
    ----------
    nsd_id, is_shared : ndarray, shape (n_trials,)
        Of the trials that the dataset holds.
    n_sessions, n_planned : int
        Sessions that the subject took part in, and that the design plans.
    trials_per_session : int
        750 in NSD.
    """
    n_before = (n_sessions - LAST_SESSIONS) * trials_per_session
    if n_before <= 0:
        return {}
    is_before = np.arange(len(nsd_id)) < n_before
    without_last = _train_but(is_shared)
    without_last[~is_before] = UNUSED
    if len(nsd_id) < n_sessions * trials_per_session:  # test images come in the last sessions
        return {"shared1000_37": without_last}
    # Shared images are test images alone where every subject's three presentations are complete.
    may_test = np.ones_like(is_shared) if n_sessions == n_planned else ~is_shared
    is_test = ~np.isin(nsd_id, nsd_id[is_before]) & may_test
    algonauts = np.full(len(nsd_id), UNUSED, dtype=object)
    algonauts[is_before] = TRAIN
    algonauts[is_test] = TEST
    return {"shared1000_37": without_last, "algonauts2023": algonauts}


def _train_but(is_test: NDArray[np.bool_]) -> NDArray[np.object_]:
    return np.where(is_test, TEST, TRAIN).astype(object)


def training_trials(trials: pd.DataFrame, split: str) -> NDArray[np.bool_]:
    """Return which trials are training trials of a split, bool (n_trials,).

    Raises
    ------
    ParameterError
        The trials have no such split.
    """
    return part_of_split(trials, split, TRAIN)


def part_of_split(trials: pd.DataFrame, split: str, part: str) -> NDArray[np.bool_]:
    """Return which trials, or images, are in a part of a split, bool (n_rows,).

    Raises
    ------
    ParameterError
        The table has no such split.
    """
    if split in trials:
        return (trials[split] == part).to_numpy(dtype=np.bool_)
    there = [name for name in (*SPLITS, OWN_SPLIT) if name in trials]
    why = (
        f"it sets apart the subject's last {LAST_SESSIONS} sessions, and the dataset lacks these "
        "or any session before them"
        if split in SPLITS
        else "there is no such split"
    )
    raise ParameterError(
        f"The split {split} cannot be made: {why}; choose another split=, of {', '.join(there)}."
    )


def read_split_file(
    path: Path, nsd_ids: NDArray[np.int64], read: Callable[[Path], bytes] = read_whole
) -> pd.Series:
    """Read a user's own split.

    Parameters
    ----------
    path : Path
        A CSV file with the columns nsd_id (0-based) and split: train, test or unused.
    nsd_ids : ndarray of int64, shape (n_images,)
        The images that there are.
    read : callable
        Returns the content of the file.

    Returns
    -------
    Series of str
        The part of each listed image, by nsd_id.

    Raises
    ------
    OSError
        There is no such file, or the disk fails.
    ParameterError
        The file is not such a table, or lists an image twice, or one that there is not.
    """
    content = read(path)
    try:
        table = pd.read_csv(
            io.BytesIO(content), usecols=["nsd_id", "split"], dtype={"nsd_id": np.int64}
        )
    except (ValueError, UnicodeDecodeError) as error:
        raise ParameterError(
            f"The split file {path} cannot be read ({error}): expected a CSV file with whole "
            "numbers in a column nsd_id, and a column split; correct it."
        ) from error
    known = (TRAIN, TEST, UNUSED)
    wrong = table.loc[~table["split"].isin(known)]
    if len(wrong):
        raise ParameterError(
            f"The split file {path} puts nsd_id {wrong['nsd_id'].iloc[0]} into "
            f"{str(wrong['split'].iloc[0])!r}: expected one of {', '.join(known)}; correct it."
        )
    strangers = np.setdiff1d(table["nsd_id"].to_numpy(), nsd_ids)
    if len(strangers):
        raise ParameterError(
            f"The split file {path} lists nsd_id "
            f"{first_and_others(strangers[0], len(strangers), 'image')} that no subject of the "
            "design sees: expected 0-based ids, the 73k ids minus 1; correct it."
        )
    twice = table.loc[table["nsd_id"].duplicated(), "nsd_id"]
    if len(twice):
        raise ParameterError(
            f"The split file {path} lists nsd_id {twice.iloc[0]} more than once: expected each "
            "image once; correct it."
        )
    return table.set_index("nsd_id")["split"].astype(object)
