"""How reliably a voxel responds: correlations over images between repetitions."""

from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.checks import Check, check
from nsd_prep.data_checks.decision import (
    FEWEST_IMAGES,
    FEWEST_VOXELS,
    NO_SHARE,
    Share,
    is_as_predicted,
    signal_share,
    voxels_that_tell,
)
from nsd_prep.noise_ceiling import noise_ceiling
from nsd_prep.published import REPETITIONS

_VOXELS_AT_ONCE: Final = 256
_PAIRS: Final = tuple(combinations(range(REPETITIONS), 2))


@dataclass(frozen=True)
class Reliability:
    """The split-half reliability of a region's voxels.

    Attributes
    ----------
    correlation : ndarray of float64, shape (n_voxels,)
        Mean over the three pairs of repetitions of r over images; NaN for a constant voxel.
    corrected : ndarray of float64, shape (n_voxels,)
        2 r / (1 + r) (Spearman-Brown).
    predicted : ndarray of float64, shape (n_voxels,)
        What the stored ncsnr s predicts for it: 2 s^2 / (1 + 2 s^2).
    share : Share
        The correlation as a share of what the stored ncsnr predicts, s^2 / (1 + s^2).
    """

    correlation: NDArray[np.float64]
    corrected: NDArray[np.float64]
    predicted: NDArray[np.float64]
    share: Share


def split_half_reliability(
    responses: NDArray[np.float32],
    ncsnr: NDArray[np.float32],
    sessions_without_data: NDArray[np.int64],
) -> Reliability:
    """Correlate the repetitions of images, voxel by voxel.

    The share's error comes from the influence that each image has on the correlations.

    Parameters
    ----------
    responses : ndarray of float32, shape (n_images, 3, n_voxels)
        Single-trial z-scores.
    ncsnr : ndarray of float32, shape (n_voxels,)
        As stored; NaN where a voxel has no data.
    sessions_without_data : ndarray of int64, shape (n_voxels,)
        In how many sessions a voxel is constant.

    Returns
    -------
    Reliability
        Of this subject and region.
    """
    n_images, _, n_voxels = responses.shape
    telling = voxels_that_tell(ncsnr, sessions_without_data)
    signal = signal_share(ncsnr)
    weights = np.zeros(n_voxels)
    weights[telling] = signal[telling]
    correlation = np.full(n_voxels, np.nan)
    influence = np.zeros(n_images)
    for start in range(0, n_voxels, _VOXELS_AT_ONCE):
        block = slice(start, start + _VOXELS_AT_ONCE)
        values = responses[:, :, block].astype(np.float64)
        values -= values.mean(axis=0)
        deviation = np.sqrt((values**2).mean(axis=0))
        values /= np.where(deviation > 0, deviation, 1)
        products = np.mean([values[:, first] * values[:, second] for first, second in _PAIRS], 0)
        of_block = products.mean(axis=0)
        influence += (products - of_block * (values**2).mean(axis=1)) @ weights[block]
        correlation[block] = np.where((deviation > 0).all(axis=0), of_block, np.nan)
    share = NO_SHARE
    if n_images >= FEWEST_IMAGES and len(telling) >= FEWEST_VOXELS:
        expected = float(weights @ weights)
        value = float(np.nan_to_num(correlation) @ weights) / expected
        error = float(influence.std(ddof=1)) / np.sqrt(n_images) / expected
        share = Share(value, error, n_images)
    with np.errstate(divide="ignore", invalid="ignore"):
        corrected = np.where(correlation > -1, 2 * correlation / (1 + correlation), np.nan)
    return Reliability(correlation, corrected, 2 * signal / (1 + signal), share)


def check_reliability(where: str, reliability: Reliability, ncsnr: NDArray[np.float32]) -> Check:
    """Check the split-half reliability, beside the noise ceiling.

    Parameters
    ----------
    where : str
        Region and subject.
    reliability : Reliability
        As `split_half_reliability` gives it.
    ncsnr : ndarray of float32, shape (n_voxels,)
        As stored.

    Returns
    -------
    Check
        One.
    """
    return check(
        "split-half reliability",
        where,
        f"median {_median(reliability.corrected):.3f} beside a noise ceiling of "
        f"{_median(noise_ceiling(ncsnr)):.1f} % (median); {reliability.share} of the prediction",
        f"median {_median(reliability.predicted):.3f}, by the ncsnr (share from 0.5 to 1.5)",
        is_as_predicted(reliability.share),
        "Voxels respond alike to the repetitions of an image; near 0, repetitions belong to "
        "different images.",
    )


def _median(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")
