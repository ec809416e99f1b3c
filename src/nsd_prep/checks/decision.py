"""How a check decides: what was found, as a share of what the ncsnr predicts.

Sound data give a share of 1, wrongly assigned ones a share of 0, and repetitions that are copies
of each other one far above 1. The share's error is measured on the data, over images: they are
independent, whereas the noise of neighbouring voxels is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import scipy.special
from numpy.typing import NDArray

from nsd_prep.core.check import Threshold, Verdict, as_verdict

#: Probability that sound data are called wrong by chance, or wrong data sound, in one check.
CHANCE_OF_ERROR: Final = 1e-6
#: Shares below this are nearer to wrong data than to sound ones.
LOWEST_SHARE: Final = 0.5
#: Shares of NSD's size lie above 0.9 in sound data, and about this where the stored ncsnr is a
#: fifth too high. Below it by `_MARGIN_OF_SUSPICIOUS` errors, and surely below 1, they are
#: suspicious.
LOWEST_SOUND_SHARE: Final = 0.7
_MARGIN_OF_SUSPICIOUS: Final = 2.3
#: Shares above this are more than sound data give: repetitions are copies of each other. An ncsnr
#: that is a fifth too low gives up to 1 / 0.8^2, so that more is surely wrong.
HIGHEST_SHARE: Final = 1.6
HIGHEST_OF_LOW_NCSNR: Final = 1 / 0.8**2
#: Where a part of the data may be wrong, a share passes above this.
_LOWEST_OF_PASSED: Final = 0.75
#: A wrong share above this and surely above 0 is partly right.
PARTLY: Final = 0.2
_MARGIN_OF_PARTLY_WRONG: Final = 2.0
#: Numbers below which no share is computed.
FEWEST_IMAGES_OF_SHARE: Final = 10
FEWEST_VOXELS_OF_SHARE: Final = 5

#: What a share should be.
EXPECTED_SHARE: Final = f"1 (from {LOWEST_SOUND_SHARE:g} to {HIGHEST_SHARE:g})"
#: When a kind of check that judges a share gives which verdict.
CONDITIONS_OF_SHARE: Final[Mapping[Verdict, str]] = MappingProxyType(
    {
        "failed": f"below {LOWEST_SHARE:g} and surely below 1, or above {HIGHEST_SHARE:g} and "
        f"surely above {HIGHEST_OF_LOW_NCSNR:.3g}",
        "suspicious": f"below {LOWEST_SOUND_SHARE:g} by {_MARGIN_OF_SUSPICIOUS:g} errors and "
        f"surely below 1, or above {HIGHEST_SHARE:g} and surely above 1",
        "not decidable": f"fewer than {FEWEST_IMAGES_OF_SHARE} images or {FEWEST_VOXELS_OF_SHARE} "
        "voxels with signal, or neither surely above 0 nor surely below 1",
        "passed": "surely above 0",
    }
)
#: What decides about a share.
THRESHOLDS_OF_SHARE: Final = (
    Threshold("probability that *surely* means", CHANCE_OF_ERROR, "one error in a million checks"),
    Threshold("nearer to wrong data than to sound ones", LOWEST_SHARE, "half of what is predicted"),
    Threshold("lowest of sound data", LOWEST_SOUND_SHARE, "an ncsnr a fifth too high: above 0.69"),
    Threshold("errors below that", _MARGIN_OF_SUSPICIOUS, "1 % of an ncsnr a fifth too high"),
    Threshold("highest of sound data", HIGHEST_SHARE, "copies of each other give more"),
    Threshold("surely more than", HIGHEST_OF_LOW_NCSNR, "an ncsnr a fifth too low: 1 / 0.8^2"),
    Threshold("partly right, where surely above 0", PARTLY, "chosen"),
)


@dataclass(frozen=True)
class Share:
    """What was found, as a share of what the ncsnr predicts.

    Attributes
    ----------
    value : float
        1 is expected; NaN where there are too few images or voxels.
    error : float
        Standard error over images.
    n_images : int
        How many images it is the mean of.
    """

    value: float
    error: float
    n_images: int

    def __str__(self) -> str:
        """Return the value and its error; that it is unknown where there is none."""
        if not np.isfinite(self.value):
            return "an unknown share"
        return f"{self.value:.2f} ± {self.error:.2f}"


NO_SHARE: Final = Share(float("nan"), float("nan"), 0)


def share_of(image_scores: NDArray[np.float64]) -> Share:
    """Return the mean of scores of images, and its standard error.

    Parameters
    ----------
    image_scores : ndarray of float64, shape (n_images,)
        Each an estimate of the share.

    Returns
    -------
    Share
        Their mean; NaN from fewer than `FEWEST_IMAGES_OF_SHARE` images.
    """
    n_images = len(image_scores)
    if n_images < FEWEST_IMAGES_OF_SHARE:
        return NO_SHARE
    error = float(image_scores.std(ddof=1) / np.sqrt(n_images))
    return Share(float(image_scores.mean()), error, n_images)


def is_as_predicted(share: Share) -> bool | None:
    """Return whether a share is the 1 that sound data give.

    True where it is nearer to 1 than to 0 and surely above 0; False where it is nearer to 0 and
    surely below 1, or above 1.6 and surely above 1; None where its error is too large to tell.
    "Surely" means by `CHANCE_OF_ERROR` of Student's t distribution.
    """
    if not np.isfinite(share.value):
        return None
    margin = margin_of(share)
    if share.value < LOWEST_SHARE:
        return False if share.value + margin < 1 else None
    if share.value > HIGHEST_SHARE:
        return False if share.value - margin > 1 else None
    return True if share.value - margin > 0 else None


def verdict_of_share(share: Share) -> Verdict:
    """Return the verdict on a share: as `is_as_predicted`, or suspicious.

    Suspicious is one below 0.7 and surely below 1, or above 1.6 where an ncsnr that is a fifth
    too low could give it.
    """
    holds = is_as_predicted(share)
    low = share.value + _MARGIN_OF_SUSPICIOUS * share.error < LOWEST_SOUND_SHARE
    if holds and low and share.value + margin_of(share) < 1:
        return "suspicious"
    if holds is False and 1 < share.value <= HIGHEST_OF_LOW_NCSNR + margin_of(share):
        return "suspicious"
    return as_verdict(holds)


def unless_partly_wrong(verdict: Verdict, share: Share) -> Verdict:
    """Return passed only where the share is above 0.75 by two standard errors, and 1 would be.

    A shift by a voxel, or half of the trials under other images, leave a share of about 0.6.
    """
    # By chance too much is found as well as too little.
    sure = min(share.value, 1) - _MARGIN_OF_PARTLY_WRONG * share.error > _LOWEST_OF_PASSED
    return "not decidable" if verdict == "passed" and not sure else verdict


def reason_of_share(share: Share, verdict: Verdict) -> str:
    """Return which of the meanings of `meanings_of_share` goes with a share and its verdict."""
    if verdict in ("not decidable", "passed"):
        return verdict
    if share.value > HIGHEST_SHARE:
        return "high"
    return "weak" if share.value > PARTLY and share.value > margin_of(share) else "none"


def meanings_of_share(*, sound: str, weak: str, none: str, high: str) -> Mapping[str, str]:
    """Return the meanings of a share as predicted, one too low, one at 0 and one above 1.6."""
    unknown = "Too few images or {sites}, or too weak a signal, to tell."
    return MappingProxyType(
        {"passed": sound, "weak": weak, "none": none, "high": high, "not decidable": unknown}
    )


def margin_of(share: Share) -> float:
    """Return how far a share surely lies from its value at most."""
    return share.error * float(-scipy.special.stdtrit(share.n_images - 1, CHANCE_OF_ERROR))


def effective_degrees(
    *parts: tuple[NDArray[np.float64], float],
) -> NDArray[np.float64]:
    """Return the degrees of freedom of a sum of variances by theirs (Welch and Satterthwaite)."""
    total = np.sum([variance for variance, _ in parts], axis=0)
    spread = np.sum([variance**2 / degrees for variance, degrees in parts], axis=0)
    return np.asarray(total**2 / np.maximum(spread, np.finfo(np.float64).tiny))


def signal_share(ncsnr: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the share of a trial's variance that is signal.

    s^2 / (1 + s^2), with s the ncsnr: z-scored trials have a variance of 1.

    Parameters
    ----------
    ncsnr : ndarray of float, shape (n_voxels,)
        NaN where a voxel has no data.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        0 to 1, NaN where ncsnr is.
    """
    squared = np.asarray(ncsnr, dtype=np.float64) ** 2
    return squared / (1 + squared)
