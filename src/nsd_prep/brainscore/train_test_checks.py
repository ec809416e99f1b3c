"""What must hold of the train and test assemblies: the consumer's contract, as checks."""

from itertools import chain, combinations
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.assembly import NEUROID_COORDINATES, PRESENTATION_COORDINATES
from nsd_prep.brainscore.identifiers import Split
from nsd_prep.brainscore.train_test import TrainAndTest, scale_over_images
from nsd_prep.checks import Check, check
from nsd_prep.published import RELIABLE_NOISE_CEILING, REPETITIONS

#: Largest difference between the z-scored average of a test image and the average of its three
#: z-scored rows: what float32 leaves.
AVERAGE_TOLERANCE: Final = 1e-5
#: Voxels of a region that are compared at once: in float64 all of them would take a gigabyte.
_VOXELS_AT_ONCE: Final = 4096
_TIME_COORDINATES: Final = ("time_bin_start", "time_bin_end")


def check_train_and_test(
    assemblies: TrainAndTest, nsd_ids: NDArray[np.int64], is_train: NDArray[np.bool_]
) -> list[Check]:
    """Check the form of the train and the test assembly.

    Parameters
    ----------
    assemblies : TrainAndTest
        As they were written.
    nsd_ids : ndarray of int64, shape (n_images,)
        The run's images (0-based), ascending.
    is_train : ndarray of bool, shape (n_images,)
        The split.

    Returns
    -------
    list of Check
        In a fixed order.
    """
    train, test = assemblies
    repeated = np.repeat(nsd_ids[~is_train], REPETITIONS)
    presentation = list(PRESENTATION_COORDINATES)
    same = np.array_equal(train["neuroid_id"].to_numpy(), test["neuroid_id"].to_numpy())
    return [
        *_check_form("train", train, nsd_ids[is_train], presentation),
        *_check_form("test", test, repeated, [*presentation, "repetition"]),
        check(
            "repetitions apart",
            "Allen2022_fmri_test",
            f"{test.sizes['presentation']} rows of {len(np.unique(repeated))} images",
            "three rows for each image, repetition 0, 1, 2 within",
            np.array_equal(
                test["repetition"].to_numpy(), np.tile(np.arange(REPETITIONS), len(repeated) // 3)
            ),
            "Internal consistency compares repetitions with each other.",
        ),
        check(
            "same neuroids",
            "Allen2022_fmri_train, Allen2022_fmri_test",
            f"{train.sizes['neuroid']} and {test.sizes['neuroid']}",
            "the same in both, in the same order",
            same,
            "What is fitted on train is scored on test, column by column.",
        ),
        _check_variance(train, test),
    ]


def check_agreement(
    assemblies: TrainAndTest, region: str, assembly: xr.DataArray, is_train: NDArray[np.bool_]
) -> Check:
    """Check the values of a region against its assembly of the same run.

    Parameters
    ----------
    assemblies : TrainAndTest
        As they were written.
    region : str
        Its name.
    assembly : DataArray, dims (presentation, neuroid)
        The region's.
    is_train : ndarray of bool, shape (n_images,)
        The split.

    Returns
    -------
    Check
        Of the largest difference; infinite where the neuroids are others.
    """
    train, test = (one.to_numpy()[:, :, 0] for one in assemblies)
    columns = np.flatnonzero(assemblies.train["region"].to_numpy() == region)
    ids = assemblies.train["neuroid_id"].to_numpy()[columns]
    over_train = assemblies.train.attrs.get("zscore_images") == "train"
    differences = [0.0]
    if not np.array_equal(ids, assembly["neuroid_id"].to_numpy()):
        differences.append(np.inf)
        columns = columns[:0]
    for start in range(0, len(columns), _VOXELS_AT_ONCE):
        block = columns[start : start + _VOXELS_AT_ONCE]
        rows = assembly.to_numpy()[:, start : start + _VOXELS_AT_ONCE]
        scaled = scale_over_images(rows[is_train] if over_train else rows).apply(rows)
        trials = test[:, block].reshape(-1, REPETITIONS, len(block))
        differences += [
            float(np.abs(train[:, block] - scaled[is_train]).max()),
            float(np.abs(trials.mean(axis=1) - scaled[~is_train]).max()),
        ]
    difference = float(np.max(differences))
    return check(
        "agrees with the region's assembly",
        region,
        difference,
        f"at most {AVERAGE_TOLERANCE:g} from its z-scored rows",
        difference <= AVERAGE_TOLERANCE,
        "Train rows, and means of three test rows, are the region's rows, z-scored again.",
    )


def _check_form(
    split: Split, assembly: xr.DataArray, nsd_ids: NDArray[np.int64], presentation: list[str]
) -> list[Check]:
    where = f"Allen2022_fmri_{split}"
    dims = ("presentation", "neuroid", "time_bin")
    coordinates = [*presentation, *NEUROID_COORDINATES, *_TIME_COORDINATES]
    # One subject's neuroids stand together: as many runs of a name as there are names.
    names = assembly["subject"].to_numpy()
    runs = 1 + int(np.count_nonzero(names[1:] != names[:-1]))
    ids = assembly["neuroid_id"].to_numpy()
    wrong = int(np.count_nonzero(~np.isfinite(assembly.to_numpy())))
    return [
        check(
            "dimensions",
            where,
            f"{', '.join(map(str, assembly.dims))} {assembly.shape}, {assembly.dtype}",
            f"{', '.join(dims)} ({len(nsd_ids)}, n, 1), float32",
            assembly.dims == dims
            and assembly.sizes["presentation"] == len(nsd_ids)
            and assembly.sizes["time_bin"] == 1
            and assembly.dtype == np.float32
            and not assembly.indexes,
            "The consumer finds images, voxels and the time bin along these.",
        ),
        check(
            "coordinates",
            where,
            ", ".join(map(str, assembly.coords)),
            ", ".join(coordinates),
            list(assembly.coords) == coordinates,
            "The consumer averages repetitions over all other coordinates of presentation: one "
            "more, and it averages nothing.",
        ),
        check(
            "images",
            where,
            f"{len(np.unique(assembly['nsd_id'].to_numpy()))} images",
            f"the {len(np.unique(nsd_ids))} {split} images, ascending",
            np.array_equal(assembly["nsd_id"].to_numpy(), nsd_ids),
            "Rows are in the order of the stimulus set.",
        ),
        check(
            "subject-major",
            where,
            f"{runs} runs of {len(set(names.tolist()))} subjects",
            "every subject's neuroids together, each neuroid once",
            runs == len(set(names.tolist())) and len(set(ids.tolist())) == len(ids),
            "Subjects are fitted one by one.",
        ),
        check(
            "no NaN",
            where,
            f"{wrong} values",
            "0 values that are not finite",
            wrong == 0,
            "A single NaN would spread through a model's fit.",
        ),
    ]


def _check_variance(train: xr.DataArray, test: xr.DataArray) -> Check:
    reliable = np.flatnonzero(train["nc_testset"].to_numpy() > RELIABLE_NOISE_CEILING)
    flat = np.ptp(train.to_numpy()[:, reliable, 0], axis=0) == 0
    trials = test.to_numpy()[:, reliable, 0].reshape(-1, REPETITIONS, len(reliable))
    # Internal consistency compares one part of the repetitions with the rest.
    every = range(REPETITIONS)
    parts = chain.from_iterable(combinations(every, size + 1) for size in every)
    for part in parts:
        flat |= np.ptp(trials[:, list(part)].mean(axis=1), axis=0) == 0
    return check(
        "no reliable voxel without variance",
        "Allen2022_fmri_train, Allen2022_fmri_test",
        f"{int(flat.sum())} of {len(reliable)} voxels",
        f"0 voxels constant over images with a noise ceiling above {RELIABLE_NOISE_CEILING:g}",
        not flat.any(),
        "One such voxel turns its region's score into NaN; in sound data there is none.",
    )
