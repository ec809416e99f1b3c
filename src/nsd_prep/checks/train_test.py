"""What must hold of the train and test assemblies: the consumer's contract, as checks."""

import itertools
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.assemblies.assembly import PRESENTATION_COORDINATES, neuroid_coordinates, places_of
from nsd_prep.assemblies.identifiers import Split, packaged_name
from nsd_prep.assemblies.train_test import TrainAndTest, scale_over_images
from nsd_prep.checks.assembly import COORDINATES, DIMENSIONS, IMAGE_ORDER, NO_NAN, TRAIN_AND_TEST
from nsd_prep.core.check import Check, Kind, Threshold, any_verdict
from nsd_prep.core.threads import each_in_threads
from nsd_prep.dataset.published import RELIABLE_NOISE_CEILING, REPETITIONS
from nsd_prep.dataset.space import FSAVERAGE, FUNC1PT8MM, SurfaceSpace

#: Largest difference between the z-scored average of a test image and the average of its three
#: z-scored rows: what float32 leaves.
AVERAGE_TOLERANCE: Final = 1e-5
#: Voxels of a region that are compared at once: in float64 all of them would take a gigabyte.
_VOXELS_AT_ONCE: Final = 4096
_DIMENSIONS: Final = ("presentation", "neuroid", "time_bin")
_TIME_COORDINATES: Final = ("time_bin_start", "time_bin_end")

REPETITIONS_APART: Final = Kind(
    name="repetitions apart",
    scope="test",
    measures="rows of each image",
    conditions={"failed": "not as expected", "passed": "as expected"},
    value="{measured:.0f} rows of {n_images} images",
    expectation="three rows for each image, repetition 0, 1, 2 within",
    unit="rows",
    meanings=any_verdict("Internal consistency compares repetitions with each other."),
)
SAME_NEUROIDS: Final = Kind(
    name="same neuroids",
    scope="train and test",
    measures="neuroid ids, in order",
    conditions={"failed": "not as expected", "passed": "as expected"},
    value="{measured:.0f} and {lower:.0f}",
    expectation="the same in both, in the same order",
    unit="neuroids",
    meanings=any_verdict("Models are fitted on train and scored on test, column by column."),
)
SUBJECT_MAJOR: Final = Kind(
    name="subject-major",
    scope="train, test",
    measures="stretches of neuroids of one subject (on surfaces, of one region), and neuroid ids",
    conditions={
        "failed": "more stretches than subjects (or regions), or a neuroid twice",
        "passed": "as many stretches as subjects (or regions)",
    },
    value="{major}s: {upper:.0f}; stretches of neuroids: {measured:.0f}",
    expectation="every {major}'s neuroids together, each neuroid once",
    unit="stretches",
    meanings={
        **any_verdict("Subjects are fitted one by one."),
        "region": "On surfaces neuroids stand region by region, as published.",
    },
)
AGREES_WITH_REGION: Final = Kind(
    name="agrees with the region's assembly",
    scope="region",
    measures="largest difference of train rows, and of means of three test rows, from the region's "
    "rows, z-scored",
    conditions={
        "failed": f"above {AVERAGE_TOLERANCE:g}, or the neuroids are others",
        "passed": f"at most {AVERAGE_TOLERANCE:g}",
    },
    value="{difference:.4g}",
    expectation=f"at most {AVERAGE_TOLERANCE:g} from its z-scored rows",
    upper=AVERAGE_TOLERANCE,
    unit="z",
    meanings=any_verdict(
        "Train rows, and means of three test rows, are the region's rows, z-scored again."
    ),
    thresholds=(Threshold("difference", AVERAGE_TOLERANCE, "what float32 leaves"),),
)
_CEILING_MEANING: Final = (
    "Brain-Score's ceiling of a subject and region is a median over its reliable {sites}, which "
    "one NaN turns into NaN, and the score with it."
)
RELIABLE_VOXELS_HAVE_CEILING: Final = Kind(
    name="every reliable voxel has a ceiling",
    scope="test",
    measures=f"voxels with a noise ceiling above {RELIABLE_NOISE_CEILING:g} % whose repetitions "
    "cannot be correlated",
    conditions={
        "failed": "one or more",
        "not decidable": "fewer than 2 images",
        "passed": "none",
    },
    value="{measured:.0f} of {n_reliable} {sites} without",
    expectation="0 {sites} with a noise ceiling above "
    f"{RELIABLE_NOISE_CEILING:g} % whose repetitions cannot be correlated",
    upper=0,
    unit="{sites}",
    meanings={
        **any_verdict(_CEILING_MEANING),
        "not decidable": "A single image has no correlation between its repetitions.",
        "without data": f"{_CEILING_MEANING} All of these {{sites}} lack data in some session: run "
        'again with invalid_voxels="drop", which leaves them out.',
    },
    thresholds=(
        Threshold("noise ceiling, %", RELIABLE_NOISE_CEILING, "what Brain-Score calls reliable"),
    ),
)


