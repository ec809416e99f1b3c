"""Train and test assemblies: all regions in one file, z-scored once more, over images."""

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.assemblies.assembly import build_assembly, neuroid_coordinates, with_coordinates
from nsd_prep.core.parameters import ZScoreImages
from nsd_prep.core.threads import each_in_threads, return_freed_memory
from nsd_prep.dataset.published import REPETITIONS, VOXEL_COUNTS
from nsd_prep.dataset.space import SurfaceSpace, VolumeSpace
from nsd_prep.extraction.repetitions import averaged

#: Single-trial z-scores of a subject (1-based) and a region: float32, (n_images, 3, n_voxels).
Repetitions = Callable[[int, str], NDArray[np.float32]]

#: The one time bin, in milliseconds: a beta has no time course, and Brain-Score compares it with
#: what models give for these bounds.
TIME_BIN_START: Final = 70
TIME_BIN_END: Final = 170
#: Long names of the values of train and of test.
_TRAIN_VALUES: Final = (
    "response: z-score over a session's trials, mean of 3 trials, z-score over images"
)
_TEST_VALUES: Final = "response: z-score over a session's trials, of one trial, z-score over images"
#: Voxels whose second z-score is computed together.
_VOXELS_AT_ONCE: Final = 2048
#: Voxels of a region of a subject, beyond which no two are in memory: 25 MB each.
_VOXELS_OF_A_LARGE_REGION: Final = 4000


class TrainAndTest(NamedTuple):
    """The two assemblies of a benchmark, dims (presentation, neuroid, time_bin).

    Train has the repetition-averaged rows of the train images; test three single-trial rows for
    each test image, image-major, with coordinate ``repetition``.
    """

    train: xr.DataArray
    test: xr.DataArray


class ImageScale(NamedTuple):
    """What a voxel's second z-score subtracts and divides by.

    Attributes
    ----------
    mean, deviation : ndarray of float64, shape (n_voxels,)
        Over images, of the repetition-averaged rows; the deviation is the population SD, and 1
        where that is 0.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def apply(self, responses: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return responses (..., n_voxels), z-scored; 0 where there are no data, NaN."""
        scaled = np.empty(responses.shape, dtype=np.float32)
        for row, values in zip(scaled, responses, strict=True):  # float64 of one row at a time
            row[...] = (values - self.mean) / self.deviation
        scaled[np.isnan(scaled)] = 0
        return scaled


def scale_over_images(rows: NDArray[np.float32]) -> ImageScale:
    """Compute mean and SD of each voxel over images, of averaged rows (n_images, n_voxels).

    In float64: a constant voxel then has SD 0 exactly. Images without data, NaN, are left out.
    """
    mean, deviation = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    gaps = np.isnan(mean) & ~np.isnan(rows).all(axis=0)
    if gaps.any():
        mean[gaps] = np.nanmean(rows[:, gaps], axis=0, dtype=np.float64)
        deviation[gaps] = np.nanstd(rows[:, gaps], axis=0, dtype=np.float64)
    return ImageScale(mean, np.where(deviation == 0, 1, deviation))


def in_consumers_order(voxels: pd.DataFrame) -> pd.DataFrame:
    """Sort the neuroids of all regions, a row each, as Brain-Score's files do.

    Subject by subject, and within a subject V1, V2, V4, IT, then other regions in the order in
    which they first appear; on surfaces region by region, in this order, and within a region
    subject by subject. Subjects are in the order in which they first appear; within a region of a
    subject nothing is moved.
    """
    names = voxels["region"].unique().tolist()
    regions = [name for name in VOXEL_COUNTS if name in names]
    regions += [name for name in names if name not in regions]
    subjects = voxels["subject"].unique().tolist()
    region_rank = voxels["region"].map(regions.index).to_numpy()
    subject_rank = voxels["subject"].map(subjects.index).to_numpy()
    is_on_surface = "vertex_index" in voxels
    keys = (subject_rank, region_rank) if is_on_surface else (region_rank, subject_rank)
    return voxels.iloc[np.lexsort(keys)].reset_index(drop=True)


