"""Are trials and voxels where they belong? The ncsnr, recomputed from single trials, tells."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.checks.decision import (
    CONDITIONS_OF_SHARE,
    EXPECTED_SHARE,
    FEWEST_VOXELS_OF_SHARE,
    HIGHEST_SHARE,
    LOWEST_SOUND_SHARE,
    NO_SHARE,
    THRESHOLDS_OF_SHARE,
    Share,
    meanings_of_share,
    reason_of_share,
    share_of,
    unless_partly_wrong,
    verdict_of_share,
)
from nsd_prep.checks.trials import SingleTrials, VoxelBlock, add_blocks, over_pairs
from nsd_prep.core.check import Check, Kind, Threshold, Verdict, number_text
from nsd_prep.core.nouns import VOXEL, Noun
from nsd_prep.dataset.published import REPETITIONS

_SIMULATIONS: Final = 20
#: Of a slope after a shift by a voxel, over draws of one voxel: by chance the voxels that count may
#: have kept their ncsnr.
_DEVIATION_OF_SHIFTED: Final = 0.8
#: How much lower than expected r must be, in standard errors, for a slope not to be passed.
_LOWER_THAN_EXPECTED: Final = 1.5
#: How much lower than expected r must be, in standard errors and in itself, to fail a slope that is
#: suspicious: neighbouring voxels are not independent, so the margin is wide.
_SURELY_LOWER: Final = 8.0
_LOWER_CORRELATION: Final = 0.15

#: Reasons of a slope that is not passed although it is as expected.
_LOW_CORRELATION: Final = "low correlation"
_ROOM_FOR_SHIFT: Final = "room for a shift"

TRIALS_OF_IMAGES: Final = Kind(
    name="trials belong to their images",
    scope="subject, region",
    measures="mean product of an image's repetitions over voxels, as a share of what the stored "
    "ncsnr predicts",
    draws=("images", "trials"),
    conditions=CONDITIONS_OF_SHARE,
    value="{share} of the stored ncsnr's signal",
    expectation=EXPECTED_SHARE,
    lower=LOWEST_SOUND_SHARE,
    upper=HIGHEST_SHARE,
    unit="share of the prediction",
    meanings=meanings_of_share(
        sound="Repetitions of an image agree as much as the stored ncsnr predicts.",
        weak="Repetitions of an image agree, but less than the stored ncsnr predicts: the betas "
        "come from another preparation than the ncsnr, or some trials belong to other images "
        "(see the sessions).",
        none="Repetitions of an image do not agree: trials are assigned to wrong images; check the "
        "order of trials and sessions.",
        high="Repetitions of an image agree more than the stored ncsnr allows: they are averages "
        "or copies, were not z-scored within sessions, or come from another preparation than "
        "the ncsnr.",
    ),
    thresholds=THRESHOLDS_OF_SHARE,
)

NCSNR_OF_VOXELS: Final = Kind(
    name="ncsnr belongs to its voxels",
    scope="subject, region",
    measures="slope over voxels of recomputed on stored noise variance; with it r of the ncsnr, "
    "and the r that noise allows on average",
    draws=("images", "trials", "voxels"),
    conditions={
        **CONDITIONS_OF_SHARE,
        "failed": f"{CONDITIONS_OF_SHARE['failed']}; or suspicious with r lower than expected by "
        f"{_LOWER_CORRELATION:g} and {_SURELY_LOWER:g} errors: a tired subject's "
        "session lowers the slope, a shift by a voxel lowers both",
        "not decidable": f"the slope, or 1 where it is more, is not above {LOWEST_SOUND_SHARE:g} "
        "by two errors of images and of the draw of voxels together, or r is lower than expected "
        f"by {_LOWER_THAN_EXPECTED:g} errors, as after a shift by a voxel",
    },
    value="{slope}",
    expectation=f"slope {EXPECTED_SHARE}",
    lower=LOWEST_SOUND_SHARE,
    upper=HIGHEST_SHARE,
    unit="share of the prediction",
    meanings={
        **meanings_of_share(
            sound="The ncsnr recomputed from the trials follows the stored one from {site} to "
            "{site}.",
            weak="The recomputed ncsnr follows the stored one only in part: volumes and betas are "
            "shifted by a {site} or two against each other, come from different preparations, "
            "or sessions are out of order.",
            none="The recomputed ncsnr does not follow the stored one: volumes and betas are "
            "flipped or shifted against each other, or trials belong to other images.",
            high="Noise differs between {sites} more than the stored ncsnr allows: trials were not "
            "z-scored within sessions.",
        ),
        _LOW_CORRELATION: "The slope is as expected, but r over {sites} is lower than noise "
        "explains: volumes and betas may be shifted by a {site}, or the ncsnr is "
        "of other sessions or of other betas.",
        _ROOM_FOR_SHIFT: "The slope is as expected, but its error, with the draw of these {sites}, "
        "does not rule out volumes shifted by a {site}: more {sites} or images "
        "would decide.",
    },
    thresholds=(
        *THRESHOLDS_OF_SHARE,
        Threshold("standard errors of r, not passed", _LOWER_THAN_EXPECTED, "simulations"),
        Threshold("standard errors of r, failed", _SURELY_LOWER, "neighbours are not independent"),
        Threshold("difference of r, failed", _LOWER_CORRELATION, "simulations"),
    ),
)


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
        Signal that repetitions have in common, as a share of the signal that the stored ncsnr
        says: 0 where trials are assigned to wrong images.
    voxels : Share
        Slope of recomputed on stored noise variance over voxels: 0 where the ncsnr belongs to
        other voxels.
    """

    ncsnr: NDArray[np.float64]
    correlation: float
    expected_correlation: float
    trials: Share
    voxels: Share


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