def check_train_and_test(
    assemblies: TrainAndTest,
    nsd_ids: NDArray[np.int64],
    is_train: NDArray[np.bool_],
    voxels: pd.DataFrame | None = None,
) -> list[Check]:
    """Check the form of the train and the test assembly, and that they can be scored.

    Parameters
    ----------
    assemblies : TrainAndTest
        As they were written, or as they are opened from their files: some voxels are in memory at
        a time.
    nsd_ids : ndarray of int64, shape (n_images,)
        The run's images (0-based), ascending.
    is_train : ndarray of bool, shape (n_images,)
        The split.
    voxels : DataFrame, optional
        Rows as `nsd_prep.assemblies.assembly.voxel_table` gives them, in any order: neuroid_id and
        sessions_without_data are used, to name the remedy where a ceiling cannot be computed.

    Returns
    -------
    list of Check
        In a fixed order.
    """
    train, test = assemblies
    test_ids = nsd_ids[~is_train]
    repeated = np.repeat(test_ids, REPETITIONS)
    columns = [assembly["neuroid_id"].to_numpy() for assembly in assemblies]
    return [
        *_check_form("train", train, nsd_ids[is_train], ()),
        *_check_form("test", test, repeated, ("repetition",)),
        REPETITIONS_APART.check(
            np.array_equal(test["repetition"], np.tile(np.arange(REPETITIONS), len(test_ids))),
            data=_name(test, "test"),
            measured=test.sizes["presentation"],
            lower=len(repeated),
            upper=len(repeated),
            n_images=len(test_ids),
        ),
        SAME_NEUROIDS.check(
            np.array_equal(columns[0], columns[1]),
            data=f"{_name(train, 'train')}, {_name(test, 'test')}",
            measured=len(columns[0]),
            lower=len(columns[1]),
            upper=len(columns[1]),
        ),
        _check_ceiling(test, voxels),
    ]