def blocks(neuroids: pd.DataFrame) -> Iterator[tuple[str, str, NDArray[np.intp]]]:
    """Go through the regions of each subject of a table with columns subject and region.

    Yields
    ------
    subject, region : str
        In the order in which subjects, then regions, first appear; only pairs that are there.
    rows : ndarray of int, shape (n_voxels,)
        Positions (0-based) of their neuroids, ascending.
    """
    subject_codes, subjects = pd.factorize(neuroids["subject"])
    region_codes, regions = pd.factorize(neuroids["region"])
    for subject_number, subject in enumerate(subjects):
        for region_number, region in enumerate(regions):
            inside = (subject_codes == subject_number) & (region_codes == region_number)
            rows = np.flatnonzero(inside)
            if len(rows):
                yield str(subject), str(region), rows


def train_and_test_form(
    voxels: pd.DataFrame,
    nsd_ids: NDArray[np.int64],
    is_train: NDArray[np.bool_],
    *,
    zscore_images: ZScoreImages = "all",
    attributes: Mapping[str, str | int | float],
) -> TrainAndTest:
    """Return the train and test assemblies without their values: 0 that take no memory.

    Arguments are those of `build_train_and_test`. Both have the same arrays of neuroids'
    coordinates, not copies.
    """
    ordered = in_consumers_order(voxels)
    space_type = SurfaceSpace if "vertex_index" in voxels else VolumeSpace
    attributes = {**attributes, "zscore_images": zscore_images}
    described = (attributes | {"long_name": name} for name in (_TRAIN_VALUES, _TEST_VALUES))
    train_ids, test_ids = nsd_ids[is_train], np.repeat(nsd_ids[~is_train], REPETITIONS)
    train, test = (
        build_assembly(
            np.broadcast_to(np.float32(0), (len(ids), len(ordered))),
            ids,
            ordered,
            of_half,
            space_type.coordinates,
        )
        for ids, of_half in zip((train_ids, test_ids), described, strict=True)
    )
    # One copy of what both say of the neuroids, of which there may be 260,000.
    shared = neuroid_coordinates(space_type.coordinates)
    test = test.assign_coords({name: train[name] for name in shared})
    repetition = np.arange(len(test_ids), dtype=np.int64) % REPETITIONS
    return TrainAndTest(_in_time_bin(train), _in_time_bin(test, repetition))