def align(trials: SingleTrials) -> Alignment:
    """Recompute a region's ncsnr and compare it with the stored one, voxel by voxel.

    The signal is the mean product of repetitions, weighted by what the ncsnr says: its error is
    far smaller than that of 1 less the noise variance. From voxel to voxel noise variances are
    compared, which unlike ncsnr are estimated without bias: averaged over some of the images, the
    expectation of a voxel's is that over all of them, so the slope is 1. Both shares are means
    over images, and images are independent: that gives their errors, however the noise of voxels
    is correlated.

    Variances are multiplied by (N - 1) / N, with N trials in a session: the authors of NSD z-score
    with the sample's standard deviation.

    Parameters
    ----------
    trials : SingleTrials
        Of a subject and region.

    Returns
    -------
    Alignment
        Of this subject and region.
    """
    alignment = AlignmentOfBlocks(trials)
    add_blocks(trials, alignment)
    return alignment.result()


class AlignmentOfBlocks:
    """What `align` returns, computed from one block of voxels after another.

    Parameters
    ----------
    trials : SingleTrials
        Whose blocks are added.
    """

    def __init__(self, trials: SingleTrials) -> None:
        self._trials = trials
        signal = trials.signal
        self._telling = telling = np.flatnonzero(signal)
        self._enough = len(telling) >= FEWEST_VOXELS_OF_SHARE and float(np.ptp(signal[telling])) > 0
        self._weights = np.zeros((len(signal), 2))
        if self._enough:
            centred = signal[telling] - signal[telling].mean()
            self._weights[telling, 0] = signal[telling] / (signal @ signal)
            self._weights[telling, 1] = centred / (centred @ centred)
        self._scores = np.zeros((len(trials.responses), 2))
        self._mean_variance = np.empty(len(signal))

    def add(self, block: VoxelBlock) -> None:
        """Add the voxels of a block."""
        n_trials = self._trials.trials_per_session
        factor = (n_trials - 1) / n_trials
        # A session's mean, which is taken off, holds 1 / N of each of the two trials.
        factor_of_products = (n_trials - 1) / max(n_trials - 2, 1)
        products, variances = over_pairs(block.values, block.valid)
        # The mean of (a - b)^2 / 2 over pairs is the variance over the repetitions, N - 1.
        variances -= products
        variances *= factor
        mean = variances.mean(axis=0)
        self._mean_variance[block.voxels] = mean
        known = np.isfinite(mean) & (block.signal > 0)
        used = np.where(known[:, np.newaxis], self._weights[block.voxels], 0)
        if block.valid is not None:
            products, variances = np.nan_to_num(products), np.nan_to_num(variances)
        self._scores[:, 0] += factor_of_products * (products @ used[:, 0])
        # The weights add up to 0, so that 1 less the variance need not be taken.
        self._scores[:, 1] -= variances @ used[:, 1]

    def result(self) -> Alignment:
        """Return the alignment of all the voxels added."""
        recomputed = ncsnr_of_noise_variance(self._mean_variance)
        if not self._enough:
            return Alignment(recomputed, float("nan"), float("nan"), NO_SHARE, NO_SHARE)
        stored = self._trials.ncsnr[self._telling].astype(np.float64)
        return Alignment(
            recomputed,
            _correlation(recomputed[self._telling], stored),
            expected_correlation(stored, len(self._trials.responses)),
            share_of(self._scores[:, 0]),
            share_of(self._scores[:, 1]),
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
    if (
        known.sum() < FEWEST_VOXELS_OF_SHARE
        or np.ptp(first[known]) == 0
        or np.ptp(second[known]) == 0
    ):
        return float("nan")
    return float(np.corrcoef(first[known], second[known])[0, 1])


def _verdict_of_voxels(alignment: Alignment) -> tuple[Verdict, str]:
    """Judge the slope, and give the reason.

    A suspicious one is wrong where the correlation is surely too low as well.

    A tired subject's session makes the slope smaller and leaves the correlation; a shift by a voxel
    takes from both.
    """
    slope = alignment.voxels
    r, expected = alignment.correlation, alignment.expected_correlation
    n_voxels = max(int(np.count_nonzero(np.isfinite(alignment.ncsnr))), 4)
    # Fisher's z of a correlation has a standard error of 1 / sqrt(n - 3).
    lower = np.arctanh(np.clip([r, expected], -0.999, 0.999)) @ [-1, 1] * np.sqrt(n_voxels - 3)
    verdict = verdict_of_share(slope)
    if verdict == "passed":
        if lower > _LOWER_THAN_EXPECTED:
            return "not decidable", _LOW_CORRELATION
        error = np.hypot(slope.error, _DEVIATION_OF_SHIFTED / np.sqrt(n_voxels))
        verdict = unless_partly_wrong(verdict, replace(slope, error=error))
        return verdict, _ROOM_FOR_SHIFT if verdict == "not decidable" else verdict
    if verdict == "suspicious" and lower > _SURELY_LOWER and expected - r > _LOWER_CORRELATION:
        verdict = "failed"
    return verdict, reason_of_share(slope, verdict)


def check_alignment(
    region: str, subject: str, alignment: Alignment, noun: Noun = VOXEL
) -> list[Check]:
    """Check that trials belong to their images, and the ncsnr to its voxels.

    Parameters
    ----------
    region, subject : str
        Such as "V1" and "subj01".
    alignment : Alignment
        As `align` gives it.
    noun : Noun
        What its voxels are called.

    Returns
    -------
    list of Check
        Two.
    """
    trials, voxels = alignment.trials, alignment.voxels
    verdict_of_trials = verdict_of_share(trials)
    verdict_of_voxels, reason = _verdict_of_voxels(alignment)
    slope = f"cannot be told from these {noun.plural}"
    if np.isfinite(alignment.correlation):
        expected = number_text(alignment.expected_correlation, ".2f")
        slope = f"slope {voxels}, r {alignment.correlation:.2f} ({expected} expected)"
    return [
        TRIALS_OF_IMAGES.check(
            verdict_of_trials,
            region=region,
            subject=subject,
            measured=trials.value,
            reason=reason_of_share(trials, verdict_of_trials),
            share=trials,
        ),
        NCSNR_OF_VOXELS.check(
            verdict_of_voxels,
            region=region,
            subject=subject,
            measured=voxels.value,
            reason=reason,
            slope=slope,
        ),
    ]
