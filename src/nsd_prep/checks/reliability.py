"""How reliably a voxel responds: correlations over images between repetitions."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.checks.decision import (
    CONDITIONS_OF_SHARE,
    EXPECTED_SHARE,
    FEWEST_IMAGES_OF_SHARE,
    FEWEST_VOXELS_OF_SHARE,
    HIGHEST_SHARE,
    LOWEST_SOUND_SHARE,
    NO_SHARE,
    THRESHOLDS_OF_SHARE,
    Share,
    meanings_of_share,
    reason_of_share,
    signal_share,
    verdict_of_share,
)
from nsd_prep.checks.trials import SingleTrials, VoxelBlock, add_blocks, over_pairs
from nsd_prep.core.check import Check, Kind
from nsd_prep.dataset.noise_ceiling import noise_ceiling

SPLIT_HALF_RELIABILITY: Final = Kind(
    name="split-half reliability",
    scope="subject, region",
    measures="mean r over the three pairs of repetitions, as a share of what the ncsnr predicts",
    draws=("images", "trials"),
    conditions=CONDITIONS_OF_SHARE,
    value="median {corrected:.3f} beside a noise ceiling of {ceiling:.1f} % (median); {share} of "
    "the prediction",
    expectation=f"median {{predicted:.3f}}, by the ncsnr (share {EXPECTED_SHARE})",
    lower=LOWEST_SOUND_SHARE,
    upper=HIGHEST_SHARE,
    unit="share of the prediction",
    meanings=meanings_of_share(
        sound="{Sites} respond alike to the repetitions of an image (in b3 these are not quite "
        "independent: its regularisation uses all repetitions).",
        weak="{Sites} respond less alike to repetitions than the stored ncsnr predicts: some "
        "repetitions belong to other images, or the ncsnr to another preparation.",
        none="{Sites} do not respond alike to the repetitions of an image: these belong to "
        "different images.",
        high="{Sites} respond more alike to repetitions than the stored ncsnr allows: repetitions "
        "are averages or copies of each other.",
    ),
    thresholds=THRESHOLDS_OF_SHARE,
)


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


def split_half_reliability(trials: SingleTrials) -> Reliability:
    """Correlate the repetitions of images, voxel by voxel.

    The share's error comes from the influence that each image has on the correlations.

    Parameters
    ----------
    trials : SingleTrials
        Of a subject and region.

    Returns
    -------
    Reliability
        Of this subject and region.
    """
    reliability = ReliabilityOfBlocks(trials)
    add_blocks(trials, reliability)
    return reliability.result()


class ReliabilityOfBlocks:
    """What `split_half_reliability` returns, computed from one block of voxels after another.

    Parameters
    ----------
    trials : SingleTrials
        Whose blocks are added.
    """

    def __init__(self, trials: SingleTrials) -> None:
        self._trials = trials
        n_images, _, n_voxels = trials.responses.shape
        self._correlation = np.full(n_voxels, np.nan)
        self._influence = np.zeros(n_images)

    def add(self, block: VoxelBlock) -> None:
        """Add the voxels of a block."""
        voxels, values, valid, signal = block
        number = len(values) if valid is None else np.maximum(valid.sum(axis=0), 1)
        values = values - values.sum(axis=0) / number
        if valid is not None:
            values *= valid
        deviation = np.sqrt(np.einsum("irv,irv->rv", values, values) / number)
        values /= np.where(deviation > 0, deviation, 1)
        products, squares = over_pairs(values, valid)
        mean = np.where((deviation > 0).all(axis=0), products.mean(axis=0), np.nan)
        weights = np.where(np.isfinite(mean), signal, 0)
        if valid is not None:
            products, squares = np.nan_to_num(products), np.nan_to_num(squares)
        self._influence += products @ weights - squares @ (np.nan_to_num(mean) * weights)
        self._correlation[voxels] = mean

    def result(self) -> Reliability:
        """Return the reliability of all the voxels added."""
        trials, correlation, influence = self._trials, self._correlation, self._influence
        n_images = len(influence)
        share = NO_SHARE
        if n_images >= FEWEST_IMAGES_OF_SHARE and trials.n_telling >= FEWEST_VOXELS_OF_SHARE:
            expected = float(trials.signal @ trials.signal)
            value = float(np.nan_to_num(correlation) @ trials.signal) / expected
            error = float(influence.std(ddof=1)) / np.sqrt(n_images) / expected
            share = Share(value, error, n_images)
        signal = signal_share(trials.ncsnr)
        with np.errstate(divide="ignore", invalid="ignore"):
            corrected = np.where(correlation > -1, 2 * correlation / (1 + correlation), np.nan)
        return Reliability(correlation, corrected, 2 * signal / (1 + signal), share)


def check_reliability(
    region: str, subject: str, reliability: Reliability, ncsnr: NDArray[np.float32]
) -> Check:
    """Check the split-half reliability, beside the noise ceiling.

    Parameters
    ----------
    region, subject : str
        Such as "V1" and "subj01".
    reliability : Reliability
        As `split_half_reliability` gives it.
    ncsnr : ndarray of float32, shape (n_voxels,)
        As stored.
    """
    share = reliability.share
    verdict = verdict_of_share(share)
    return SPLIT_HALF_RELIABILITY.check(
        verdict,
        region=region,
        subject=subject,
        measured=share.value,
        reason=reason_of_share(share, verdict),
        share=share,
        corrected=_median(reliability.corrected),
        ceiling=_median(noise_ceiling(ncsnr)),
        predicted=_median(reliability.predicted),
    )


def _median(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")
