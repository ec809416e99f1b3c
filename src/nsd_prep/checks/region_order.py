"""Do regions stand in their order? The correlations between their mean RDMs tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import scipy.special
from numpy.typing import NDArray

from nsd_prep.checks.decision import effective_degrees
from nsd_prep.checks.rdms import unit_rdm
from nsd_prep.core.check import Check, Kind, Threshold, Verdict, any_verdict, number_text

#: Pairs of regions, from the most alike to the least.
ORDER_OF_REGION_PAIRS: Final = (("V1", "V2"), ("V2", "V4"), ("V4", "IT"), ("V1", "IT"))
REGIONS_IN_ORDER: Final = ("V1", "V2", "V4", "IT")
#: Standard errors by which a difference is sure, and the probability, by Student's t, of one that
#: violates the order.
SURELY_IN_ORDER: Final = 2.0
CHANCE_OF_SUSPICION: Final = 1e-3
CHANCE_OF_VIOLATION: Final = 1e-4
#: Images and subjects below which nothing is decided.
FEWEST_IMAGES_OF_ORDER: Final = 10
FEWEST_SUBJECTS_OF_ORDER: Final = 3

REGION_ORDER: Final = Kind(
    name="order of the regions",
    scope="run",
    measures="r between subjects of the RDMs of V1-V2, V2-V4, V4-IT and V1-IT, divided by the "
    "square root of the two regions' own r between subjects, and how much each is above the next; "
    "beside it r of the mean RDMs",
    draws=("images", "voxels", "subjects"),
    conditions={
        "failed": f"a difference has the wrong sign (t, p below {CHANCE_OF_VIOLATION:g})",
        "suspicious": f"the same with p below {CHANCE_OF_SUSPICION:g}",
        "not decidable": f"fewer than {FEWEST_IMAGES_OF_ORDER} images or "
        f"{FEWEST_SUBJECTS_OF_ORDER} subjects, or neither",
        "passed": f"all differences have the right sign by {SURELY_IN_ORDER:g} standard errors",
    },
    value="{correlations} (differences between subjects {differences})",
    expectation="V1-V2 > V2-V4 > V4-IT > V1-IT",
    lower=0.0,
    unit="r",
    meanings={
        **any_verdict(
            "Regions further apart in the visual hierarchy see images less alike; another order "
            "means that regions have been confused."
        ),
        "not decidable": "Too few images or subjects, or differences too small beside their "
        "errors, to tell.",
    },
    thresholds=(
        Threshold("standard errors, passed", SURELY_IN_ORDER, "chosen"),
        Threshold("p, suspicious", CHANCE_OF_SUSPICION, "simulated regions"),
        Threshold("p, failed", CHANCE_OF_VIOLATION, "simulated regions: no sound run"),
        Threshold("fewest images", FEWEST_IMAGES_OF_ORDER, "fewer say nothing"),
        Threshold("fewest subjects", FEWEST_SUBJECTS_OF_ORDER, "fewer have no error"),
    ),
)


@dataclass(frozen=True)
class RegionOrder:
    """Correlations between regions' RDMs, and the differences in their order.

    Attributes
    ----------
    correlations : ndarray of float64, shape (4,)
        Of the mean RDMs of the pairs of `ORDER_OF_REGION_PAIRS`.
    differences : ndarray of float64, shape (3,)
        Of each pair's correlation between subjects with the next's; positive where the order
        holds. NaN with one subject, and where subjects do not agree in a region.
    errors : ndarray of float64, shape (3,)
        Their standard errors, by jackknife over images and over subjects (which are also draws of
        voxels); infinite with fewer than three subjects.
    degrees_of_freedom : ndarray of float64, shape (3,)
        Of the errors, by Welch and Satterthwaite.
    """

    correlations: NDArray[np.float64]
    differences: NDArray[np.float64]
    errors: NDArray[np.float64]
    degrees_of_freedom: NDArray[np.float64]


def region_order(rdms: Mapping[str, NDArray[np.floating]]) -> RegionOrder:
    """Correlate the RDMs of V1, V2, V4 and IT, with the errors of their differences.

    What is judged is correlated between subjects alone, and divided by how well subjects agree in
    each region: noise that regions of a subject share, and regions of few voxels, change neither.

    Parameters
    ----------
    rdms : mapping of str to ndarray of float, shape (n_subjects, n_images, n_images)
        For each of V1, V2, V4 and IT, of the same subjects and images.

    Returns
    -------
    RegionOrder
        Of all these.
    """
    units = np.stack([np.stack([unit_rdm(rdm) for rdm in rdms[name]]) for name in REGIONS_IN_ORDER])
    n_regions, n_subjects, n_images, _ = units.shape
    flat = units.reshape(n_regions * n_subjects, -1)
    r = (flat @ flat.T).astype(np.float64).reshape(n_regions, n_subjects, n_regions, n_subjects)
    off_diagonal = ~np.eye(n_subjects, dtype=np.bool_)
    between = _mean_between(r, off_diagonal)
    differences = _differences(between)
    errors, degrees = np.full((2, len(differences)), np.inf)
    if n_subjects >= FEWEST_SUBJECTS_OF_ORDER:
        without = []
        for subject in range(n_subjects):
            pairs = off_diagonal.copy()
            pairs[subject] = pairs[:, subject] = False
            without.append(_differences(_mean_between(r, pairs)))
        of_subjects = _jackknife_variance(np.stack(without, axis=1))
        influence = _influence(units, r)
        step = 1e-3 / max(float(np.abs(influence).max()), 1e-12)
        by_image = [
            (_differences(between + step * influence[..., image]) - differences) / step
            for image in range(n_images)
        ]
        of_images = (np.stack(by_image, axis=1) ** 2).sum(axis=1)
        errors = np.sqrt(of_subjects + of_images)
        degrees = effective_degrees(
            (of_subjects, n_subjects - 1), (of_images, max(n_images - 1, 1))
        )
    means = {name: np.asarray(rdms[name]).mean(axis=0) for name in REGIONS_IN_ORDER}
    correlations = np.array([_correlation(means[a], means[b]) for a, b in ORDER_OF_REGION_PAIRS])
    return RegionOrder(correlations, differences, errors, degrees)


def _mean_between(
    r: NDArray[np.float64], pairs_of_subjects: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the mean r of two regions over pairs of different subjects, (n_regions, n_regions)."""
    number = max(int(pairs_of_subjects.sum()), 1)
    mean = np.einsum("asbt,st->ab", r, pairs_of_subjects) / number
    return np.asarray(mean if pairs_of_subjects.any() else np.full_like(mean, np.nan))


