"""Checks of the tables that people read: a row under another key, or another value, is told."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from simulated_assemblies import simulate

from nsd_prep.checks.registry import describe
from nsd_prep.checks.tables import (
    check_noise_ceilings_table,
    check_reliability_table,
    check_sessions_table,
    check_trials_table,
    check_voxels_table,
    sample_split_half,
)
from nsd_prep.checks.trials import SingleTrials
from nsd_prep.pipeline.steps.tables import noise_ceiling_table

PLACES = ("voxel_x", "voxel_y", "voxel_z")


@pytest.fixture(scope="module")
def assemblies() -> dict[str, xr.DataArray]:
    return dict(simulate(subjects=(1, 2), n_images=6).assemblies())


@pytest.fixture
def voxels(assemblies: dict[str, xr.DataArray]) -> pd.DataFrame:
    names = ("neuroid_id", "subject", "region", "nc_testset", *PLACES)
    tables = [
        pd.DataFrame({name: assembly[name].to_numpy() for name in names})
        for assembly in assemblies.values()
    ]
    return pd.concat(tables, ignore_index=True).rename(columns={"nc_testset": "noise_ceiling"})


def rolled(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a table with a column's values under other rows."""
    return table.assign(**{column: np.roll(table[column].to_numpy(), 1)})


class TestVoxels:
    def test_order_does_not_matter(
        self, voxels: pd.DataFrame, assemblies: dict[str, xr.DataArray]
    ) -> None:
        shuffled = voxels.sample(frac=1, random_state=0)
        assert check_voxels_table(shuffled, assemblies, PLACES).verdict == "passed"

    @pytest.mark.parametrize("column", ["neuroid_id", "noise_ceiling", "subject", "region"])
    def test_a_column_by_position_is_told(
        self, voxels: pd.DataFrame, assemblies: dict[str, xr.DataArray], column: str
    ) -> None:
        wrong = check_voxels_table(rolled(voxels, column), assemblies, PLACES)
        assert (wrong.verdict, wrong.where) == ("failed", "voxels.csv")

    def test_a_missing_row_is_told(
        self, voxels: pd.DataFrame, assemblies: dict[str, xr.DataArray]
    ) -> None:
        found = check_voxels_table(voxels[1:], assemblies, PLACES)
        assert (found.verdict, describe(found).value) == ("failed", "rows that differ: 1")


class TestNoiseCeilings:
    @pytest.mark.parametrize(
        "column", ["voxels", "reliable_voxels", "median_noise_ceiling", "subject"]
    )
    def test_a_column_by_position_is_told(
        self, voxels: pd.DataFrame, assemblies: dict[str, xr.DataArray], column: str
    ) -> None:
        table = noise_ceiling_table(voxels)
        assert check_noise_ceilings_table(table, assemblies).verdict == "passed"
        table.loc[0, column] = {"subject": "subj08"}.get(column, table[column].iloc[0])
        if column != "subject":
            table.loc[0, column] += 1
        assert check_noise_ceilings_table(table, assemblies).verdict == "failed"


class TestTrials:
    def table(self) -> pd.DataFrame:
        rows = pd.MultiIndex.from_product(
            [["subj01", "subj02"], [7, 9], range(3)], names=["subject", "nsd_id", "repetition"]
        )
        return rows.to_frame(index=False).assign(usable=True)

    def test_each_image_three_times(self) -> None:
        assert check_trials_table(self.table(), np.array([7, 9]), [2, 1]).verdict == "passed"

    @pytest.mark.parametrize(
        ("column", "value"), [("nsd_id", 9), ("repetition", 2), ("usable", False)]
    )
    def test_another_image_or_repetition_is_told(self, column: str, value: int) -> None:
        table = self.table()
        table.loc[0, column] = value
        assert check_trials_table(table, np.array([7, 9]), [1, 2]).verdict == "failed"


class TestSessions:
    def test_voxels_without_data_are_those_of_the_voxels(self) -> None:
        voxels = pd.DataFrame(
            {"subject": "subj01", "region": ["V1", "V1", "V2"], "sessions_without_data": [0, 2, 1]}
        )
        table = pd.DataFrame(
            {
                "subject": "subj01",
                "session": [1, 1, 2, 2],
                "region": ["V1", "V2", "V1", "V2"],
                "voxels": [2, 1, 2, 1],
                "constant_voxels": [1, 0, 1, 1],
            }
        )
        assert check_sessions_table(table, voxels).verdict == "passed"
        assert check_sessions_table(rolled(table, "region"), voxels).verdict == "failed"


class TestReliability:
    @pytest.fixture
    def trials(self) -> SingleTrials:
        generator = np.random.default_rng(0)
        signal = generator.normal(size=(40, 1, 30))
        responses = (signal + generator.normal(size=(40, 3, 30))).astype(np.float32)
        responses[:, :, 3] = 0
        without_data = np.zeros((2, 30), np.bool_)
        without_data[1, 4] = True
        session = np.ones((40, 3), np.int64)
        return SingleTrials(
            responses,
            np.ones(30, np.float32),
            session,
            np.arange(120).reshape(40, 3),
            120,
            np.array([1, 2]),
            without_data,
        )

    def test_a_sample_is_of_voxels_with_data(self, trials: SingleTrials) -> None:
        seen = {
            int(voxel) for seed in range(40) for voxel in sample_split_half(trials, seed).voxels
        }
        assert seen == set(range(30)) - {3, 4}

    def test_correlations_under_other_voxels_are_told(self, trials: SingleTrials) -> None:
        responses = trials.responses.astype(np.float64)
        correlation = [
            np.corrcoef(responses[:, :, voxel].T)[np.triu_indices(3, k=1)].mean()
            if voxel != 3
            else np.nan
            for voxel in range(30)
        ]
        keys = pd.DataFrame({"subject": "subj01", "region": "V1", "voxel_x": np.arange(30)})
        table = keys.assign(split_half_correlation=correlation)
        sample = sample_split_half(trials)
        sampled = keys.iloc[sample.voxels].assign(split_half_correlation=sample.correlation)
        assert check_reliability_table(table, sampled).verdict == "passed"
        wrong = check_reliability_table(rolled(table, "split_half_correlation"), sampled)
        assert wrong.verdict == "failed"