def check_agreement(
    assemblies: TrainAndTest,
    region: str,
    assembly: xr.DataArray,
    is_train: NDArray[np.bool_],
    voxels: pd.DataFrame | None = None,
) -> Check:
    """Check the values of a region against its assembly of the same run.

    Parameters
    ----------
    assemblies : TrainAndTest
        As they were written, or as they are opened from their files.
    region : str
    assembly : DataArray, dims (presentation, neuroid)
        The region's, likewise.
    is_train : ndarray of bool, shape (n_images,)
    voxels : DataFrame, optional
        As in `check_train_and_test`. The test rows of vertices that lack data in some session are
        not compared: the region's mean is over the other sessions.

    Returns
    -------
    Check
        Of the largest difference; infinite where the neuroids are others.
    """
    train, test = assemblies
    columns = np.flatnonzero(train["region"].to_numpy() == region)
    ids = train["neuroid_id"].to_numpy()[columns]
    over_train = train.attrs.get("zscore_images") == "train"
    complete = np.ones(len(ids), dtype=np.bool_)
    if voxels is not None and places_of(assembly) == SurfaceSpace.coordinates:
        n_without = voxels.set_index("neuroid_id")["sessions_without_data"]
        complete = n_without.reindex(ids).to_numpy() == 0

    def compare(block: tuple[slice, slice]) -> list[float]:
        packaged, own = block
        rows = assembly[:, own].to_numpy()
        scaled = scale_over_images(rows[is_train] if over_train else rows).apply(rows)
        trials = test[:, packaged, 0].to_numpy().reshape(-1, REPETITIONS, rows.shape[1])
        apart = np.abs(trials.mean(axis=1) - scaled[~is_train])
        return [
            float(np.abs(train[:, packaged, 0].to_numpy() - scaled[is_train]).max()),
            float(apart[:, complete[own]].max(initial=0)),
        ]

    differences = [0.0]
    if np.array_equal(ids, assembly["neuroid_id"].to_numpy()):
        differences += itertools.chain(*each_in_threads(compare, _stretches(columns)))
    else:
        differences.append(np.inf)
    difference = float(np.max(differences))
    return AGREES_WITH_REGION.check(
        difference <= AVERAGE_TOLERANCE,
        region=region,
        measured=difference,
        difference=difference,
    )


def _in_pieces(n_voxels: int) -> list[slice]:
    """Return columns that are read at once, of so many."""
    starts = range(0, n_voxels, _VOXELS_AT_ONCE)
    return [slice(start, min(start + _VOXELS_AT_ONCE, n_voxels)) for start in starts]


def _stretches(columns: NDArray[np.intp]) -> Iterator[tuple[slice, slice]]:
    """Return where columns that follow each other stand, and their positions; a few at a time."""
    start = 0
    while start < len(columns):
        stop = min(start + _VOXELS_AT_ONCE, len(columns))
        stop = start + 1 + int(np.argmin(np.append(np.diff(columns[start:stop]) == 1, False)))
        yield slice(int(columns[start]), int(columns[start]) + stop - start), slice(start, stop)
        start = stop


def _name(assembly: xr.DataArray, split: Split) -> str:
    """Return how the train or the test assembly is called."""
    is_surface = places_of(assembly) == SurfaceSpace.coordinates
    return packaged_name(split, FSAVERAGE if is_surface else FUNC1PT8MM)


def _check_form(
    split: Split, assembly: xr.DataArray, nsd_ids: NDArray[np.int64], further: tuple[str, ...]
) -> list[Check]:
    site_coordinates = places_of(assembly)
    neuroid = neuroid_coordinates(site_coordinates)
    coordinates = [*PRESENTATION_COORDINATES, *further, *neuroid, *_TIME_COORDINATES]
    is_surface = site_coordinates == SurfaceSpace.coordinates
    # Neuroids of one subject stand together, on surfaces those of one region: as many runs of a
    # name as there are names.
    major = "region" if is_surface else "subject"
    names, ids = assembly[major].to_numpy(), assembly["neuroid_id"].to_numpy()
    runs = 1 + int(np.count_nonzero(names[1:] != names[:-1]))
    n_names, n_images = len(set(names.tolist())), len(np.unique(nsd_ids))
    wrong = sum(
        each_in_threads(
            lambda some: int(np.count_nonzero(~np.isfinite(assembly[:, some].to_numpy()))),
            _in_pieces(assembly.sizes["neuroid"]),
        )
    )
    n_rows = len(nsd_ids)
    data = _name(assembly, split)
    return [
        DIMENSIONS.check(
            assembly.dims == _DIMENSIONS
            and (assembly.shape[0], assembly.shape[2]) == (n_rows, 1)
            and assembly.dtype == np.float32
            and not assembly.indexes,
            data=data,
            reason=TRAIN_AND_TEST,
            dims=", ".join(map(str, assembly.dims)),
            shape=assembly.shape,
            dtype=assembly.dtype,
            expected=f"{', '.join(_DIMENSIONS)} ({n_rows}, n, 1)",
        ),
        COORDINATES.check(
            list(assembly.coords) == coordinates,
            data=data,
            reason=TRAIN_AND_TEST,
            names=", ".join(map(str, assembly.coords)),
            expected=", ".join(coordinates),
        ),
        IMAGE_ORDER.check(
            np.array_equal(assembly["nsd_id"], nsd_ids),
            data=data,
            reason=TRAIN_AND_TEST,
            measured=len(np.unique(assembly["nsd_id"])),
            lower=n_images,
            upper=n_images,
            which=split,
        ),
        SUBJECT_MAJOR.check(
            runs == n_names and len(set(ids.tolist())) == len(ids),
            data=data,
            measured=runs,
            upper=n_names,
            major=major,
            reason=major if is_surface else "",
        ),
        NO_NAN.check(wrong == 0, data=data, measured=wrong, gaps=""),
    ]


