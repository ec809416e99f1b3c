"""Z-scores over the trials of a session."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.dataset.betas import Betas
from nsd_prep.dataset.published import BETA_SCALE

#: Voxels z-scored together: few enough for a core's cache, so many that threads that compute and
#: read seldom wait for each other's turn in the interpreter.
_VOXELS_AT_ONCE: Final = 512
#: As many bytes of vertices, which are z-scored in float64.
_VERTICES_AT_ONCE: Final = 256


def zscore_trials(
    values: NDArray[np.int16], trials: Sequence[int] | NDArray[np.int64] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Z-score each voxel over the trials of a session.

    All in float32 with the population's standard deviation (ddof 0), each voxel's trials summed
    contiguously: bit for bit the z-scores of ``(x - x.mean(0)) / x.std(0)`` on the percent signal
    change of the same voxels in Fortran order.

    Parameters
    ----------
    values : ndarray of int16, shape (n_voxels, n_trials)
        As stored: 300 times the percent signal change.
    trials : sequence of int, optional
        Trials (0-based) whose z-scores are returned, all of them where nothing is said. Mean and
        standard deviation are those of all trials in any case.

    Returns
    -------
    zscores : ndarray of float32, shape (n_voxels, n_returned_trials)
        0 where a voxel is constant.
    constant : ndarray of bool, shape (n_voxels,)
        Voxels without data in this session: all trials have one value, 0 in NSD.
    """
    returned = slice(None) if trials is None else np.asarray(trials, dtype=np.int64)
    n_returned = values.shape[1] if trials is None else len(trials)
    zscores = np.empty((len(values), n_returned), dtype=np.float32)
    constant = without_data(values)
    for start in range(0, len(values), _VOXELS_AT_ONCE):
        rows = slice(start, start + _VOXELS_AT_ONCE)
        block = np.divide(values[rows], np.float32(BETA_SCALE), dtype=np.float32)
        block -= block.mean(axis=1, keepdims=True)
        deviation = np.sqrt(np.square(block).mean(axis=1, keepdims=True))
        deviation[deviation == 0] = 1
        np.divide(block[:, returned], deviation, out=zscores[rows])
    zscores[constant] = 0
    return zscores, constant


def zscore_vertices(
    values: Betas, trials: Sequence[int] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Z-score each vertex over the trials of a session, as the published surface data are.

    In float64, with the population's standard deviation (ddof 0), and rounded to float32 at the
    end.

    Parameters
    ----------
    values : ndarray, shape (n_vertices, n_trials)
        As stored: int16, 300 times the percent signal change, 0 in all trials of a vertex without
        data; or float32, percent signal change, NaN in all of them.
    trials : sequence of int, optional
        As in `zscore_trials`.

    Returns
    -------
    zscores : ndarray of float32, shape (n_vertices, n_returned_trials)
        NaN where a vertex has no data, 0 where it has one value other than that.
    constant : ndarray of bool, shape (n_vertices,)
        Vertices without data in this session, or with one value.
    """
    returned = slice(None) if trials is None else np.asarray(trials, dtype=np.int64)
    n_returned = values.shape[1] if trials is None else len(trials)
    zscores = np.empty((len(values), n_returned), dtype=np.float32)
    constant = without_data(values)
    for start in range(0, len(values), _VERTICES_AT_ONCE):
        rows = slice(start, start + _VERTICES_AT_ONCE)
        block = values[rows].astype(np.float64)
        if values.dtype == np.int16:
            block /= BETA_SCALE
        block -= block.mean(axis=1, keepdims=True)
        deviation = np.sqrt(np.square(block).mean(axis=1, keepdims=True))
        deviation[deviation == 0] = 1
        np.divide(block[:, returned], deviation, out=zscores[rows], casting="same_kind")
    first = values[:, 0]
    has_data = first != 0 if values.dtype == np.int16 else np.isfinite(first)
    zscores[constant] = 0
    zscores[constant & ~has_data] = np.nan
    return zscores, constant


def without_data(values: Betas) -> NDArray[np.bool_]:
    """Return which voxels or vertices have one value in all trials, or none, bool (n_sites,)."""
    lowest, highest = values.min(axis=1), values.max(axis=1)
    return ~(lowest < highest)
