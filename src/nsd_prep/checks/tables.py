"""Do the tables that people read say what the assemblies and trials do? Rows meet on their keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.checks.trials import SingleTrials
from nsd_prep.core.check import Check, Kind, Threshold
from nsd_prep.dataset.published import RELIABLE_NOISE_CEILING, REPETITIONS

#: Voxels of a subject's region whose split-half correlation is computed again.
VOXELS_RECOMPUTED: Final = 5
#: By so much may a value differ: the library's sums are those of float32.
_TOLERANCE: Final = 1e-4
TABLES_OF_DATA: Final = Kind(
    name="tables agree with the data",
    scope="table",
    measures="rows that differ: voxels.csv and noise_ceilings.csv from the assemblies' "
    "coordinates, trials.csv from their images, sessions.csv from the voxels without data, "
    f"reliability.csv from the single trials of {VOXELS_RECOMPUTED} random voxels of each region "
    "and subject; all joined on keys",
    conditions={"failed": "any row", "passed": "none"},
    value="rows that differ: {measured:.0f}",
    expectation="none",
    lower=0,
    upper=0,
    unit="rows",
    meanings={
        "passed": "Computed again, and joined by subject, region and {site}, the values are those "
        "of the table.",
        "failed": "The table contradicts the assemblies and trials: do not use it, and report it "
        "with the output of 'nsd-prep --version'.",
    },
    thresholds=(
        Threshold("tolerance of a value", _TOLERANCE, "sums of float32 differ in their order"),
    ),
)


@dataclass(frozen=True)
class SplitHalfSample:
    """Split-half correlations of some voxels of a subject's region, computed for each alone.

    Attributes
    ----------
    voxels : ndarray of int64, shape (n_sampled,)
        Which of the region's voxels (0-based).
    correlation : ndarray of float64, shape (n_sampled,)
        Mean Pearson r over images between two of the three repetitions.
    """

    voxels: NDArray[np.int64]
    correlation: NDArray[np.float64]


def sample_split_half(trials: SingleTrials, seed: int = 0) -> SplitHalfSample:
    """Correlate the repetitions of a few voxels, taken at random from those with all data."""
    responses = trials.responses
    complete = np.flatnonzero(~np.any(trials.without_data, axis=0))
    generator = np.random.default_rng(seed)
    some = np.sort(generator.permutation(complete)[:VOXELS_RECOMPUTED])
    some = some[(responses[:, :, some].std(axis=0) > 0).all(axis=0)]
    upper = np.triu_indices(REPETITIONS, k=1)
    correlation = [
        np.atleast_2d(np.corrcoef(responses[:, :, voxel].T))[upper].mean() for voxel in some
    ]
    return SplitHalfSample(some, np.array(correlation, dtype=np.float64))


def check_reliability_table(table: pd.DataFrame, sampled: pd.DataFrame) -> Check:
    """Check ``reliability.csv`` against the correlations of voxels that were sampled."""
    keys = [name for name in sampled.columns if name != "split_half_correlation"]
    expected = sampled.set_index(keys)
    rows = table.set_index(keys)
    return _check(
        "reliability.csv", _differing(rows.loc[rows.index.isin(expected.index)], expected)
    )


def check_voxels_table(
    table: pd.DataFrame, assemblies: Mapping[str, xr.DataArray], coordinates: Sequence[str]
) -> Check:
    """Check ``voxels.csv``, as read, against the assemblies: ids, places, noise ceilings."""
    columns = {"subject": "subject", "region": "region", "noise_ceiling": "nc_testset"}
    columns |= {name: name for name in coordinates}
    expected = pd.concat(
        [
            pd.DataFrame(
                {name: assembly[source].to_numpy() for name, source in columns.items()},
                index=assembly["neuroid_id"].to_numpy(),
            )
            for assembly in assemblies.values()
        ]
    )
    expected["noise_ceiling"] = expected["noise_ceiling"].fillna(0)  # NaN on surfaces
    return _check("voxels.csv", _differing(table.set_index("neuroid_id")[list(columns)], expected))


def check_noise_ceilings_table(
    table: pd.DataFrame, assemblies: Mapping[str, xr.DataArray]
) -> Check:
    """Check ``noise_ceilings.csv``, as read, against the noise ceilings in the assemblies."""
    rows = []
    for region, assembly in assemblies.items():
        ceilings = np.nan_to_num(assembly["nc_testset"].to_numpy())
        subject_of = assembly["subject"].to_numpy()
        for subject in (*np.unique(subject_of), "all"):
            some = ceilings if subject == "all" else ceilings[subject_of == subject]
            reliable = int((some > RELIABLE_NOISE_CEILING).sum())
            rows.append((region, subject, len(some), reliable, float(np.median(some))))
    keys = ["region", "subject"]
    columns = [*keys, "voxels", "reliable_voxels", "median_noise_ceiling"]
    expected = pd.DataFrame(rows, columns=columns)
    return _check("noise_ceilings.csv", _differing(table.set_index(keys), expected.set_index(keys)))


def check_trials_table(
    table: pd.DataFrame, nsd_ids: NDArray[np.int64], subjects: Sequence[int]
) -> Check:
    """Check that ``trials.csv``, as read, has each image three times for each subject (1-based)."""
    usable = table[table["usable"]]
    repetitions = usable.groupby(["subject", "nsd_id"])["repetition"]
    rows = pd.DataFrame({"n": repetitions.size(), "sum": repetitions.sum()})
    names = [f"subj{subject:02d}" for subject in subjects]
    keys = pd.MultiIndex.from_product([names, nsd_ids], names=["subject", "nsd_id"])
    expected = pd.DataFrame(
        {"n": REPETITIONS, "sum": sum(range(REPETITIONS))}, index=keys, dtype=np.int64
    )
    return _check("trials.csv", _differing(rows, expected))


def check_sessions_table(table: pd.DataFrame, voxels: pd.DataFrame) -> Check:
    """Check ``sessions.csv``, as read: voxels without data, summed over sessions.

    `voxels` has a row for each voxel and region, also those that are no neuroids.
    """
    keys = ["subject", "region"]
    of_sessions, of_voxels = table.groupby(keys), voxels.groupby(keys)
    rows = pd.DataFrame(
        {
            "voxels": of_sessions["voxels"].max(),
            "least": of_sessions["voxels"].min(),
            "without_data": of_sessions["constant_voxels"].sum(),
        }
    )
    expected = pd.DataFrame(
        {
            "voxels": of_voxels.size(),
            "least": of_voxels.size(),
            "without_data": of_voxels["sessions_without_data"].sum(),
        }
    )
    return _check("sessions.csv", _differing(rows, expected))


def _differing(rows: pd.DataFrame, expected: pd.DataFrame) -> int:
    """Return how many keys are in one alone, are there twice, or have other values."""
    n_alone = 0
    if not (rows.index.is_unique and rows.index.equals(expected.index)):
        common = rows.index.intersection(expected.index)
        n_alone = len(rows) + len(expected) - 2 * len(common)
        if not (rows.index.is_unique and expected.index.is_unique):
            return n_alone
        rows, expected = rows.loc[common], expected.loc[common]
    wrong = np.zeros(len(rows), dtype=np.bool_)
    for name in expected.columns:
        left, right = (part[name].to_numpy() for part in (rows, expected))
        if expected[name].dtype.kind in "iuf":
            wrong |= ~np.isclose(left, right, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
        else:
            wrong |= left.astype(str) != right.astype(str)
    return n_alone + int(wrong.sum())


def _check(file: str, n_different: int) -> Check:
    return TABLES_OF_DATA.check(n_different == 0, data=file, measured=n_different)
