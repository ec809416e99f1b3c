"""Probes: a few voxels of a region that tell most, of which checks take every repeated image."""

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.checks.decision import FEWEST_IMAGES_OF_SHARE, FEWEST_VOXELS_OF_SHARE
from nsd_prep.checks.trials import SingleTrials, places_of_images
from nsd_prep.dataset.published import REPETITIONS
from nsd_prep.extraction.repetitions import SessionResponses, repetitions_of_images
from nsd_prep.extraction.zscore import zscore_trials

#: Voxels of the highest ncsnr: with all trials of a session they tell every run of it, in 100 kB.
N_PROBES: Final = 64


def choose_probes(ncsnr: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return which voxels have the highest ncsnr, of those that have signal.

    Parameters
    ----------
    ncsnr : ndarray of float, shape (n_voxels,)
        NaN where a voxel has no data.

    Returns
    -------
    ndarray of int64, shape (n_probes,)
        Ascending, 64 at most.
    """
    known = np.nan_to_num(ncsnr)
    order = np.argsort(-known, kind="stable")[:N_PROBES]
    return np.sort(order[known[order] > 0])


def trials_of_probes(
    sessions: Iterable[tuple[int, NDArray[np.int16]]],
    trials: pd.DataFrame,
    ncsnr: NDArray[np.floating],
    trials_per_session: int,
) -> SingleTrials | None:
    """Return the responses of probes to all images that were seen three times in some sessions.

    Parameters
    ----------
    sessions : iterable of (int, ndarray of int16, shape (n_probes, n_trials))
        Number (1-based) and betas as stored of each session, ascending.
    trials : DataFrame
        All trials of these sessions: nsd_id, session, trial_in_session, repetition, as
        `nsd_prep.dataset.trials.planned_trials` gives them.
    ncsnr : ndarray of float, shape (n_probes,)
        Of the probes.
    trials_per_session : int
        750 in NSD.

    Returns
    -------
    SingleTrials or None
        None of too few images or probes.
    """
    times = trials["nsd_id"].value_counts()
    nsd_ids = np.sort(times.index[times == REPETITIONS].to_numpy(np.int64))
    if len(nsd_ids) < FEWEST_IMAGES_OF_SHARE or len(ncsnr) < FEWEST_VOXELS_OF_SHARE:
        return None
    in_session: Mapping[int, pd.DataFrame] = dict(iter(trials.groupby("session")))
    numbers, without_data, responses = [], [], []
    for number, values in sessions:
        rows = in_session[number]
        zscores, constant = zscore_trials(values, rows["trial_in_session"].tolist())
        nsd_id, repetition = (rows[name].to_numpy() for name in ("nsd_id", "repetition"))
        responses.append(SessionResponses(number, zscores.T, nsd_id, repetition))
        numbers.append(number)
        without_data.append(constant)
    session, trial = places_of_images(trials[trials["nsd_id"].isin(nsd_ids)], nsd_ids)
    return SingleTrials(
        responses=repetitions_of_images(responses, nsd_ids, len(ncsnr)),
        ncsnr=np.asarray(ncsnr, dtype=np.float32),
        session=session,
        trial=trial,
        trials_per_session=trials_per_session,
        sessions=np.array(numbers),
        without_data=np.array(without_data),
    )