def train_and_test_values(
    single: NDArray[np.float32],
    is_train: NDArray[np.bool_],
    zscore_images: ZScoreImages = "all",
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute the columns of a region of a subject, each voxel z-scored once more, over images.

    Parameters
    ----------
    single : ndarray of float32, shape (n_images, 3, n_voxels)
        Single-trial z-scores.
    is_train, zscore_images
        As in `build_train_and_test`.

    Returns
    -------
    train : ndarray of float32, shape (n_train, n_voxels, 1)
    test : ndarray of float32, shape (3 * n_test, n_voxels, 1)
    """
    n_train, n_voxels = int(np.count_nonzero(is_train)), single.shape[2]
    train = np.empty((n_train, n_voxels), dtype=np.float32)
    test = np.empty((len(is_train) - n_train, REPETITIONS, n_voxels), dtype=np.float32)
    # In pieces of equal size: what lies between is in float64.
    edges = np.linspace(0, n_voxels, max(1, -(-n_voxels // _VOXELS_AT_ONCE)) + 1).astype(int)
    for piece in itertools.starmap(slice, itertools.pairwise(edges.tolist())):
        trials = single[:, :, piece]
        mean_rows = averaged(trials)
        scale = scale_over_images(mean_rows if zscore_images == "all" else mean_rows[is_train])
        train[:, piece] = scale.apply(mean_rows[is_train])
        test[:, :, piece] = scale.apply(trials[~is_train])
    return train[:, :, np.newaxis], test.reshape(-1, n_voxels, 1)


def fill_train_and_test(
    forms: TrainAndTest,
    repetitions: Repetitions,
    is_train: NDArray[np.bool_],
    zscore_images: ZScoreImages,
    write: Callable[[int, NDArray[np.float32], NDArray[np.float32]], None],
) -> None:
    """Compute the values of the train and test assemblies, two regions of subjects at a time.

    Parameters
    ----------
    forms : TrainAndTest
        As `train_and_test_form` gives them.
    repetitions, is_train, zscore_images
        As in `build_train_and_test`.
    write : callable
        Takes the column (0-based) from which on values stand, and the columns of train and of
        test, as `train_and_test_values` gives them. Called from two threads.

    Raises
    ------
    ValueError
        `repetitions` gives an array of another shape.
    """
    names = ("subject", "region")
    # A list: of 260,000 neuroids the names are not kept for as long as the values are computed.
    blocks_of_values = list(
        blocks(pd.DataFrame({name: forms.train[name].to_numpy() for name in names}))
    )
    only_large = threading.Lock()

    def fill(block: tuple[str, str, NDArray[np.intp]]) -> None:
        if len(block[2]) <= _VOXELS_OF_A_LARGE_REGION:
            fill_columns(*block)
            return
        with only_large:
            fill_columns(*block)
            return_freed_memory()

    def fill_columns(subject: str, region: str, rows: NDArray[np.intp]) -> None:
        single = repetitions(int(subject.removeprefix("subj")), region)
        expected = (len(is_train), REPETITIONS, len(rows))
        if single.shape != expected:
            raise ValueError(
                f"The responses of {subject} in {region} have shape {single.shape}: expected "
                f"{expected} (images, repetitions, voxels); give those of this run's images and "
                "voxels."
            )
        write(int(rows[0]), *train_and_test_values(single, is_train, zscore_images))

    each_in_threads(fill, blocks_of_values)


def build_train_and_test(
    repetitions: Repetitions,
    voxels: pd.DataFrame,
    nsd_ids: NDArray[np.int64],
    is_train: NDArray[np.bool_],
    *,
    zscore_images: ZScoreImages = "all",
    attributes: Mapping[str, str | int | float],
) -> TrainAndTest:
    """Build the train and test assemblies of any subjects and regions.

    Each voxel is z-scored once more, over images: mean and population SD of its
    repetition-averaged rows, applied to the train rows and to every repetition of the test images.

    Parameters
    ----------
    repetitions : callable
        ``repetitions(subject, region)`` gives float32 (n_images, 3, n_voxels): single-trial
        z-scores of a subject (1-based), voxels in the order of their rows in `voxels`. Called
        once for each subject and region, from two threads, and two results are held at a time.
    voxels : DataFrame
        Rows as `nsd_prep.assemblies.assembly.voxel_table` gives them, of all regions together.
    nsd_ids : ndarray of int64, shape (n_images,)
        0-based, ascending.
    is_train : ndarray of bool, shape (n_images,)
        The split.
    zscore_images : {"all", "train"}
        Over which images the second z-score is fitted. "all", the default, is what the published
        data have; with "train" nothing of the test images enters the train assembly.
    attributes : mapping of str to str or number
        What determines the data; `zscore_images` is added.

    Returns
    -------
    TrainAndTest
        With the same neuroids, as `in_consumers_order` sorts them.

    Raises
    ------
    ValueError
        `repetitions` gives an array of another shape.
    """
    forms = train_and_test_form(
        voxels, nsd_ids, is_train, zscore_images=zscore_images, attributes=attributes
    )
    built = TrainAndTest(*(form.copy(data=np.empty(form.shape, np.float32)) for form in forms))

    def write(start: int, *values: NDArray[np.float32]) -> None:
        for assembly, columns in zip(built, values, strict=True):
            assembly.to_numpy()[:, start : start + columns.shape[1]] = columns

    fill_train_and_test(forms, repetitions, is_train, zscore_images, write)
    return built


def _in_time_bin(
    assembly: xr.DataArray, repetition: NDArray[np.int64] | None = None
) -> xr.DataArray:
    """Add the time bin, and the repetition after nsd_id: the consumer's order of coordinates."""
    values: dict[str, tuple[str, NDArray[np.generic]]] = {}
    for name, given in assembly.coords.items():
        values[str(name)] = (str(given.dims[0]), given.to_numpy())
        if name == "nsd_id" and repetition is not None:
            values["repetition"] = ("presentation", repetition)
    values["time_bin_start"] = ("time_bin", np.array([TIME_BIN_START], dtype=np.int64))
    values["time_bin_end"] = ("time_bin", np.array([TIME_BIN_END], dtype=np.int64))
    return with_coordinates(
        xr.DataArray(
            assembly.to_numpy()[:, :, np.newaxis],
            dims=("presentation", "neuroid", "time_bin"),
            name=assembly.name,
            attrs=assembly.attrs,
        ),
        values,
    )