def _differences(between: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the differences of successive pairs' corrected r, NaN where a region has none."""
    agreement = np.diag(between)
    with np.errstate(invalid="ignore"):
        corrected = between / np.sqrt(np.outer(agreement, agreement))
    corrected[~(agreement > 0)] = np.nan
    corrected[:, ~(agreement > 0)] = np.nan
    position = {name: index for index, name in enumerate(REGIONS_IN_ORDER)}
    steps = [corrected[position[a], position[b]] for a, b in ORDER_OF_REGION_PAIRS]
    return np.array([first - second for first, second in pairwise(steps)])


def _influence(units: NDArray[np.float32], r: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each image's influence on the mean r between subjects, (regions, regions, images)."""
    n_regions, n_subjects, n_images, _ = units.shape
    squares = np.einsum("rsij,rsij->rsi", units, units).astype(np.float64)
    other = ~np.eye(n_subjects, dtype=np.bool_)
    sums = units.sum(axis=1)
    n_pairs = n_subjects * (n_subjects - 1)
    influence = np.empty((n_regions, n_regions, n_images))
    for first in range(n_regions):
        for second in range(first, n_regions):
            products = np.einsum("ij,ij->i", sums[first], sums[second])
            products = products - np.einsum("sij,sij->i", units[first], units[second])
            of_pairs = r[first, :, second] * other
            # What each image's row and column add to r beyond their share of the norms.
            norms = of_pairs.sum(axis=1) @ squares[first] + of_pairs.sum(axis=0) @ squares[second]
            each = (2 * products - norms) / n_pairs
            influence[first, second] = influence[second, first] = each
    return influence


def _jackknife_variance(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the jackknife's variance of estimates, (n_estimates, n_left_out)."""
    return (values.shape[1] - 1) * values.var(axis=1)


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Correlate two RDMs over the pairs of images of which both have a value."""
    upper = np.triu_indices(len(first), 1)
    x, y = first[upper], second[upper]
    used = np.isfinite(x) & np.isfinite(y)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.corrcoef(x[used], y[used])[0, 1])


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
        Failed where a difference surely has the wrong sign; passed where all have the right one by
        two standard errors.
    """
    verdict: Verdict = "not decidable"
    differences, errors = order.differences, order.errors
    if n_images >= FEWEST_IMAGES_OF_ORDER and np.isfinite([differences, errors]).all():
        chance = scipy.special.stdtr(order.degrees_of_freedom, differences / errors).min()
        if chance < CHANCE_OF_SUSPICION:
            verdict = "failed" if chance < CHANCE_OF_VIOLATION else "suspicious"
        elif (differences > SURELY_IN_ORDER * errors).all():
            verdict = "passed"
    listed = ", ".join(
        f"{first}-{second} {number_text(value, '.3f')}"
        for (first, second), value in zip(ORDER_OF_REGION_PAIRS, order.correlations, strict=True)
    )
    steps = ", ".join(
        f"{number_text(value, '.3f')} ± {number_text(error, '.3f')}"
        for value, error in zip(differences, errors, strict=True)
    )
    return REGION_ORDER.check(
        verdict, measured=differences.min(), correlations=listed, differences=steps
    )
