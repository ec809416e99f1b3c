"""Checks of assemblies: each passes on sound data and fails on the fault it is there for."""

import numpy as np
import pandas as pd
import pytest
import reference
import xarray as xr
from small_nsd import SmallNSD

from nsd_prep.assemblies.assembly import SubjectVoxels, build_assembly, stimulus_ids, voxel_table
from nsd_prep.checks.assembly import check_form, check_split
from nsd_prep.checks.assembly_values import (
    ValuesOfNeuroids,
    check_coverage,
    check_signal,
    values_of_neuroids,
)
from nsd_prep.checks.registry import describe
from nsd_prep.core.check import Check
from nsd_prep.dataset.noise_ceiling import noise_ceiling
from nsd_prep.dataset.space import VolumeSpace
from nsd_prep.dataset.splits import train_images

N_IMAGES, N_VOXELS = 120, 80
NSD_IDS = np.arange(0, 3 * N_IMAGES, 3, dtype=np.int64)
SUBJECTS = (5, 2)


def simulated(seed: int = 0, n_averaged: int = 3) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a voxel table and averaged z-scores whose spread is what their ncsnr says."""
    rng = np.random.default_rng(seed)
    tables = []
    parts = []
    for subject in SUBJECTS:
        signal = rng.uniform(0.2, 1.4, N_VOXELS)
        deviation = np.sqrt((signal**2 + 1 / n_averaged) / (1 + signal**2))
        parts.append(rng.normal(size=(N_IMAGES, N_VOXELS)) * deviation)
        tables.append(
            SubjectVoxels(
                subject=subject,
                space=VolumeSpace((10, 11, 12), np.eye(4)),
                voxels=np.arange(0, 7 * N_VOXELS, 7),
                ncsnr=signal.astype(np.float32),
                noise_ceiling=noise_ceiling(signal),
                sessions_without_data=np.zeros(N_VOXELS, dtype=np.int64),
            )
        )
    return voxel_table("V1", tables), np.concatenate(parts, axis=1).astype(np.float32)


@pytest.fixture
def voxels() -> pd.DataFrame:
    return simulated()[0]


@pytest.fixture
def assembly() -> xr.DataArray:
    voxels, responses = simulated()
    return build_assembly(responses, NSD_IDS, voxels, {})


def verdicts(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.verdict for check in checks}


def failed(checks: list[Check]) -> set[str]:
    return {check.name for check in checks if check.verdict == "failed"}


class TestForm:
    def found(self, assembly: xr.DataArray) -> set[str]:
        return failed(check_form("V1", assembly, SUBJECTS, NSD_IDS))

    def test_a_sound_assembly_passes_all(self, assembly: xr.DataArray) -> None:
        assert set(verdicts(check_form("V1", assembly, SUBJECTS, NSD_IDS)).values()) == {"passed"}

    def test_dimensions(self, assembly: xr.DataArray) -> None:
        assert "dimensions" in self.found(assembly.transpose())
        assert "dimensions" in self.found(assembly.astype(np.float64))
        assert "dimensions" in self.found(assembly[:-1])
        assert "dimensions" in self.found(assembly.assign_coords(presentation=NSD_IDS))

    def test_coordinates(self, assembly: xr.DataArray) -> None:
        more = assembly.assign_coords(session=("presentation", np.arange(N_IMAGES)))
        assert self.found(more) == {"coordinates"}
        assert self.found(assembly.drop_vars("voxel_y")) == {"coordinates"}

    def test_images(self, assembly: xr.DataArray) -> None:
        assert self.found(assembly[::-1]) == {"images"}

    def test_subjects(self, assembly: xr.DataArray) -> None:
        assert "subjects present" in self.found(assembly[:, :N_VOXELS])
        order = np.r_[N_VOXELS : 2 * N_VOXELS, 0:N_VOXELS]
        assert self.found(assembly[:, order]) == {"subjects present"}
        mixed = np.r_[0, N_VOXELS : 2 * N_VOXELS, 1:N_VOXELS]
        assert self.found(assembly[:, mixed]) == {"subjects present"}

    def test_unique_ids(self, assembly: xr.DataArray) -> None:
        assert self.found(assembly[:, [0, *range(2 * N_VOXELS)]]) == {"unique ids"}

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_values_that_are_not_finite(self, assembly: xr.DataArray, value: float) -> None:
        assembly[3, 4] = value
        (one,) = (
            item
            for item in check_form("V1", assembly, SUBJECTS, NSD_IDS)
            if item.verdict == "failed"
        )
        assert one.name == "no NaN"
        assert describe(one).value == "values that are not finite: 1"

    @pytest.mark.parametrize("ceiling", [-1.0, 100.5, np.nan])
    def test_noise_ceilings_out_of_range(self, assembly: xr.DataArray, ceiling: float) -> None:
        assembly["nc_testset"][4] = ceiling
        assert self.found(assembly) == {"noise ceiling in range"}

    def test_a_reliable_voxel_without_variance(self, assembly: xr.DataArray) -> None:
        assembly[:, 4] = 0.0
        assembly["nc_testset"][4] = 30.0
        assert self.found(assembly) == set()
        assembly["nc_testset"][4] = 30.1
        assert self.found(assembly) == {"no reliable voxel without variance"}


class TestValuesOfNeuroids:
    def test_are_the_same_of_some_neuroids_at_a_time(self, assembly: xr.DataArray) -> None:
        values = assembly.to_numpy()
        values[3, 4], values[5, 6], values[:, 8] = np.nan, -np.inf, 2
        parts = [values[:, :5], values[:, 5:7], values[:, 7:]]
        joined = ValuesOfNeuroids.joined([values_of_neuroids(part) for part in parts])
        whole = values_of_neuroids(values)
        for name in ("n_nan", "n_not_finite", "spread", "total", "squares"):
            one, other = getattr(joined, name), getattr(whole, name)
            assert np.array_equal(one, other, equal_nan=True), name
        assert (whole.n_nan.sum(), whole.n_not_finite.sum()) == (1, 2)
        assert whole.spread[8] == 0
        known = values[np.isfinite(values[:, 4]), 4].astype(np.float64)
        np.testing.assert_allclose(whole.squares[4], (known**2).sum())
        checks = (
            check_form("V1", assembly, SUBJECTS, NSD_IDS, values=joined),
            check_form("V1", assembly, SUBJECTS, NSD_IDS),
        )
        assert checks[0] == checks[1]


class TestSplit:
    def split(self) -> pd.DataFrame:
        side = np.where(train_images(N_IMAGES), "train", "test")
        return pd.DataFrame(
            {"stimulus_id": stimulus_ids(NSD_IDS), "nsd_id": NSD_IDS, "split": side}
        )

    def test_a_sound_split_passes(self) -> None:
        (one,) = check_split(NSD_IDS, self.split())
        assert one.verdict == "passed"
        assert describe(one).value == "96 train, 24 test"

    def test_faulty_splits_fail(self) -> None:
        split = self.split()
        doubled = pd.concat([split, split.iloc[[0]].assign(split="test")], ignore_index=True)
        other_word = split.assign(split=split["split"].replace("test", "validation"))
        faults = [split[1:], split[::-1], doubled, other_word, split.assign(split="train")]
        for fault in faults:
            assert failed(check_split(NSD_IDS, fault)) == {"split disjoint and complete"}


class TestSignal:
    def found(self, responses: np.ndarray, voxels: pd.DataFrame) -> dict[str, str]:
        return verdicts(check_signal("V1", values_of_neuroids(responses), voxels))

    def test_averages_of_three_repetitions_pass(self) -> None:
        voxels, responses = simulated()
        assert set(self.found(responses, voxels).values()) == {"passed"}

    @pytest.mark.parametrize("n_averaged", [1, 12])
    def test_another_number_of_repetitions_fails(self, n_averaged: int) -> None:
        voxels, responses = simulated(n_averaged=n_averaged)
        found = self.found(responses, voxels)
        assert found == {"deviation as predicted": "failed", "mean near 0": "passed"}

    def test_a_shifted_mean_fails(self) -> None:
        voxels, responses = simulated()
        found = self.found(responses + np.float32(0.15), voxels)
        assert found == {"deviation as predicted": "passed", "mean near 0": "failed"}

    def test_voxels_without_ncsnr_do_not_count_in_the_deviation(self) -> None:
        voxels, responses = simulated()
        without = np.arange(2 * N_VOXELS) % 3 == 0
        voxels.loc[without, "ncsnr"] = np.nan
        responses[:, without] = 0
        assert self.found(responses, voxels)["deviation as predicted"] == "passed"

    def test_few_images_or_voxels_decide_nothing(self) -> None:
        voxels, responses = simulated()
        undecided = {"deviation as predicted": "not decidable", "mean near 0": "not decidable"}
        assert self.found(responses[:49] * 5, voxels) == undecided
        assert self.found(responses[:, :49] * 5, voxels[:49]) == undecided
        voxels["ncsnr"] = np.nan
        assert self.found(responses, voxels) == undecided


class TestCoverage:
    n_sessions = {"subj05": 4, "subj02": 3}  # noqa: RUF012

    def found(self, voxels: pd.DataFrame) -> list[tuple[str, str]]:
        checks = check_coverage("V1", voxels, self.n_sessions)
        return [
            (check.where, check.verdict) for check in checks if check.name == "voxels with data"
        ]

    def test_a_tenth_without_data_passes_and_more_does_not(self, voxels: pd.DataFrame) -> None:
        passed = [("V1, subj05", "passed"), ("V1, subj02", "passed")]
        assert self.found(voxels) == passed
        voxels.loc[:3, "ncsnr"] = np.nan
        voxels.loc[4:7, "sessions_without_data"] = 4
        assert self.found(voxels) == passed
        voxels.loc[8, "ncsnr"] = np.nan
        assert self.found(voxels) == [("V1, subj05", "suspicious"), ("V1, subj02", "passed")]
        voxels.loc[:50, "ncsnr"] = np.nan
        assert self.found(voxels)[0] == ("V1, subj05", "failed")

    def test_a_voxel_with_data_in_one_session_has_data(self, voxels: pd.DataFrame) -> None:
        voxels.loc[:N_VOXELS, "sessions_without_data"] = 3
        assert self.found(voxels)[0] == ("V1, subj05", "passed")

    def test_an_ncsnr_of_exactly_0_is_data(self, voxels: pd.DataFrame) -> None:
        voxels["ncsnr"] = np.float32(0)
        assert {verdict for _, verdict in self.found(voxels)} == {"passed"}

    def test_a_share_of_a_large_region_fails(self, voxels: pd.DataFrame) -> None:
        large = pd.concat([voxels] * 4, ignore_index=True)
        large.loc[large.index[: len(large) // 3], "ncsnr"] = np.nan
        assert self.found(large)[0] == ("V1, subj05", "failed")

    @pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
    def test_a_mask_that_is_flipped_fails(self, official: SmallNSD, axes: tuple[int]) -> None:
        mask = reference.region_mask(official.roi_path(2, "prf-visualrois"), (1, 2, 3, 4, 5, 6, 7))
        ncsnr = official.ncsnr[2].transpose(2, 1, 0).copy()
        ncsnr[~mask] = np.nan  # everything else is out of the brain
        for used, verdict in ((mask, "passed"), (np.flip(mask, axes), "not")):
            places = np.flatnonzero(used)
            values = ncsnr.ravel()[places]
            none = np.zeros(len(places), dtype=np.int64)
            space = VolumeSpace(mask.shape, np.eye(4))
            item = SubjectVoxels(2, space, places, values, noise_ceiling(values), none)
            checks = check_coverage("V1", voxel_table("V1", [item]), {"subj02": 4})
            assert (checks[0].verdict == "passed") == (verdict == "passed")


def test_every_check_says_what_it_means(assembly: xr.DataArray, voxels: pd.DataFrame) -> None:
    checks = [
        *check_form("V1", assembly, SUBJECTS, NSD_IDS),
        *check_signal("V1", values_of_neuroids(assembly.to_numpy()), voxels),
        *check_coverage("V1", voxels, {"subj05": 4, "subj02": 3}),
    ]
    for check in checks:
        assert describe(check).meaning.endswith(".")
        assert describe(check).value
        assert describe(check).expectation
