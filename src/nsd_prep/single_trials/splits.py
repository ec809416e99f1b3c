"""Splits of a subject's images into train and test, from the design alone."""

from collections.abc import Mapping
from typing import Final, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.parameters import TrainingSplit
from nsd_prep.published import REPETITIONS
from nsd_prep.split import train_images
from nsd_prep.trials import Design

#: The columns, in order.
SPLITS: Final[tuple[TrainingSplit, ...]] = get_args(TrainingSplit)

TRAIN: Final = "train"
TEST: Final = "test"
#: In neither part of a split. A word, since an empty field of a CSV file is read as missing.
UNUSED: Final = "unused"


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
        As `nsd_prep.split.train_images` takes them.

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
