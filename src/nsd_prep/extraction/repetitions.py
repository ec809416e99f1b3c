"""Responses of a subject: sessions put together into images and repetitions."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.counts import counted
from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.published import REPETITIONS


class SessionResponses(NamedTuple):
    """What one session contributes.

    Attributes
    ----------
    session : int
        1-based.
    responses : ndarray of float32, shape (n_trials, n_voxels)
        z-scores.
    nsd_id : ndarray of int64, shape (n_trials,)
        0-based image of each trial.
    repetition : ndarray of int64, shape (n_trials,)
        0-based repetition of each trial.
    """

    session: int
    responses: NDArray[np.float32]
    nsd_id: NDArray[np.int64]
    repetition: NDArray[np.int64]


def repetitions_of_images(
    sessions: Iterable[SessionResponses], nsd_ids: NDArray[np.int64], n_voxels: int
) -> NDArray[np.float32]:
    """Sort the trials of a subject's sessions into images and repetitions.

    Parameters
    ----------
    sessions : iterable of SessionResponses
        In any order. Trials of other images are passed over.
    nsd_ids : ndarray of int64, shape (n_images,)
        The images (0-based), ascending.
    n_voxels : int
        Voxels of the region.

    Returns
    -------
    ndarray of float32, shape (n_images, 3, n_voxels)
        Single-trial z-scores.

    Raises
    ------
    InputFileError
        An image's repetition is there twice, or not at all.
    """
    filled_by = np.zeros((len(nsd_ids), REPETITIONS), dtype=np.int64)
    responses = np.empty((len(nsd_ids), REPETITIONS, n_voxels), dtype=np.float32)
    for part in sessions:
        first, end = (np.searchsorted(nsd_ids, part.nsd_id, side) for side in ("left", "right"))
        usable = np.flatnonzero(end > first)
        places = first[usable], part.repetition[usable]
        np.add.at(filled_by, places, 1)
        is_whole = len(usable) == len(part.nsd_id)
        responses[places] = part.responses if is_whole else part.responses[usable]
    wrong = np.argwhere(filled_by != 1)
    if len(wrong):
        image_index, repetition = wrong[0]
        raise InputFileError(
            f"The repetition {repetition} (0-based) of nsd_id {nsd_ids[image_index]} was filled "
            f"{counted(filled_by[image_index, repetition], 'time')}, and {len(wrong)} of "
            f"{filled_by.size} repetitions were not filled once: expected each exactly once; check "
            "that the design belongs to these sessions."
        )
    return responses


def averaged(responses: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the repetitions of each image, in float32; those without data, NaN, are left out.

    Parameters
    ----------
    responses : ndarray of float32, shape (n_images, 3, n_voxels)
        Single-trial z-scores.

    Returns
    -------
    ndarray of float32, shape (n_images, n_voxels)
        NaN where no repetition has data.
    """
    mean = responses.mean(axis=1)
    gaps = np.isnan(mean).any(axis=0)
    if gaps.any():
        # As np.nanmean, which warns where there are no data: filters of warnings are not a thread's
        # own, and this is called in several.
        values = responses[:, :, gaps]
        has_data = ~np.isnan(values)
        total = np.where(has_data, values, 0).sum(axis=1, dtype=np.float32)
        with np.errstate(invalid="ignore"):
            mean[:, gaps] = total / has_data.sum(axis=1)
    return mean
