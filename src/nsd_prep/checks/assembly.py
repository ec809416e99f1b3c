"""The form of assemblies: dimensions, coordinates, images, subjects and ids; and the split."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.assemblies.assembly import PRESENTATION_COORDINATES, neuroid_coordinates, places_of
from nsd_prep.checks.assembly_values import ValuesOfNeuroids, values_of_neuroids
from nsd_prep.core.check import Check, Kind, Threshold, Verdict, any_verdict
from nsd_prep.core.nouns import VERTEX, VOXEL
from nsd_prep.dataset.published import RELIABLE_NOISE_CEILING
from nsd_prep.dataset.space import SurfaceSpace

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
        **any_verdict("The consumer finds images along presentation and {sites} along neuroid."),
        TRAIN_AND_TEST: "The consumer finds images, {sites} and the time bin along these.",
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
    meanings=any_verdict(
        "Each subject appears once, with its {sites} contiguous, in the order given."
    ),
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
    value="values that are not finite: {measured:.0f}{gaps}",
    expectation="none",
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
    meanings=any_verdict("Noise ceilings are percentages of a {site}'s variance."),
)
NO_RELIABLE_CONSTANT: Final = Kind(
    name="no reliable voxel without variance",
    scope="region",
    measures="voxels constant over images, of those with a noise ceiling above "
    f"{RELIABLE_NOISE_CEILING:g} %",
    conditions={"failed": "one or more", "passed": "none"},
    value="{voxels}",
    expectation=f"0 {{sites}} constant over images with a noise ceiling above "
    f"{RELIABLE_NOISE_CEILING:g}",
    upper=0,
    unit="{sites}",
    meanings=any_verdict(
        "One such {site} turns the region's score into NaN; sound data have none."
    ),
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


def check_form(
    region: str,
    assembly: xr.DataArray,
    subjects: Sequence[int],
    nsd_ids: NDArray[np.int64],
    voxels: pd.DataFrame | None = None,
    values: ValuesOfNeuroids | None = None,
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
    values : ValuesOfNeuroids, optional
        What `values_of_neuroids` returns of it, where that is known; the assembly's own values are
        then not looked at.

    Returns
    -------
    list of Check
        In a fixed order.
    """
    site_coordinates = places_of(assembly)
    coordinates = [*PRESENTATION_COORDINATES, *neuroid_coordinates(site_coordinates)]
    is_surface = site_coordinates == SurfaceSpace.coordinates
    noun = VERTEX if is_surface else VOXEL
    ids = assembly["neuroid_id"].to_numpy()
    names = assembly["subject"].to_numpy()
    in_order = list(dict.fromkeys(names.tolist()))
    runs = 1 + int(np.count_nonzero(names[1:] != names[:-1]))
    ceiling = assembly["nc_testset"].to_numpy()
    if values is None:
        values = values_of_neuroids(assembly.transpose("presentation", "neuroid").to_numpy())
    gaps = np.zeros(len(names), dtype=np.bool_)
    if is_surface and voxels is not None and len(voxels) == len(gaps):
        gaps = voxels["sessions_without_data"].to_numpy() > 0
    n_gaps = int(values.n_nan[gaps].sum())
    missing = int(values.n_not_finite.sum()) - n_gaps
    flat = names[(values.spread == 0) & (ceiling > RELIABLE_NOISE_CEILING)].tolist()
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
            voxels=f"{noun.plural}: {flat_in}" if flat else f"0 {noun.plural}",
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
