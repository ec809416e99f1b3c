"""Normalisation of a session's single trials."""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.errors import InputFileError, ParameterError
from nsd_prep.core.parameters import Normalise
from nsd_prep.dataset.betas import Betas
from nsd_prep.dataset.published import BETA_SCALE
from nsd_prep.extraction.zscore import zscore_trials, zscore_vertices

#: What one step of an int16 is worth. z-scores: 0.001, so that the largest that a session of 750
#: trials can have, sqrt(749) = 27.4, fits; percent signal change: the betas' own step.
INT16_STEP: Final[Mapping[Normalise, float]] = MappingProxyType(
    {"session": 0.001, "train-only": 0.001, "none": 1 / BETA_SCALE}
)
UNITS: Final[Mapping[Normalise, str]] = MappingProxyType(
    {
        "session": "standard deviations of the session's trials",
        "train-only": "standard deviations of the session's training trials",
        "none": "percent signal change",
    }
)
#: Voxels normalised together: few enough for a core's cache.
_VOXELS_AT_ONCE: Final = 1024


def normalised(
    values: Betas,
    normalisation: Normalise,
    is_training: NDArray[np.bool_] | None = None,
    *,
    is_surface: bool = False,
) -> NDArray[np.float32]:
    """Normalise each voxel's trials of one session.

    All in float32, each voxel's trials summed contiguously, with the population's standard
    deviation (ddof 0); ``session`` is `nsd_prep.extraction.zscore.zscore_trials`, bit for bit, and
    on surfaces `nsd_prep.extraction.zscore.zscore_vertices`.

    Parameters
    ----------
    values : ndarray, shape (n_voxels, n_trials)
        As stored: int16, 300 times the percent signal change; or float32, percent signal change,
        NaN where there are no data.
    normalisation : {"session", "none", "train-only"}
        z-scores over all trials of the session; percent signal change; or z-scores with mean and
        standard deviation from the training trials alone.
    is_training : ndarray of bool, shape (n_trials,), optional
        For ``train-only``.
    is_surface : bool
        Whether they are of vertices.

    Returns
    -------
    ndarray of float32, shape (n_voxels, n_trials)
        z-scores are 0 where a voxel is constant over the trials that its mean comes from, and
        where it has no data.

    Raises
    ------
    ParameterError
        There is no training trial.
    """
    if normalisation == "session" and is_surface:
        return np.nan_to_num(zscore_vertices(values)[0], copy=False, nan=0.0)
    if normalisation == "session":
        return zscore_trials(values)[0]
    if values.dtype != np.int16:
        values = np.nan_to_num(values, nan=0.0)
    scale = np.float32(BETA_SCALE if values.dtype == np.int16 else 1)
    if normalisation == "none":
        return np.divide(values, scale, dtype=np.float32)
    if is_training is None or not is_training.any():
        raise ParameterError(
            "A session has no trial of a training image, from which train-only normalisation "
            "takes mean and standard deviation: choose another split= or normalise=."
        )
    return _zscored_by_training(values, scale, is_training)


def _zscored_by_training(
    values: Betas, scale: np.float32, is_training: NDArray[np.bool_]
) -> NDArray[np.float32]:
    zscores = np.empty(values.shape, dtype=np.float32)
    for start in range(0, len(values), _VOXELS_AT_ONCE):
        block = zscores[start : start + _VOXELS_AT_ONCE]
        np.divide(
            values[start : start + _VOXELS_AT_ONCE],
            scale,
            out=block,
            dtype=np.float32,
        )
        training = np.ascontiguousarray(block[:, is_training])
        constant = (training == training[:, :1]).all(axis=1)
        mean = training.mean(axis=1, keepdims=True)
        training -= mean
        deviation = np.sqrt(np.square(training).mean(axis=1, keepdims=True))
        deviation[constant] = 1
        block -= mean
        block /= deviation
        block[constant] = 0
    return zscores


def normalised_sessions(
    sessions: Iterable[tuple[int, Betas]],
    trials: pd.DataFrame,
    normalisation: Normalise,
    *,
    keep: NDArray[np.bool_] | None = None,
    is_training: NDArray[np.bool_] | None = None,
    is_surface: bool = False,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Normalise sessions one after the other, over all their trials, and keep some trials.

    Parameters
    ----------
    sessions : iterable of (int, ndarray, shape (n_voxels, n_trials))
        Each session (1-based) with the values of all its trials, as stored.
    trials : DataFrame
        All of the subject's trials, as `nsd_prep.dataset.trials.trial_table` gives them.
    normalisation : {"session", "none", "train-only"}
        As in `normalised`.
    keep, is_training : ndarray of bool, shape (n_all_trials,), optional
        Which trials to give, all where it is not said; which are of training images.
    is_surface : bool
        As in `normalised`.

    Yields
    ------
    (int, ndarray of float32, shape (n_kept_trials, n_voxels))
        In the order of `sessions`, trials in the order of the session. A session without a kept
        trial is passed over.

    Raises
    ------
    InputFileError
        A session has not as many trials as `trials` says.
    ParameterError
        As in `normalised`.
    """
    session_of_trial = trials["session"].to_numpy()
    for session, values in sessions:
        rows = np.flatnonzero(session_of_trial == session)
        if values.shape[1] != len(rows):
            raise InputFileError(
                f"Session {session} has {values.shape[1]} trials: expected {len(rows)}, as the "
                "design has; check that the design belongs to these sessions."
            )
        selected = None if keep is None else keep[rows]
        if selected is not None and not selected.any():
            continue
        training = None if is_training is None else is_training[rows]
        responses = normalised(values, normalisation, training, is_surface=is_surface)
        if selected is not None and not selected.all():
            responses = responses[:, selected]
        rows_of_session = np.ascontiguousarray(responses.T)
        # Of a large region each of these is some 100 MB: they go before the next session comes.
        del values, responses
        yield session, rows_of_session
        del rows_of_session
