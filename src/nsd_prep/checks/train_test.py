"""What must hold of the train and test assemblies: the consumer's contract, as checks."""

from typing import Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.assemblies.assembly import NEUROID_COORDINATES, PRESENTATION_COORDINATES
from nsd_prep.assemblies.identifiers import Split
from nsd_prep.assemblies.train_test import TrainAndTest, scale_over_images
from nsd_prep.core.check import Check, check
from nsd_prep.dataset.published import RELIABLE_NOISE_CEILING, REPETITIONS

#: Largest difference between the z-scored average of a test image and the average of its three
#: z-scored rows: what float32 leaves.
AVERAGE_TOLERANCE: Final = 1e-5
#: Voxels of a region that are compared at once: in float64 all of them would take a gigabyte.
_VOXELS_AT_ONCE: Final = 4096
_DIMENSIONS: Final = ("presentation", "neuroid", "time_bin")
_TIME_COORDINATES: Final = ("time_bin_start", "time_bin_end")
_BOTH: Final = "Allen2022_fmri_train, Allen2022_fmri_test"


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
        As they were written.
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
    columns = [one["neuroid_id"].to_numpy() for one in assemblies]
    return [
        *_check_form("train", train, nsd_ids[is_train], ()),
        *_check_form("test", test, repeated, ("repetition",)),
        check(
            "repetitions apart",
            "Allen2022_fmri_test",
            f"{test.sizes['presentation']} rows of {len(test_ids)} images",
            "three rows for each image, repetition 0, 1, 2 within",
            np.array_equal(test["repetition"], np.tile(np.arange(REPETITIONS), len(test_ids))),
            "Internal consistency compares repetitions with each other.",
        ),
        check(
            "same neuroids",
            _BOTH,
            f"{len(columns[0])} and {len(columns[1])}",
            "the same in both, in the same order",
            np.array_equal(columns[0], columns[1]),
            "What is fitted on train is scored on test, column by column.",
        ),
        _check_ceiling(test, voxels),
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
    assembly : DataArray, dims (presentation, neuroid)
        The region's.
    is_train : ndarray of bool, shape (n_images,)

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
    split: Split, assembly: xr.DataArray, nsd_ids: NDArray[np.int64], further: tuple[str, ...]
) -> list[Check]:
    coordinates = [*PRESENTATION_COORDINATES, *further, *NEUROID_COORDINATES, *_TIME_COORDINATES]
    # One subject's neuroids stand together: as many runs of a name as there are names.
    names, ids = assembly["subject"].to_numpy(), assembly["neuroid_id"].to_numpy()
    runs = 1 + int(np.count_nonzero(names[1:] != names[:-1]))
    n_subjects, n_images = len(set(names.tolist())), len(np.unique(nsd_ids))
    wrong = int(np.count_nonzero(~np.isfinite(assembly.to_numpy())))
    table: tuple[tuple[str, str, str, bool, str], ...] = (
        (
            "dimensions",
            f"{', '.join(map(str, assembly.dims))} {assembly.shape}, {assembly.dtype}",
            f"{', '.join(_DIMENSIONS)} ({len(nsd_ids)}, n, 1), float32",
            assembly.dims == _DIMENSIONS
            and (assembly.shape[0], assembly.shape[2]) == (len(nsd_ids), 1)
            and assembly.dtype == np.float32
            and not assembly.indexes,
            "The consumer finds images, voxels and the time bin along these.",
        ),
        (
            "coordinates",
            ", ".join(map(str, assembly.coords)),
            ", ".join(coordinates),
            list(assembly.coords) == coordinates,
            "The consumer averages repetitions over all other coordinates of presentation: one "
            "more, and it averages nothing.",
        ),
        (
            "images",
            f"{len(np.unique(assembly['nsd_id']))} images",
            f"the {n_images} {split} images, ascending",
            np.array_equal(assembly["nsd_id"], nsd_ids),
            "Rows are in the order of the stimulus set.",
        ),
        (
            "subject-major",
            f"{runs} runs of {n_subjects} subjects",
            "every subject's neuroids together, each neuroid once",
            runs == n_subjects and len(set(ids.tolist())) == len(ids),
            "Subjects are fitted one by one.",
        ),
        (
            "no NaN",
            f"{wrong} values",
            "0 values that are not finite",
            wrong == 0,
            "A single NaN would spread through a model's fit.",
        ),
    )
    where = f"Allen2022_fmri_{split}"
    return [
        check(name, where, value, expectation, holds, meaning)
        for name, value, expectation, holds, meaning in table
    ]


def _check_ceiling(test: xr.DataArray, voxels: pd.DataFrame | None) -> Check:
    reliable = np.flatnonzero(test["nc_testset"].to_numpy() > RELIABLE_NOISE_CEILING)
    n_images = test.shape[0] // REPETITIONS
    rows = test.to_numpy()[: n_images * REPETITIONS, reliable, 0]
    trials = rows.reshape(n_images, REPETITIONS, len(reliable))
    without_ceiling = np.isnan(internal_consistency(trials)).any(axis=0)
    meaning = (
        "Brain-Score's ceiling of a subject and region is a median over its reliable voxels, which "
        "one NaN turns into NaN, and the score with it."
    )
    if voxels is not None and without_ceiling.any():
        ids = test["neuroid_id"].to_numpy()[reliable[without_ceiling]]
        n_without = voxels.set_index("neuroid_id")["sessions_without_data"]
        if (n_without.reindex(ids) > 0).all():
            meaning += (
                " All of these voxels lack data in some session: run again with "
                "--invalid-voxels drop, which leaves them out."
            )
    return check(
        "every reliable voxel has a ceiling",
        "Allen2022_fmri_test",
        f"{int(without_ceiling.sum())} of {len(reliable)} voxels without",
        "0 voxels with a noise ceiling above "
        f"{RELIABLE_NOISE_CEILING:g} % whose repetitions cannot be correlated",
        None if n_images < 2 else not without_ceiling.any(),
        meaning,
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
        one, rest = (half - half.mean(axis=0, dtype=np.float64) for half in halves)
        size = np.sqrt((one**2).sum(axis=0) * (rest**2).sum(axis=0))
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.clip((one * rest).sum(axis=0) / np.where(constant, np.nan, size), -1, 1)
            corrected[alone] = 2 * r / (1 + r)
    return corrected
