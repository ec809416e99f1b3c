"""What must hold of the train and test assemblies: the consumer's contract, as checks."""

from collections.abc import Mapping
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
    assemblies: TrainAndTest, regions: Mapping[str, xr.DataArray], is_train: NDArray[np.bool_]
) -> list[Check]:
    """Check the values against the per-region assemblies of the same run.

    Parameters
    ----------
    assemblies : TrainAndTest
        As they were written.
    regions : mapping of str to DataArray, dims (presentation, neuroid)
        The assembly of each region.
    is_train : ndarray of bool, shape (n_images,)
        The split.

    Returns
    -------
    list of Check
        One for each region.
    """
    train, test = (one.to_numpy()[:, :, 0] for one in assemblies)
    region_of = assemblies.train["region"].to_numpy()
    ids = assemblies.train["neuroid_id"].to_numpy()
    over_train = assemblies.train.attrs.get("zscore_images") == "train"
    found = []
    for region, assembly in regions.items():
        rows = assembly.to_numpy()
        scaled = scale_over_images(rows[is_train] if over_train else rows).apply(rows)
        columns = np.flatnonzero(region_of == region)
        complete = np.array_equal(ids[columns], assembly["neuroid_id"].to_numpy())
        difference = np.inf
        if complete:
            trials = test[:, columns].reshape(-1, REPETITIONS, len(columns))
            difference = max(
                float(np.abs(train[:, columns] - scaled[is_train]).max()),
                float(np.abs(trials.mean(axis=1) - scaled[~is_train]).max()),
            )
        found.append(
            check(
                "agrees with the region's assembly",
                region,
                difference,
                f"at most {AVERAGE_TOLERANCE:g} from its z-scored rows",
                difference <= AVERAGE_TOLERANCE,
                "Train rows, and means of three test rows, are the region's rows, z-scored again.",
            )
        )
    return found


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
