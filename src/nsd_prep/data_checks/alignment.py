"""Are trials and voxels where they belong? The ncsnr, recomputed from single trials, tells."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.checks import Check, check
from nsd_prep.data_checks.decision import (
    FEWEST_VOXELS,
    NO_SHARE,
    Share,
    is_as_predicted,
    share_of,
    signal_share,
    voxels_that_tell,
)
from nsd_prep.published import REPETITIONS

#: Voxels handled together: their trials fit into a core's cache.
_VOXELS_AT_ONCE: Final = 256
_SIMULATIONS: Final = 20


@dataclass(frozen=True)
class Alignment:
    """The ncsnr of a region's voxels, recomputed and compared with the stored one.

    Attributes
    ----------
    ncsnr : ndarray of float64, shape (n_voxels,)
        Recomputed from the region's single trials; NaN where they do not vary.
    correlation : float
        Of recomputed and stored ncsnr over voxels; NaN from fewer than 5 voxels.
    expected_correlation : float
        What it is on average when the stored ncsnr is true: the recomputed one is noisy.
    trials : Share
        Signal found in the trials, as a share of the signal that the stored ncsnr says: 0 where
        trials are assigned to wrong images.
    voxels : Share
        Slope of recomputed on stored noise variance over voxels: 0 where the ncsnr belongs to
        other voxels.
    """

    ncsnr: NDArray[np.float64]
    correlation: float
    expected_correlation: float
    trials: Share
    voxels: Share


def noise_variances(responses: NDArray[np.float32], trials_per_session: int) -> NDArray[np.float64]:
    """Return the variance over the repetitions of each image.

    Parameters
    ----------
    responses : ndarray of float32, shape (n_images, 3, n_voxels)
        Trials z-scored with the population's standard deviation over a session's trials.
    trials_per_session : int
        N; the factor (N - 1) / N turns the variance into that of trials which were z-scored with
        the sample's standard deviation, as the authors of NSD do.

    Returns
    -------
    ndarray of float64, shape (n_images, n_voxels)
        With N - 1 in the denominator.
    """
    first, second, third = (responses[:, index].astype(np.float64) for index in range(REPETITIONS))
    squares = (first - second) ** 2 + (first - third) ** 2 + (second - third) ** 2
    # The sum of squares about the mean of three is a third of that of their differences.
    squares *= (trials_per_session - 1) / trials_per_session / REPETITIONS / (REPETITIONS - 1)
    return squares


def ncsnr_of_noise_variance(noise_variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sqrt(max(0, 1 - v^2)) / v for the noise variance v^2 of voxels (Allen et al. 2022).

    Parameters
    ----------
    noise_variance : ndarray of float64, shape (n_voxels,)
        Mean over images of the variance over repetitions of z-scored trials.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        NaN where the variance is 0.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.maximum(0, 1 - noise_variance) / noise_variance
        return np.where(noise_variance > 0, np.sqrt(ratio), np.nan)


def align(
    responses: NDArray[np.float32],
    ncsnr: NDArray[np.float32],
    sessions_without_data: NDArray[np.int64],
    trials_per_session: int,
) -> Alignment:
    """Recompute a region's ncsnr and compare it with the stored one, voxel by voxel.

    The comparison is of noise variances, which unlike ncsnr are estimated without bias: averaged
    over some of the images, the expectation of a voxel's is that over all of them, so the slope
    is 1. Both shares are means over images, and images are independent: that gives their errors,
    however the noise of voxels is correlated.

    Parameters
    ----------
    responses : ndarray of float32, shape (n_images, 3, n_voxels)
        Single-trial z-scores (population's standard deviation).
    ncsnr : ndarray of float32, shape (n_voxels,)
        As stored; NaN where a voxel has no data.
    sessions_without_data : ndarray of int64, shape (n_voxels,)
        In how many sessions a voxel is constant.
    trials_per_session : int
        Over which trials were z-scored.

    Returns
    -------
    Alignment
        Of this subject and region.
    """
    telling = voxels_that_tell(ncsnr, sessions_without_data)
    signal = signal_share(ncsnr[telling])
    enough = len(telling) >= FEWEST_VOXELS and float(np.ptp(signal)) > 0
    weights = np.zeros((len(ncsnr), 2))
    if enough:
        centred = signal - signal.mean()
        weights[telling, 0] = signal / (signal @ signal)
        weights[telling, 1] = centred / (centred @ centred)
    scores = np.zeros((len(responses), 2))
    mean_variance = np.empty(len(ncsnr))
    for start in range(0, len(ncsnr), _VOXELS_AT_ONCE):
        block = slice(start, start + _VOXELS_AT_ONCE)
        variances = noise_variances(responses[:, :, block], trials_per_session)
        mean_variance[block] = variances.mean(axis=0)
        scores += (1 - variances) @ weights[block]
    recomputed = ncsnr_of_noise_variance(mean_variance)
    if not enough:
        return Alignment(recomputed, float("nan"), float("nan"), NO_SHARE, NO_SHARE)
    stored = ncsnr[telling].astype(np.float64)
    return Alignment(
        recomputed,
        _correlation(recomputed[telling], stored),
        expected_correlation(stored, len(responses)),
        share_of(scores[:, 0]),
        share_of(scores[:, 1]),
    )


def expected_correlation(ncsnr: NDArray[np.float64], n_images: int) -> float:
    """Return the correlation over voxels of a true ncsnr with one estimated from some images.

    A voxel's noise variance, estimated from three repetitions of each image, is distributed as
    its true one times a chi-squared variable with 2 n_images degrees of freedom over these.

    Parameters
    ----------
    ncsnr : ndarray of float64, shape (n_voxels,)
        True.
    n_images : int
        From which it is estimated.

    Returns
    -------
    float
        Mean over simulations with a fixed seed.
    """
    generator = np.random.default_rng(0)
    variance = 1 / (1 + ncsnr**2)
    shape = (REPETITIONS - 1) * n_images / 2
    estimates = (
        ncsnr_of_noise_variance(variance * generator.gamma(shape, 1 / shape, len(ncsnr)))
        for _ in range(_SIMULATIONS)
    )
    return float(np.mean([_correlation(estimate, ncsnr) for estimate in estimates]))


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    known = np.isfinite(first)
    if known.sum() < FEWEST_VOXELS or np.ptp(first[known]) == 0 or np.ptp(second[known]) == 0:
        return float("nan")
    return float(np.corrcoef(first[known], second[known])[0, 1])


def check_alignment(where: str, alignment: Alignment) -> list[Check]:
    """Check that trials belong to their images, and the ncsnr to its voxels.

    Parameters
    ----------
    where : str
        Region and subject.
    alignment : Alignment
        As `align` gives it.

    Returns
    -------
    list of Check
        Two.
    """
    return [
        check(
            "trials belong to their images",
            where,
            f"{alignment.trials} of the stored ncsnr's signal",
            "1 (from 0.5 to 1.5)",
            is_as_predicted(alignment.trials),
            "Repetitions of an image agree as much as the stored ncsnr says; near 0, trials are "
            "assigned to wrong images: check the order of trials and sessions.",
        ),
        check(
            "ncsnr belongs to its voxels",
            where,
            f"slope {alignment.voxels}, r {alignment.correlation:.2f} "
            f"({alignment.expected_correlation:.2f} expected)",
            "slope 1 (from 0.5 to 1.5)",
            is_as_predicted(alignment.voxels),
            "The ncsnr recomputed from the trials follows the stored one from voxel to voxel; near "
            "0, volumes and betas lie turned or shifted against each other.",
        ),
    ]
