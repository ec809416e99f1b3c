"""Do the images belong to the responses? Their low-level features against V1 tell."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.checks.subject_agreement import LARGEST_P, PERMUTATIONS, SEEN, subject_agreement
from nsd_prep.core.check import Check, Kind, Threshold, Verdict, number_text
from nsd_prep.core.counts import counted

#: Correlation that the features' RDM has with V1's in natural images, in place (about 0.4); at
#: chance counts as wrong only where half of it would be seen.
USUAL_CORRELATION: Final = 0.4
#: Images below which nothing is decided, also about colours.
FEWEST_IMAGES_COMPARED: Final = 30
#: Photographs are redder than blue on average: "surely" in standard errors over images.
_SURELY_COLOURED: Final = 5.0

_FEWEST: Final = Threshold(
    "fewest images", FEWEST_IMAGES_COMPARED, "fewer say nothing about their features or colours"
)

IMAGES_OF_RESPONSES: Final = Kind(
    name="images belong to the responses",
    scope="run with stimulus sets",
    measures="r of the images' features (contrast energy by place, orientation and scale) with "
    "V1's RDM",
    draws=("images",),
    conditions={
        "failed": f"photographs at chance, where {USUAL_CORRELATION / 2:g} would be seen",
        "not decidable": f"fewer than {FEWEST_IMAGES_COMPARED} images, or at chance otherwise",
        "passed": f"p at most {LARGEST_P:g}",
    },
    value="{found}",
    expectation=f"r above chance (p at most {LARGEST_P})",
    upper=LARGEST_P,
    unit="p",
    meanings={
        "passed": "Images of similar contrast, by place, orientation and scale, are alike to V1.",
        "failed": "Images of similar contrast are not alike to V1: the stimulus file's rows are "
        "other images than the ids say.",
        "not decidable": "V1 agrees with the features no better than by chance, as it may in "
        "sound data.",
        "few images": "Too few images to tell.",
    },
    thresholds=(
        Threshold("largest p", LARGEST_P, f"images permuted up to {PERMUTATIONS} times"),
        Threshold(
            "r in natural images",
            USUAL_CORRELATION,
            "about that in natural images",
        ),
        _FEWEST,
    ),
)

COLOURS: Final = Kind(
    name="colours of the images",
    scope="run with stimulus sets",
    measures="mean over photographs of red less blue",
    draws=("images",),
    conditions={
        "suspicious": f"below 0 by {_SURELY_COLOURED:g} standard errors: BGR",
        "not decidable": f"fewer than {FEWEST_IMAGES_COMPARED} images, or neither",
        "passed": f"above 0 by {_SURELY_COLOURED:g} standard errors",
    },
    value="red less blue {measured:+.1f} of 255",
    expectation="red above blue on average (photographs)",
    lower=0.0,
    unit="of 255",
    meanings={
        "passed": "Photographs are redder than blue on average.",
        "suspicious": "Photographs are redder than blue on average: these may be BGR, not RGB.",
        "not decidable": "Too few images, or too grey, to tell red from blue.",
    },
    thresholds=(
        Threshold("standard errors, over images", _SURELY_COLOURED, "COCO: 120 to 104 of 255"),
        _FEWEST,
    ),
)

STIMULUS_SETS: Final = Kind(
    name="stimulus sets",
    scope="run with stimulus sets",
    measures="whether every image is there",
    conditions={
        "not decidable": "images are missing: the run continues without stimulus sets",
        "passed": "every image was written",
    },
    value="{found}",
    expectation="the image of every row",
    unit="images",
    meanings={
        "passed": "Every row has its image, so that a benchmark can be packaged.",
        "not decidable": "Without its images a benchmark cannot be packaged; everything else is "
        "written.",
    },
)


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
        Whether the images are photographs, as NSD's are, or synthetic ones that are like them: at
        chance is then failed. In other datasets V1 need not follow these features.
    seed : int
        Of the permutations.

    Returns
    -------
    Check
        One.
    """
    if len(v1) < FEWEST_IMAGES_COMPARED:
        return IMAGES_OF_RESPONSES.check(
            None, region="V1", reason="few images", found=counted(len(v1), "image")
        )
    agreement = subject_agreement(np.stack([features_rdm(features), v1]), seed=seed)
    verdict: Verdict = "not decidable"
    if agreement.p <= LARGEST_P:
        verdict = "passed"
    elif natural and USUAL_CORRELATION / 2 >= SEEN * agreement.spread > 0:
        verdict = "failed"
    return IMAGES_OF_RESPONSES.check(
        verdict,
        region="V1",
        measured=agreement.p,
        found=f"r {number_text(agreement.mean, '.3f')}, p {number_text(agreement.p, '.2g')}",
    )


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
    verdict: Verdict = "not decidable"
    value = float(difference.mean()) if len(difference) else float("nan")
    if len(difference) >= FEWEST_IMAGES_COMPARED:
        error = float(difference.std(ddof=1)) / np.sqrt(len(difference))
        if value > _SURELY_COLOURED * error:
            verdict = "passed"
        elif value < -_SURELY_COLOURED * error:
            verdict = "suspicious"
    return COLOURS.check(verdict, measured=value)
