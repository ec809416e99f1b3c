"""Probes: a few voxels of a region that tell most, of which checks take every repeated image."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

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


class PresentedTrials(NamedTuple):
    """Trials of a session.

    Attributes
    ----------
    trial : ndarray of int64, shape (n_trials,)
        0-based, in the session.
    nsd_id : ndarray of int64, shape (n_trials,)
        0-based image of each.
    repetition : ndarray of int64, shape (n_trials,)
        0-based repetition of each.
    """

    trial: NDArray[np.int64]
    nsd_id: NDArray[np.int64]
    repetition: NDArray[np.int64]


@dataclass(frozen=True)
class RepeatedTrials:
    """Where a subject's images that were seen three times in some sessions were seen.

    Attributes
    ----------
    nsd_ids : ndarray of int64, shape (n_images,)
        0-based, ascending.
    session, trial : ndarray of int64, shape (n_images, 3)
        As `nsd_prep.checks.trials.places_of_images` gives them.
    in_session : mapping of int to PresentedTrials
        All trials of each session (1-based).
    """

    nsd_ids: NDArray[np.int64]
    session: NDArray[np.int64]
    trial: NDArray[np.int64]
    in_session: Mapping[int, PresentedTrials]


def repeated_trials(trials: pd.DataFrame) -> RepeatedTrials | None:
    """Return where images were seen that were seen three times; None of too few images.

    Parameters
    ----------
    trials : DataFrame
        All trials of a subject's sessions: nsd_id, session, trial_in_session, repetition, as
        `nsd_prep.dataset.trials.planned_trials` gives them.
    """
    ids, times = np.unique(trials["nsd_id"].to_numpy(np.int64), return_counts=True)
    nsd_ids = ids[times == REPETITIONS]
    if len(nsd_ids) < FEWEST_IMAGES_OF_SHARE:
        return None
    session, trial = places_of_images(trials[trials["nsd_id"].isin(nsd_ids)], nsd_ids)
    columns = ["trial_in_session", "nsd_id", "repetition"]
    in_session = {
        number: PresentedTrials(*(rows[name].to_numpy(np.int64) for name in columns))
        for number, rows in trials.groupby("session")
    }
    return RepeatedTrials(nsd_ids, session, trial, in_session)


def trials_of_probes(
    sessions: Iterable[tuple[int, NDArray[np.int16]]],
    repeated: RepeatedTrials,
    ncsnr: NDArray[np.floating],
    trials_per_session: int,
) -> SingleTrials | None:
    """Return the responses of probes to all images that were seen three times in some sessions.

    Parameters
    ----------
    sessions : iterable of (int, ndarray of int16, shape (n_probes, n_trials))
        Number (1-based) and betas as stored of each session, ascending.
    repeated : RepeatedTrials
        Of these sessions.
    ncsnr : ndarray of float, shape (n_probes,)
        Of the probes.
    trials_per_session : int
        750 in NSD.

    Returns
    -------
    SingleTrials or None
        None of too few probes.
    """
    if len(ncsnr) < FEWEST_VOXELS_OF_SHARE:
        return None
    numbers, without_data, responses = [], [], []
    for number, values in sessions:
        presented = repeated.in_session[number]
        zscores, constant = zscore_trials(values, presented.trial)
        responses.append(
            SessionResponses(number, zscores.T, presented.nsd_id, presented.repetition)
        )
        numbers.append(number)
        without_data.append(constant)
    return SingleTrials(
        responses=repetitions_of_images(responses, repeated.nsd_ids, len(ncsnr)),
        ncsnr=np.asarray(ncsnr, dtype=np.float32),
        session=repeated.session,
        trial=repeated.trial,
        trials_per_session=trials_per_session,
        sessions=np.array(numbers),
        without_data=np.array(without_data),
    )
