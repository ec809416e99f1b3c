"""What must hold of the assemblies and tables of a run: values, expectations, verdicts."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.assemblies.assembly import (
    PRESENTATION_COORDINATES,
    neuroid_coordinates,
    places_of,
)
from nsd_prep.core.check import Check, Kind, Threshold, Verdict, any_verdict
from nsd_prep.dataset.noise_ceiling import predicted_response_deviation
from nsd_prep.dataset.published import RELIABLE_NOISE_CEILING, REPETITIONS
from nsd_prep.dataset.space import SurfaceSpace

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

_ASSEMBLY: Final = "region; train, test"
#: Which meaning a form has in the train and test assemblies.
TRAIN_AND_TEST: Final = "train and test"
_OTHERWISE: Final[Mapping[Verdict, str]] = {"failed": "not as expected", "passed": "as expected"}

DIMENSIONS: Final = Kind(
    name="dimensions",
    scope=_ASSEMBLY,
    measures="dimensions, shape and type, without an index",
    conditions=_OTHERWISE,
    value="{dims} {shape}, {dtype}",
    expectation="{expected}, float32",
    meanings={
        **any_verdict("The consumer finds images along presentation and voxels along neuroid."),
        TRAIN_AND_TEST: "The consumer finds images, voxels and the time bin along these.",
    },
)
COORDINATES: Final = Kind(
    name="coordinates",
    scope=_ASSEMBLY,
    measures="names of the coordinates, in order",
    conditions=_OTHERWISE,
    value="{names}",
    expectation="{expected}",
    meanings={
        **any_verdict(
            "The consumer selects by these; one more on presentation would break its averaging."
        ),
        TRAIN_AND_TEST: "The consumer averages repetitions over all other coordinates of "
        "presentation: one more, and it averages nothing.",
    },
)
IMAGE_ORDER: Final = Kind(
    name="images",
    scope=_ASSEMBLY,
    measures="numbers of the images, in order",
    conditions=_OTHERWISE,
    value="{measured:.0f} images",
    expectation="the {lower:.0f} {which} images, ascending",
    unit="images",
    meanings={
        **any_verdict("Rows belong to the images that every chosen subject saw three times."),
        TRAIN_AND_TEST: "Rows are in the order of the stimulus set.",
    },
)
SUBJECTS_PRESENT: Final = Kind(
    name="subjects present",
    scope="region",
    measures="subjects, in order",
    conditions=_OTHERWISE,
    value="{subjects}",
    expectation="{expected}",
    meanings=any_verdict("Every subject stands once, its voxels together, in the order given."),
)
UNIQUE_IDS: Final = Kind(
    name="unique ids",
    scope="region",
    measures="different neuroid ids",
    conditions={"failed": "fewer than neuroids", "passed": "as many as neuroids"},
    value="{measured:.0f} of {lower:.0f}",
    expectation="all different",
    unit="ids",
    meanings=any_verdict("Each neuroid can be told from every other."),
)
NO_NAN: Final = Kind(
    name="no NaN",
    scope=_ASSEMBLY,
    measures="values that are not finite; on surfaces, but for NaN of vertices that lack data",
    conditions={"failed": "one or more", "passed": "none"},
    value="{measured:.0f} values{gaps}",
    expectation="0 values that are not finite",
    upper=0,
    unit="values",
    meanings={
        **any_verdict("A single NaN would spread through a model's fit."),
        "surface": "Vertices without data are NaN here, as published, and 0 in what is packaged; "
        "any other NaN would spread through a model's fit.",
    },
)
NOISE_CEILING_IN_RANGE: Final = Kind(
    name="noise ceiling in range",
    scope="region",
    measures="lowest and highest noise ceiling",
    conditions={"failed": "below 0 or above 100", "passed": "from 0 to 100"},
    value="{lowest:.4g} to {highest:.4g}",
    expectation="0 to 100",
    lower=0,
    upper=100,
    unit="%",
    meanings=any_verdict("Noise ceilings are percentages of a voxel's variance."),
)
NO_RELIABLE_CONSTANT: Final = Kind(
    name="no reliable voxel without variance",
    scope="region",
    measures="voxels constant over images, of those with a noise ceiling above "
    f"{RELIABLE_NOISE_CEILING:g} %",
    conditions={"failed": "one or more", "passed": "none"},
    value="{voxels}",
    expectation=f"0 voxels constant over images with a noise ceiling above "
    f"{RELIABLE_NOISE_CEILING:g}",
    upper=0,
    unit="voxels",
    meanings=any_verdict("One such voxel turns the region's score into NaN; sound data have none."),
    thresholds=(
        Threshold("noise ceiling, %", RELIABLE_NOISE_CEILING, "what Brain-Score calls reliable"),
    ),
)
SPLIT_COMPLETE: Final = Kind(
    name="split disjoint and complete",
    scope="run",
    measures="images of train and of test",
    conditions=_OTHERWISE,
    value="{n_train} train, {n_test} test",
    expectation="the {lower:.0f} images in order, each in one of the two",
    unit="images",
    meanings=any_verdict(
        "Models are fitted on train and scored on test; an image in both would flatter them."
    ),
)
_SIZE_OF_SAMPLE: Final = (
    Threshold("fewest images", FEWEST_IMAGES_OF_SIGNAL, "the sampling error is as the tolerance"),
    Threshold("fewest voxels", FEWEST_VOXELS_OF_SIGNAL, "the sampling error is as the tolerance"),
)
_TOO_FEW: Final = f"fewer than {FEWEST_IMAGES_OF_SIGNAL} images or {FEWEST_VOXELS_OF_SIGNAL} voxels"
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
    meanings=any_verdict("z-scores within a session average to 0 over its trials."),
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
    value="{measured:.1%} of {n_voxels} voxels without data in any session, or without ncsnr",
    expectation=f"at most {LARGEST_SHARE_WITHOUT_DATA:.0%}",
    upper=LARGEST_SHARE_WITHOUT_DATA,
    unit="share of voxels",
    meanings={
        **any_verdict(
            "Mask and betas are not aligned, or the region lies where nothing was measured."
        ),
        "passed": "Nearly all voxels have data: mask and betas are aligned.",
    },
    thresholds=(
        Threshold("share without data", LARGEST_SHARE_WITHOUT_DATA, "simulated cortex"),
        Threshold("fewest voxels", FEWEST_VOXELS_OF_A_MASK, "fewer may all lie in dropout"),
    ),
)


def check_form(
    region: str,
    assembly: xr.DataArray,
    subjects: Sequence[int],
    nsd_ids: NDArray[np.int64],
    voxels: pd.DataFrame | None = None,
) -> list[Check]:
    """Check the form of a region's assembly: dims, coordinates, subjects, ids, values.

    Parameters
    ----------
    region : str
        Its name.
    assembly : DataArray, dims (presentation, neuroid)
        As it was written.
    subjects : sequence of int
        The run's subjects (1-based), in the order of the neuroids.
    nsd_ids : ndarray of int64, shape (n_images,)
        The run's images (0-based), ascending.
    voxels : DataFrame, optional
        The rows of the voxel table that are the neuroids. On surfaces those may be NaN that lack
        data in some session.

    Returns
    -------
    list of Check
        In a fixed order.
    """
    site_coordinates = places_of(assembly)
    coordinates = [*PRESENTATION_COORDINATES, *neuroid_coordinates(site_coordinates)]
    is_surface = site_coordinates == SurfaceSpace.coordinates
    ids = assembly["neuroid_id"].to_numpy()
    names = assembly["subject"].to_numpy()
    in_order = list(dict.fromkeys(names.tolist()))
    runs = 1 + int(np.count_nonzero(names[1:] != names[:-1]))
    ceiling = assembly["nc_testset"].to_numpy()
    values = assembly.to_numpy()
    gaps = np.zeros(values.shape[1], dtype=np.bool_)
    if is_surface and voxels is not None and len(voxels) == len(gaps):
        gaps = voxels["sessions_without_data"].to_numpy() > 0
    n_gaps = int(np.count_nonzero(np.isnan(values[:, gaps])))
    missing = int(np.count_nonzero(~np.isfinite(values))) - n_gaps
    spread = np.ptp(values, axis=assembly.get_axis_num("presentation"))
    flat = names[(spread == 0) & (ceiling > RELIABLE_NOISE_CEILING)].tolist()
    flat_in = ", ".join(f"{flat.count(name)} in {name}" for name in in_order if name in flat)
    expected = [f"subj{subject:02d}" for subject in subjects]
    n_ids = len(set(ids.tolist()))
    in_range = (ceiling >= 0) & (ceiling <= 100) | (is_surface & np.isnan(ceiling))
    lowest, highest = np.fmin.reduce(ceiling), np.fmax.reduce(ceiling)
    return [
        DIMENSIONS.check(
            assembly.dims == ("presentation", "neuroid")
            and assembly.shape[0] == len(nsd_ids)
            and assembly.dtype == np.float32
            and not assembly.indexes,
            region=region,
            dims=", ".join(map(str, assembly.dims)),
            shape=assembly.shape,
            dtype=assembly.dtype,
            expected=f"presentation, neuroid ({len(nsd_ids)}, n)",
        ),
        COORDINATES.check(
            list(assembly.coords) == coordinates,
            region=region,
            names=", ".join(map(str, assembly.coords)),
            expected=", ".join(coordinates),
        ),
        IMAGE_ORDER.check(
            np.array_equal(assembly["nsd_id"].to_numpy(), nsd_ids),
            region=region,
            measured=assembly.sizes["presentation"],
            lower=len(nsd_ids),
            upper=len(nsd_ids),
            which="usable",
        ),
        SUBJECTS_PRESENT.check(
            in_order == expected and runs == len(in_order),
            region=region,
            subjects=", ".join(in_order),
            expected=", ".join(expected),
        ),
        UNIQUE_IDS.check(
            n_ids == len(ids), region=region, measured=n_ids, lower=len(ids), upper=len(ids)
        ),
        NO_NAN.check(
            missing == 0,
            region=region,
            measured=missing,
            reason="surface" if is_surface else "",
            gaps=f", and {n_gaps} of vertices without data" if is_surface else "",
        ),
        NOISE_CEILING_IN_RANGE.check(
            bool(in_range.all()),
            region=region,
            measured=lowest if lowest < 0 else highest,
            lowest=lowest,
            highest=highest,
        ),
        NO_RELIABLE_CONSTANT.check(
            not flat,
            region=region,
            measured=len(flat),
            voxels=f"voxels: {flat_in}" if flat else "0 voxels",
        ),
    ]


def check_split(nsd_ids: NDArray[np.int64], split: pd.DataFrame) -> list[Check]:
    """Check that train and test share no image and leave none out.

    Parameters
    ----------
    nsd_ids : ndarray of int64, shape (n_images,)
        The run's images (0-based), ascending.
    split : DataFrame
        stimulus_id, nsd_id and split ("train" or "test"), as it was written.

    Returns
    -------
    list of Check
        One.
    """
    n_train, n_test = (int((split["split"] == side).sum()) for side in ("train", "test"))
    return [
        SPLIT_COMPLETE.check(
            np.array_equal(split["nsd_id"].to_numpy(), nsd_ids)
            and n_train + n_test == len(nsd_ids)
            and min(n_train, n_test) > 0,
            measured=n_train + n_test,
            lower=len(nsd_ids),
            upper=len(nsd_ids),
            n_train=n_train,
            n_test=n_test,
        )
    ]


def check_signal(region: str, assembly: xr.DataArray, voxels: pd.DataFrame) -> list[Check]:
    """Check the size of a region's values against what the ncsnr predicts.

    Parameters
    ----------
    region : str
        Its name.
    assembly : DataArray, dims (presentation, neuroid)
        Averaged z-scores.
    voxels : DataFrame
        The region's rows of the voxel table.

    Returns
    -------
    list of Check
        In a fixed order.
    """
    values = assembly.to_numpy()
    has_ncsnr = np.isfinite(voxels["ncsnr"].to_numpy())
    n_images = len(values)
    sums = values.sum(axis=0, dtype=np.float64)
    squares = np.einsum("ij,ij->j", values, values, dtype=np.float64)
    mean = float(sums.mean() / n_images)
    mean_of_valid = sums[has_ncsnr].sum() / max(n_images * has_ncsnr.sum(), 1)
    square_of_valid = squares[has_ncsnr].sum() / max(n_images * has_ncsnr.sum(), 1)
    deviation = float(np.sqrt(square_of_valid - mean_of_valid**2))
    predicted = predicted_response_deviation(voxels["ncsnr"].to_numpy(), REPETITIONS)
    enough = (
        values.shape[0] >= FEWEST_IMAGES_OF_SIGNAL and has_ncsnr.sum() >= FEWEST_VOXELS_OF_SIGNAL
    )
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
