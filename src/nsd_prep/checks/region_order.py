"""Do regions stand in their order? The correlations between their mean RDMs tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.check import Check, Kind, Threshold, any_verdict

#: Pairs of regions, from the most alike to the least.
ORDER_OF_REGION_PAIRS: Final = (("V1", "V2"), ("V2", "V4"), ("V4", "IT"), ("V1", "IT"))
REGIONS_IN_ORDER: Final = ("V1", "V2", "V4", "IT")
#: Standard errors by which a difference is sure, and sure enough to call the order violated.
SURELY_IN_ORDER: Final = 2.0
VIOLATED: Final = 5.0
#: Images below which nothing is decided.
FEWEST_IMAGES_OF_ORDER: Final = 10

REGION_ORDER: Final = Kind(
    name="order of the regions",
    scope="run",
    measures="r of the mean RDMs of V1-V2, V2-V4, V4-IT and V1-IT, and how much each is above the "
    "next; errors by jackknife over images and over subjects",
    conditions={
        "failed": f"a difference has the wrong sign by {VIOLATED:g} standard errors",
        "not decidable": f"fewer than {FEWEST_IMAGES_OF_ORDER} images, or neither",
        "passed": f"all differences have the right sign by {SURELY_IN_ORDER:g} standard errors",
    },
    value="{correlations} (differences {differences})",
    expectation="V1-V2 > V2-V4 > V4-IT > V1-IT",
    lower=0.0,
    unit="r",
    meanings=any_verdict(
        "Regions further apart in the visual hierarchy see images less alike; another order means "
        "that regions are mistaken for each other."
    ),
    thresholds=(
        Threshold("standard errors, passed", SURELY_IN_ORDER, "chosen"),
        Threshold("standard errors, failed", VIOLATED, "chosen"),
        Threshold("fewest images", FEWEST_IMAGES_OF_ORDER, "fewer say nothing"),
    ),
)


@dataclass(frozen=True)
class RegionOrder:
    """Correlations between regions' mean RDMs, and the differences in their order.

    Attributes
    ----------
    correlations : ndarray of float64, shape (4,)
        Of the pairs of `ORDER_OF_REGION_PAIRS`.
    differences : ndarray of float64, shape (3,)
        Of each with the next; positive where the order holds.
    errors : ndarray of float64, shape (3,)
        Their standard errors, by jackknife over images and over subjects.
    """

    correlations: NDArray[np.float64]
    differences: NDArray[np.float64]
    errors: NDArray[np.float64]


def region_order(rdms: Mapping[str, NDArray[np.floating]]) -> RegionOrder:
    """Correlate the mean RDMs of V1, V2, V4 and IT, with the errors of their differences.

    Parameters
    ----------
    rdms : mapping of str to ndarray of float, shape (n_subjects, n_images, n_images)
        For each of V1, V2, V4 and IT, of the same subjects and images.

    Returns
    -------
    RegionOrder
        The error over subjects is 0 where there is one subject.
    """
    stacks = {name: np.asarray(rdms[name]) for name in REGIONS_IN_ORDER}
    n_subjects = len(stacks["V1"])
    sums = {name: stack.sum(axis=0, dtype=np.float64) for name, stack in stacks.items()}
    means = {name: item / n_subjects for name, item in sums.items()}
    correlations, without_image = (
        np.stack(parts)
        for parts in zip(
            *(_jackknifed(means[a], means[b]) for a, b in ORDER_OF_REGION_PAIRS), strict=True
        )
    )
    variance = _jackknife_variance(_steps(without_image))
    if n_subjects > 1:
        without_subject = np.array(
            [
                [
                    _jackknifed(sums[a] - stacks[a][subject], sums[b] - stacks[b][subject])[0]
                    for subject in range(n_subjects)
                ]
                for a, b in ORDER_OF_REGION_PAIRS
            ]
        )
        variance = variance + _jackknife_variance(_steps(without_subject))
    return RegionOrder(correlations, _steps(correlations), np.sqrt(variance))


def _steps(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([first - second for first, second in pairwise(values)])


def _jackknife_variance(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the jackknife's variance of estimates, (n_estimates, n_left_out)."""
    return (values.shape[1] - 1) * values.var(axis=1)


def _jackknifed(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlate two RDMs: r over all pairs of images, and without each image, (n_images,)."""
    n_images = len(first)
    off_diagonal = ~np.eye(n_images, dtype=np.bool_)
    used = np.isfinite(first) & np.isfinite(second) & off_diagonal
    x = np.where(used, first - first[used].mean(), 0.0)
    y = np.where(used, second - second[used].mean(), 0.0)
    rows = np.stack([part.sum(axis=1) for part in (used, x, y, x * x, y * y, x * y)])
    totals = rows.sum(axis=1, keepdims=True)
    # Without an image, its row and its column of the symmetric matrix are gone.
    every = np.concatenate([totals, totals - 2 * rows], axis=1)
    n, sx, sy, sxx, syy, sxy = every
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (sxy - sx * sy / n) / np.sqrt((sxx - sx**2 / n) * (syy - sy**2 / n))
    return r[0], r[1:]


def check_region_order(order: RegionOrder, n_images: int) -> Check:
    """Check that V1-V2 > V2-V4 > V4-IT > V1-IT.

    Parameters
    ----------
    order : RegionOrder
        As `region_order` gives it.
    n_images : int
        How many images the RDMs have.

    Returns
    -------
    Check
        Failed where a difference has the wrong sign by 5 standard errors; passed where all have
        the right one by 2.
    """
    holds: bool | None = None
    if n_images >= FEWEST_IMAGES_OF_ORDER:
        if (order.differences + VIOLATED * order.errors < 0).any():
            holds = False
        elif (order.differences - SURELY_IN_ORDER * order.errors > 0).all():
            holds = True
    listed = ", ".join(
        f"{first}-{second} {value:.3f}"
        for (first, second), value in zip(ORDER_OF_REGION_PAIRS, order.correlations, strict=True)
    )
    errors = ", ".join(
        f"{value:.3f} +- {error:.3f}"
        for value, error in zip(order.differences, order.errors, strict=True)
    )
    return REGION_ORDER.check(
        holds, measured=order.differences.min(), correlations=listed, differences=errors
    )