def _check_ceiling(test: xr.DataArray, voxels: pd.DataFrame | None) -> Check:
    is_reliable = test["nc_testset"].to_numpy() > RELIABLE_NOISE_CEILING
    reliable = np.flatnonzero(is_reliable)
    n_images = test.shape[0] // REPETITIONS

    def lack_ceiling(some: slice) -> Any:
        rows = test[: n_images * REPETITIONS, some, 0].to_numpy()[:, is_reliable[some]]
        trials = rows.reshape(n_images, REPETITIONS, rows.shape[1])
        return np.any(np.isnan(internal_consistency(trials)), axis=0)

    pieces = each_in_threads(lack_ceiling, _in_pieces(len(is_reliable)))
    without_ceiling = np.concatenate([np.zeros(0, np.bool_), *pieces])
    reason = ""
    if voxels is not None and without_ceiling.any():
        ids = test["neuroid_id"].to_numpy()[reliable[without_ceiling]]
        n_without = voxels.set_index("neuroid_id")["sessions_without_data"]
        if (n_without.reindex(ids) > 0).all():
            reason = "without data"
    return RELIABLE_VOXELS_HAVE_CEILING.check(
        None if n_images < 2 else not without_ceiling.any(),
        data=_name(test, "test"),
        measured=without_ceiling.sum(),
        reason=reason,
        n_reliable=len(reliable),
    )


def internal_consistency(trials: NDArray[np.float32]) -> NDArray[np.float64]:
    """Correlate each voxel's repetitions with each other, as Brain-Score's ceiling does.

    The repetitions are halved in each way there is, one against the mean of the two others; halves
    are correlated over images (Pearson) and the correlation is corrected for their length
    (Spearman-Brown, 2 r / (1 + r)).

    Parameters
    ----------
    trials : ndarray of float32, shape (n_images, 3, n_voxels)
        Responses.

    Returns
    -------
    ndarray of float64, shape (3, n_voxels)
        By the repetition that stands alone. NaN where a half is the same for all images, or holds
        NaN; minus infinity where r is -1.
    """
    corrected = np.empty((REPETITIONS, trials.shape[2]))
    for alone in range(REPETITIONS):
        halves = [trials[:, alone], np.delete(trials, alone, axis=1).mean(axis=1)]
        constant = np.any([(half == half[:1]).all(axis=0) for half in halves], axis=0)
        single, rest = (half - half.mean(axis=0, dtype=np.float64) for half in halves)
        size = np.sqrt((single**2).sum(axis=0) * (rest**2).sum(axis=0))
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.clip((single * rest).sum(axis=0) / np.where(constant, np.nan, size), -1, 1)
            corrected[alone] = 2 * r / (1 + r)
    return corrected
