"""Splits into training and test: of the usable images, and of a subject's trials."""

from collections.abc import Mapping
from typing import Final, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.errors import ParameterError
from nsd_prep.core.parameters import TrainingSplit
from nsd_prep.dataset.design import Design
from nsd_prep.dataset.published import REPETITIONS

#: The columns, in order.
SPLITS: Final[tuple[TrainingSplit, ...]] = get_args(TrainingSplit)
TRAIN: Final = "train"
TEST: Final = "test"
#: In neither part of a split. A word, since an empty field of a CSV file is read as missing.
UNUSED: Final = "unused"


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
    sessions: Mapping[int, int],
    trials_per_session: int,
    usable_nsd_ids: NDArray[np.int64],
    seed: int = 42,
    train_fraction: float = 0.8,
) -> pd.DataFrame:
    """Return for each trial in which part of each split its image is.

    Parameters
    ----------
    nsd_id : ndarray of int64, shape (n_trials,)
        0-based image of each trial.
    design : Design
        The design.
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
    DataFrame of str, shape (n_trials, 3)
        ``shared1000``: test are the shared images, train all others.
        ``shared515``: test are the images that all subjects of the dataset saw three times, train
        all others.
        ``nsd_prep``: the assemblies' split of the usable images; all others are ``unused``.

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
    return pd.DataFrame(
        {
            "shared1000": _train_but(np.isin(nsd_id, design.shared_nsd_ids)),
            "shared515": _train_but(np.isin(nsd_id, three_times)),
            "nsd_prep": ours,
        },
        dtype=object,
    )


def _train_but(is_test: NDArray[np.bool_]) -> NDArray[np.object_]:
    return np.where(is_test, TEST, TRAIN).astype(object)


def training_trials(trials: pd.DataFrame, split: TrainingSplit) -> NDArray[np.bool_]:
    """Return which trials show a training image of a split, bool (n_trials,)."""
    return (trials[split] == TRAIN).to_numpy(dtype=np.bool_)
