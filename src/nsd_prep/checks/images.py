"""Do the images belong to the responses? Their low-level features against V1 tell."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.checks.subject_agreement import LARGEST_P, SEEN, subject_agreement
from nsd_prep.core.check import Check, Verdict, check

#: Correlation that the features' RDM has with V1's in natural images, in place (about 0.4); at
#: chance counts as wrong only where half of it would be seen.
USUAL_CORRELATION: Final = 0.4
#: Images below which nothing is decided, also about colours.
FEWEST_IMAGES: Final = 30
#: Photographs are redder than blue on average: "surely" in standard errors over images.
_SURE: Final = 5.0


def features_rdm(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return 1 - Pearson r between the features of images, each z-scored over images.

    Parameters
    ----------
    features : ndarray of float, shape (n_images, n_features)
        As `nsd_prep.analysis.image_features.image_features` gives them.

    Returns
    -------
    ndarray of float64, shape (n_images, n_images)
        1 where the features of an image do not vary.
    """
    values = np.asarray(features, dtype=np.float64)
    deviation = values.std(axis=0)
    values = (values - values.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    values -= values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    values /= np.where(length > 0, length, 1)
    rdm: NDArray[np.float64] = 1 - values @ values.T
    return rdm


def check_images(
    features: NDArray[np.floating], v1: NDArray[np.floating], *, natural: bool, seed: int = 0
) -> Check:
    """Check that the images are those that V1 responded to.

    Parameters
    ----------
    features : ndarray of float, shape (n_images, n_features)
        Of the images, in the order of the responses.
    v1 : ndarray of float, shape (n_images, n_images)
        Mean RDM of V1 over subjects.
    natural : bool
        Whether the images are photographs, as NSD's are: at chance is then failed. In other
        datasets V1 need not follow these features.
    seed : int
        Of the permutations.

    Returns
    -------
    Check
        One.
    """
    name, expectation = "images belong to the responses", f"r above chance (p at most {LARGEST_P})"
    if len(v1) < FEWEST_IMAGES:
        meaning = "Too few images to tell."
        return check(name, "V1", f"{len(v1)} images", expectation, None, meaning)
    found = subject_agreement(np.stack([features_rdm(features), v1]), seed=seed)
    holds: Verdict = "not decidable"
    meaning = "The features' agreement with V1 is within chance, and more need not be."
    if found.p <= LARGEST_P:
        holds = "passed"
        meaning = "Images of similar contrast, by place, orientation and scale, are alike to V1."
    elif natural and USUAL_CORRELATION / 2 >= SEEN * found.spread > 0:
        holds = "failed"
        meaning = (
            "Images of similar contrast are not alike to V1: the stimulus file's rows are other "
            "images than the ids say."
        )
    return check(name, "V1", f"r {found.mean:.3f}, p {found.p:.2g}", expectation, holds, meaning)


def check_colours(mean_rgb: NDArray[np.floating]) -> Check:
    """Check that red and blue of photographs are not exchanged.

    Parameters
    ----------
    mean_rgb : ndarray of float, shape (n_images, 3)
        Mean over each image's pixels of red, green and blue. COCO's photographs are on average
        redder (120 of 255) than blue (104).

    Returns
    -------
    Check
        Suspicious where they are surely bluer than red.
    """
    difference = mean_rgb[:, 0] - mean_rgb[:, 2]
    holds: Verdict = "not decidable"
    meaning = "Too few images, or too grey, to tell red from blue."
    value = float(difference.mean()) if len(difference) else float("nan")
    if len(difference) >= FEWEST_IMAGES:
        error = float(difference.std(ddof=1)) / np.sqrt(len(difference))
        if value > _SURE * error:
            holds, meaning = "passed", "Photographs are redder than blue on average."
        elif value < -_SURE * error:
            holds = "suspicious"
            meaning = "Photographs are redder than blue on average: these may be BGR, not RGB."
    return check(
        "colours of the images",
        "",
        f"red less blue {value:+.1f} of 255",
        "red above blue on average (photographs)",
        holds,
        meaning,
    )
