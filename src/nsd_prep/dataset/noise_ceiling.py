"""Noise ceilings: how much of a voxel's variance a perfect model could explain."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsd_prep.core.errors import ParameterError


def noise_ceiling(ncsnr: ArrayLike, n_averaged: int = 3) -> NDArray[np.float64]:
    """Return the noise ceiling of responses that are averaged over repetitions.

    100 s^2 / (s^2 + 1/k), with s the ncsnr and k the repetitions averaged (Allen et al. 2022,
    Methods, "Noise ceiling").

    Parameters
    ----------
    ncsnr : array_like of float, shape (n_voxels,)
        Noise ceiling SNR; NaN where a voxel has no data.
    n_averaged : int
        Repetitions that are averaged, at least 1.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        Percent of explainable variance, 0 to 100; 0 where ncsnr is NaN.

    Raises
    ------
    ParameterError
        Less than one repetition is averaged.
    """
    if not n_averaged >= 1:
        raise ParameterError(
            f"The number of repetitions averaged must be 1 or more, found {n_averaged}: NSD has 3."
        )
    return _percent(ncsnr, noise_variance=1 / n_averaged)


def noise_ceiling_of_unequal_repetitions(
    ncsnr: ArrayLike, n_images_three: int, n_images_two: int, n_images_one: int
) -> NDArray[np.float64]:
    """Return the noise ceiling where images differ in how many repetitions are averaged.

    As `noise_ceiling`, with 1/k replaced by (A/3 + B/2 + C) / (A + B + C) for A, B, C images that
    have 3, 2, 1 repetitions (NSD data manual, "ncsnr").

    Parameters
    ----------
    ncsnr : array_like of float, shape (n_voxels,)
        Noise ceiling SNR; NaN where a voxel has no data.
    n_images_three, n_images_two, n_images_one : int
        Numbers of images; at least one image in all.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        Percent of explainable variance, 0 to 100; 0 where ncsnr is NaN.
    """
    n_images = n_images_three + n_images_two + n_images_one
    return _percent(ncsnr, (n_images_three / 3 + n_images_two / 2 + n_images_one) / n_images)


def _percent(ncsnr: ArrayLike, noise_variance: float) -> NDArray[np.float64]:
    signal_variance = np.nan_to_num(np.asarray(ncsnr, dtype=np.float64), nan=0.0) ** 2
    return 100 * signal_variance / (signal_variance + noise_variance)


def predicted_response_deviation(ncsnr: ArrayLike, n_averaged: int = 3) -> float:
    """Return the standard deviation that averaged z-scored responses should have.

    A z-scored trial has variance 1, of which s^2 / (1 + s^2) is signal, with s the ncsnr; the mean
    of k trials has variance (s^2 + 1/k) / (1 + s^2).

    Parameters
    ----------
    ncsnr : array_like of float, shape (n_voxels,)
        Noise ceiling SNR; voxels where it is NaN are passed over.
    n_averaged : int
        Repetitions that are averaged.

    Returns
    -------
    float
        Over all voxels together; NaN where no voxel has an ncsnr.
    """
    signal_variance = np.asarray(ncsnr, dtype=np.float64) ** 2
    signal_variance = signal_variance[np.isfinite(signal_variance)]
    if signal_variance.size == 0:
        return float("nan")
    variance = (signal_variance + 1 / n_averaged) / (1 + signal_variance)
    return float(np.sqrt(variance.mean()))
