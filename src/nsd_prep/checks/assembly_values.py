"""The size of an assembly's values beside what the ncsnr predicts, and the voxels without data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.check import Check, Kind, Threshold, any_verdict
from nsd_prep.dataset.noise_ceiling import predicted_response_deviation
from nsd_prep.dataset.published import REPETITIONS

#: Share of a region's voxels that may lack data or an ncsnr; above it the mask is misplaced.
LARGEST_SHARE_WITHOUT_DATA: Final = 0.1
#: Voxels from which on a region's share tells; fewer may all lie in dropout.
FEWEST_VOXELS_OF_A_MASK: Final = 200
#: Relative difference that the data's deviation may have from what the ncsnr predicts.
DEVIATION_TOLERANCE: Final = 0.1
#: Numbers below which the data's mean and deviation say nothing: their sampling error is then of
#: the size of the tolerance.
FEWEST_IMAGES_OF_SIGNAL: Final = 50
FEWEST_VOXELS_OF_SIGNAL: Final = 50
#: Largest mean of the data: session effects are removed over all trials of a session, of which the
#: shared images are a tenth, so a small mean remains (-0.02 in NSD).
LARGEST_MEAN: Final = 0.1

_SIZE_OF_SAMPLE: Final = (
    Threshold("fewest images", FEWEST_IMAGES_OF_SIGNAL, "the sampling error is as the tolerance"),
    Threshold("fewest voxels", FEWEST_VOXELS_OF_SIGNAL, "the sampling error is as the tolerance"),
)
_TOO_FEW: Final = f"fewer than {FEWEST_IMAGES_OF_SIGNAL} images or {FEWEST_VOXELS_OF_SIGNAL} voxels"
_TOO_FEW_TO_TELL: Final = "Too few images or {sites} to tell."
DEVIATION_AS_PREDICTED: Final = Kind(
    name="deviation as predicted",
    scope="region",
    measures="standard deviation of all values, beside what the ncsnr predicts",
    conditions={
        "failed": f"differs by more than {DEVIATION_TOLERANCE:.0%}",
        "not decidable": _TOO_FEW,
        "passed": f"within {DEVIATION_TOLERANCE:.0%}",
    },
    expectation=f"{{predicted:.4g}} within {DEVIATION_TOLERANCE:.0%} (ncsnr's prediction)",
    unit="z",
    meanings={
        **any_verdict(
            "The spread over images fits the stored ncsnr: trials are averaged as they should be."
        ),
        "not decidable": _TOO_FEW_TO_TELL,
        "failed": "The spread over images does not fit the stored ncsnr: trials were not averaged "
        "over their repetitions, or the ncsnr belongs to other data.",
    },
    thresholds=(
        Threshold("relative difference", DEVIATION_TOLERANCE, "chosen"),
        *_SIZE_OF_SAMPLE,
    ),
)
MEAN_NEAR_ZERO: Final = Kind(
    name="mean near 0",
    scope="region",
    measures="mean of all values",
    conditions={
        "failed": f"farther than {LARGEST_MEAN:g} from 0",
        "not decidable": _TOO_FEW,
        "passed": f"within {LARGEST_MEAN:g}",
    },
    expectation=f"within {LARGEST_MEAN:g} of 0",
    lower=-LARGEST_MEAN,
    upper=LARGEST_MEAN,
    unit="z",
    meanings={
        **any_verdict("z-scores within a session average to 0 over its trials."),
        "not decidable": _TOO_FEW_TO_TELL,
    },
    thresholds=(Threshold("largest mean", LARGEST_MEAN, "-0.02 in NSD"), *_SIZE_OF_SAMPLE),
)
VOXELS_MEASURED: Final = Kind(
    name="voxels with data",
    scope="subject, region",
    measures="voxels without data in any session, or without ncsnr",
    conditions={
        "failed": f"above {LARGEST_SHARE_WITHOUT_DATA:.0%} of {FEWEST_VOXELS_OF_A_MASK} voxels or "
        "more, or above 50%",
        "suspicious": f"above {LARGEST_SHARE_WITHOUT_DATA:.0%} of fewer voxels",
        "passed": f"at most {LARGEST_SHARE_WITHOUT_DATA:.0%}",
    },
    value="{measured:.1%} of {n_voxels} {sites} without data in any session, or without ncsnr",
    expectation=f"at most {LARGEST_SHARE_WITHOUT_DATA:.0%}",
    upper=LARGEST_SHARE_WITHOUT_DATA,
    unit="share of {sites}",
    meanings={
        **any_verdict(
            "Mask and betas are not aligned, or the region lies where nothing was measured."
        ),
        "passed": "Nearly all {sites} have data: mask and betas are aligned.",
    },
    thresholds=(
        Threshold("share without data", LARGEST_SHARE_WITHOUT_DATA, "simulated cortex"),
        Threshold("fewest voxels", FEWEST_VOXELS_OF_A_MASK, "fewer may all lie in dropout"),
    ),
)


@dataclass(frozen=True)
class ValuesOfNeuroids:
    """What is checked of an assembly's values, of each neuroid over its images.

    Attributes
    ----------
    n_images : int
        How many images there are.
    n_nan, n_not_finite : ndarray of int64, shape (n_neuroids,)
        Values that are NaN; that are NaN or infinite.
    spread : ndarray of float32, shape (n_neuroids,)
        The largest value less the smallest; not finite where one of the values is not.
    total, squares : ndarray of float64, shape (n_neuroids,)
        Sum, and sum of squares, of the values that are not NaN.
    """

    n_images: int
    n_nan: NDArray[np.int64]
    n_not_finite: NDArray[np.int64]
    spread: NDArray[np.float32]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: Sequence["ValuesOfNeuroids"]) -> "ValuesOfNeuroids":
        """Put together what was computed of some neuroids at a time."""
        names = ("n_nan", "n_not_finite", "spread", "total", "squares")
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(parts[0].n_images, **columns)


def values_of_neuroids(values: NDArray[np.float32]) -> ValuesOfNeuroids:
    """Compute what is checked of averaged z-scores, float32 (n_images, n_neuroids)."""
    is_nan = np.isnan(values)
    n_nan = is_nan.sum(axis=0)
    with np.errstate(invalid="ignore"):  # of infinite values
        spread = np.ptp(values, axis=0)
    n_not_finite = n_nan
    if not np.isfinite(spread).all():
        n_not_finite = (~np.isfinite(values)).sum(axis=0)
    known = np.where(is_nan, np.float32(0), values) if n_nan.any() else values
    return ValuesOfNeuroids(
        n_images=len(values),
        n_nan=n_nan,
        n_not_finite=n_not_finite,
        spread=spread,
        total=known.sum(axis=0, dtype=np.float64),
        squares=np.einsum("ij,ij->j", known, known, dtype=np.float64),
    )


def check_signal(region: str, values: ValuesOfNeuroids, voxels: pd.DataFrame) -> list[Check]:
    """Check the size of a region's values against what the ncsnr predicts.

    Parameters
    ----------
    region : str
        Its name.
    values : ValuesOfNeuroids
        Of averaged z-scores.
    voxels : DataFrame
        The region's rows of the voxel table.

    Returns
    -------
    list of Check
        In a fixed order.
    """
    has_ncsnr = np.isfinite(voxels["ncsnr"].to_numpy())
    n_images, sums, squares = values.n_images, values.total, values.squares
    mean = float(sums.mean() / n_images)
    mean_of_valid = sums[has_ncsnr].sum() / max(n_images * has_ncsnr.sum(), 1)
    square_of_valid = squares[has_ncsnr].sum() / max(n_images * has_ncsnr.sum(), 1)
    deviation = float(np.sqrt(square_of_valid - mean_of_valid**2))
    predicted = predicted_response_deviation(voxels["ncsnr"].to_numpy(), REPETITIONS)
    enough = n_images >= FEWEST_IMAGES_OF_SIGNAL and has_ncsnr.sum() >= FEWEST_VOXELS_OF_SIGNAL
    close = abs(deviation / predicted - 1) <= DEVIATION_TOLERANCE if has_ncsnr.any() else False
    return [
        DEVIATION_AS_PREDICTED.check(
            close if enough else None,
            region=region,
            measured=deviation,
            lower=predicted * (1 - DEVIATION_TOLERANCE),
            upper=predicted * (1 + DEVIATION_TOLERANCE),
            predicted=predicted,
        ),
        MEAN_NEAR_ZERO.check(
            abs(mean) <= LARGEST_MEAN if enough else None, region=region, measured=mean
        ),
    ]


def check_coverage(region: str, voxels: pd.DataFrame, n_sessions: Mapping[str, int]) -> list[Check]:
    """Check, for each subject, how many of a region's voxels have data.

    Parameters
    ----------
    region : str
        Its name.
    voxels : DataFrame
        The region's rows of the voxel table, before any voxel was dropped.
    n_sessions : mapping of str to int
        How many sessions of each subject ("subj01") were read.

    Returns
    -------
    list of Check
        One for each subject. A small region may lie where there is no signal: it is suspicious.
    """
    checks = []
    for subject, rows in voxels.groupby("subject", sort=False):
        without = rows["ncsnr"].isna() | (rows["sessions_without_data"] >= n_sessions[subject])
        share = float(without.mean())
        is_sure = len(rows) >= FEWEST_VOXELS_OF_A_MASK or share > 0.5
        few = share <= LARGEST_SHARE_WITHOUT_DATA
        checks.append(
            VOXELS_MEASURED.check(
                few or (False if is_sure else "suspicious"),
                region=region,
                subject=str(subject),
                measured=share,
                n_voxels=len(rows),
            )
        )
    return checks
