"""The train and test assemblies have the form and the numbers that Brain-Score expects."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from brainscore_inputs import Simulation, simulate
from scipy.stats import pearsonr

from nsd_prep.assemblies.assembly import build_assembly
from nsd_prep.assemblies.assembly_file import read_assembly, write_assembly
from nsd_prep.assemblies.train_test import TrainAndTest, build_train_and_test
from nsd_prep.checks.registry import describe
from nsd_prep.checks.train_test import check_agreement, check_train_and_test, internal_consistency

NEUROID = ["neuroid_id", "subject", "region", "nc_testset", "voxel_x", "voxel_y", "voxel_z"]
TIME = ["time_bin_start", "time_bin_end"]


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate(subjects=(2, 1))


@pytest.fixture(scope="module")
def built(simulation: Simulation) -> TrainAndTest:
    return simulation.build()


def plain(simulation: Simulation, over: str = "all") -> dict[str, dict[int, list[np.ndarray]]]:
    """A second z-score as the contract says it, neuroid by neuroid: averaged row, three rows."""
    found: dict[str, dict[int, list[np.ndarray]]] = {}
    for (subject, region), trials in simulation.responses.items():
        for voxel in range(trials.shape[2]):
            single = [[float(x) for x in image[:, voxel]] for image in trials]
            means = [sum(three) / 3 for three in single]
            fitted = [
                m
                for m, in_train in zip(means, simulation.is_train, strict=True)
                if in_train or over == "all"
            ]
            centre = sum(fitted) / len(fitted)
            spread = (sum((m - centre) ** 2 for m in fitted) / len(fitted)) ** 0.5 or 1.0
            found[f"subj{subject:02d}_{region}_v{voxel:04d}"] = {
                int(nsd_id): [
                    np.array((mean - centre) / spread),
                    (np.array(three) - centre) / spread,
                ]
                for nsd_id, mean, three in zip(simulation.nsd_ids, means, single, strict=True)
            }
    return found


class TestForm:
    def test_dimensions_and_type(self, simulation: Simulation, built: TrainAndTest) -> None:
        n_train = int(simulation.is_train.sum())
        n_test = len(simulation.nsd_ids) - n_train
        for assembly, rows in ((built.train, n_train), (built.test, 3 * n_test)):
            assert assembly.dims == ("presentation", "neuroid", "time_bin")
            assert assembly.shape == (rows, len(simulation.voxels), 1)
            assert assembly.dtype == np.float32
            assert not assembly.indexes

    def test_coordinates_are_these_and_no_others(self, built: TrainAndTest) -> None:
        assert list(built.train.coords) == ["stimulus_id", "nsd_id", *NEUROID, *TIME]
        assert list(built.test.coords) == ["stimulus_id", "nsd_id", "repetition", *NEUROID, *TIME]
        along = [n for n, c in built.test.coords.items() if c.dims == ("presentation",)]
        assert along == ["stimulus_id", "nsd_id", "repetition"]

    def test_types_of_coordinates(self, built: TrainAndTest) -> None:
        for name in ("nsd_id", "repetition", "voxel_x", "voxel_y", "voxel_z"):
            assert built.test[name].dtype == np.int64
        assert built.train["nc_testset"].dtype == np.float64
        for name in ("stimulus_id", "neuroid_id", "subject", "region"):
            assert all(isinstance(value, str) for value in built.train[name].to_numpy())

    def test_one_time_bin_from_70_to_170(self, built: TrainAndTest) -> None:
        for assembly in built:
            assert assembly["time_bin_start"].to_numpy().tolist() == [70]
            assert assembly["time_bin_end"].to_numpy().tolist() == [170]

    def test_neuroids_are_subject_major_and_the_same_in_both(
        self, simulation: Simulation, built: TrainAndTest
    ) -> None:
        expected = [
            f"subj{subject:02d}_{region}_v{voxel:04d}"
            for subject in (2, 1)
            for region in ("V1", "V2", "V4", "IT")
            for voxel in range(simulation.responses[subject, region].shape[2])
        ]
        assert built.train["neuroid_id"].to_numpy().tolist() == expected
        assert built.test["neuroid_id"].to_numpy().tolist() == expected

    def test_neuroid_coordinates_are_those_of_the_voxel_table(
        self, simulation: Simulation, built: TrainAndTest
    ) -> None:
        table = simulation.voxels.set_index("neuroid_id")
        for name in ("subject", "region", "voxel_x", "voxel_y", "voxel_z"):
            expected = table.loc[built.train["neuroid_id"].to_numpy(), name].to_numpy()
            assert built.train[name].to_numpy().tolist() == expected.tolist()

    def test_regions_come_in_the_published_order_then_as_given(self) -> None:
        built = simulate(regions=("FFA", "IT", "V1"), subjects=(3,)).build()
        assert list(dict.fromkeys(built.train["region"].to_numpy())) == ["V1", "IT", "FFA"]

    def test_test_rows_are_image_major(self, simulation: Simulation, built: TrainAndTest) -> None:
        test_ids = simulation.nsd_ids[~simulation.is_train].tolist()
        assert built.test["nsd_id"].to_numpy().tolist() == [i for i in test_ids for _ in range(3)]
        assert built.test["repetition"].to_numpy().tolist() == [0, 1, 2] * len(test_ids)
        assert built.train["nsd_id"].to_numpy().tolist() == sorted(
            simulation.nsd_ids[simulation.is_train].tolist()
        )
        assert built.train["stimulus_id"].to_numpy()[0] == f"nsd_{built.train['nsd_id'][0]:05d}"

    def test_train_and_test_share_no_image(self, built: TrainAndTest) -> None:
        train, test = (set(one["stimulus_id"].to_numpy()) for one in built)
        assert not train & test
        assert len(train | test) == 40

    def test_halves_say_what_their_rows_are(self, built: TrainAndTest) -> None:
        assert "mean of 3 trials" in built.train.attrs["long_name"]
        assert "of one trial" in built.test.attrs["long_name"]
        assert built.test["time_bin_start"].attrs["units"] == "ms"
        for assembly in built:
            assert all(values.attrs["long_name"] for values in assembly.coords.values())

    def test_attributes_survive_the_file(self, built: TrainAndTest, tmp_path: Path) -> None:
        write_assembly(built.test, tmp_path / "test.nc")
        again = read_assembly(tmp_path / "test.nc")
        xr.testing.assert_identical(again, built.test)
        assert list(again.coords) == list(built.test.coords)
        assert {
            "dataset": "NSD",
            "zscore_images": "all",
            "units": "1",
        }.items() <= again.attrs.items()


class TestNumbers:
    @pytest.mark.parametrize("over", ["all", "train"])
    def test_values_are_those_of_a_plain_second_z_score(
        self, simulation: Simulation, over: str
    ) -> None:
        built = simulation.build(zscore_images=over)
        truth = plain(simulation, over)
        for column, neuroid in enumerate(built.train["neuroid_id"].to_numpy()):
            item = truth[neuroid]
            for row, nsd_id in enumerate(built.train["nsd_id"].to_numpy()):
                assert built.train[row, column, 0] == pytest.approx(item[nsd_id][0], abs=1e-5)
            for row, nsd_id in enumerate(built.test["nsd_id"].to_numpy()):
                expected = item[nsd_id][1][row % 3]
                assert built.test[row, column, 0] == pytest.approx(expected, abs=1e-5)

    @pytest.mark.parametrize("over", ["all", "train"])
    def test_pieces_of_a_region_give_the_same_bits(
        self, simulation: Simulation, over: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = simulation.build(zscore_images=over)
        monkeypatch.setattr("nsd_prep.assemblies.train_test._VOXELS_AT_ONCE", 3)
        for one, other in zip(whole, simulation.build(zscore_images=over), strict=True):
            xr.testing.assert_identical(one, other)

    def test_averaged_rows_of_all_images_have_mean_0_and_deviation_1(
        self, built: TrainAndTest
    ) -> None:
        train, test = (one.to_numpy()[:, :, 0].astype(float) for one in built)
        rows = np.concatenate([train, test.reshape(-1, 3, test.shape[1]).mean(axis=1)])
        np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(rows.std(axis=0), 1, atol=1e-6)

    def test_fitted_on_train_alone_nothing_of_test_enters_train(
        self, simulation: Simulation
    ) -> None:
        other = {key: trials.copy() for key, trials in simulation.responses.items()}
        for trials in other.values():
            trials[~simulation.is_train] += 3
        changed = Simulation(
            simulation.nsd_ids, simulation.is_train, simulation.latents, simulation.voxels, other
        )
        first, second = (one.build(zscore_images="train") for one in (simulation, changed))
        np.testing.assert_array_equal(first.train.to_numpy(), second.train.to_numpy())
        assert not np.allclose(first.train, simulation.build().train)

    def test_a_voxel_without_variance_is_divided_by_1(self, simulation: Simulation) -> None:
        constant = {key: trials.copy() for key, trials in simulation.responses.items()}
        constant[1, "V2"][:, :, 3] = np.float32(0.1)
        built = Simulation(
            simulation.nsd_ids, simulation.is_train, simulation.latents, simulation.voxels, constant
        ).build()
        column = built.train["neuroid_id"].to_numpy().tolist().index("subj01_V2_v0003")
        for assembly in built:
            # Averaging three float32 may leave its last digit.
            np.testing.assert_allclose(assembly.to_numpy()[:, column], 0, atol=1e-7)

    def test_responses_of_another_shape_are_refused(self, simulation: Simulation) -> None:
        with pytest.raises(ValueError, match=r"subj02 in V1 have shape \(40, 3, 1\): expected"):
            build_train_and_test(
                lambda subject, region: simulation.repetitions(subject, region)[:, :, :1],
                simulation.voxels,
                simulation.nsd_ids,
                simulation.is_train,
                attributes={},
            )

    def test_each_subject_and_region_is_asked_for_once(self, simulation: Simulation) -> None:
        asked = []

        def repetitions(subject: int, region: str) -> np.ndarray:
            asked.append((subject, region))
            return simulation.repetitions(subject, region)

        build_train_and_test(
            repetitions,
            simulation.voxels,
            simulation.nsd_ids,
            simulation.is_train,
            attributes={},
        )
        # In the order of the neuroids, but for which of two threads comes first.
        assert sorted(asked) == sorted((s, r) for s in (2, 1) for r in ("V1", "V2", "V4", "IT"))


def regions_of(simulation: Simulation) -> dict[str, xr.DataArray]:
    found = {}
    for region, table in simulation.voxels.groupby("region", sort=False):
        rows = [
            trials.mean(axis=1) for (_, r), trials in simulation.responses.items() if r == region
        ]
        found[str(region)] = build_assembly(np.hstack(rows), simulation.nsd_ids, table, {})
    return found


class TestChecks:
    def failed(self, simulation: Simulation, built: TrainAndTest) -> list[str]:
        checks = check_train_and_test(built, simulation.nsd_ids, simulation.is_train)
        checks += [
            check_agreement(built, region, assembly, simulation.is_train)
            for region, assembly in regions_of(simulation).items()
        ]
        return [one.name for one in checks if one.verdict != "passed"]

    @pytest.mark.parametrize("over", ["all", "train"])
    def test_sound_assemblies_pass(self, simulation: Simulation, over: str) -> None:
        assert self.failed(simulation, simulation.build(zscore_images=over)) == []

    def test_one_more_presentation_coordinate_fails(
        self, simulation: Simulation, built: TrainAndTest
    ) -> None:
        session = ("presentation", np.arange(built.test.sizes["presentation"]))
        test = built.test.assign_coords(session=session)
        assert self.failed(simulation, TrainAndTest(built.train, test)) == ["coordinates"]

    @pytest.mark.parametrize("alone", [(0,), (1,), (2,), (1, 2)])
    def test_a_reliable_voxel_whose_halves_cannot_be_correlated_fails(
        self, simulation: Simulation, built: TrainAndTest, alone: tuple[int, ...]
    ) -> None:
        reliable = np.flatnonzero(built.train["nc_testset"].to_numpy() > 30)[0]
        test = built.test.copy(deep=True)
        for repetition in alone:
            test[repetition::3, reliable] = 0.25
        failed = self.failed(simulation, TrainAndTest(built.train, test))
        assert "every reliable voxel has a ceiling" in failed

    def test_a_constant_mean_of_repetitions_that_vary_has_a_ceiling(
        self, simulation: Simulation, built: TrainAndTest
    ) -> None:
        # As one repetition against the two others then correlates at -1, which is no NaN.
        reliable = np.flatnonzero(built.train["nc_testset"].to_numpy() > 30)[0]
        test = built.test.copy(deep=True)
        test[2::3, reliable] = -(test[::3, reliable].to_numpy() + test[1::3, reliable].to_numpy())
        failed = self.failed(simulation, TrainAndTest(built.train, test))
        assert failed == ["agrees with the region's assembly"]

    def test_two_test_images_are_enough(self) -> None:
        few = simulate(n_images=10, subjects=(1,))
        assert (~few.is_train).sum() == 2
        assert self.failed(few, few.build()) == []
        lacking = {key: trials.copy() for key, trials in few.responses.items()}
        reliable = few.voxels["noise_ceiling"].to_numpy() > 30
        in_v1 = few.voxels["region"].to_numpy() == "V1"
        voxel = int(np.flatnonzero((reliable & in_v1)[in_v1])[0])
        test_rows = np.flatnonzero(~few.is_train)
        one_dead = Simulation(few.nsd_ids, few.is_train, few.latents, few.voxels, lacking)
        lacking[1, "V1"][test_rows[0], 1, voxel] = 0  # one trial in a session without data
        assert self.failed(one_dead, one_dead.build()) == []
        lacking[1, "V1"][test_rows, 1, voxel] = 0  # both images' second trials in such sessions
        assert self.failed(one_dead, one_dead.build()) == ["every reliable voxel has a ceiling"]
        for without_data, advised in ((1, True), (0, False)):
            table = few.voxels.assign(sessions_without_data=without_data)
            found = check_train_and_test(one_dead.build(), few.nsd_ids, few.is_train, table)[-1]
            assert ('invalid_voxels="drop"' in describe(found).meaning) == advised

    def test_no_reliable_voxel_is_sound(self) -> None:
        weak = simulate(ncsnr=(0.05, 0.1))
        assert self.failed(weak, weak.build()) == []

    def test_one_test_image_cannot_decide(self) -> None:
        few = simulate(n_images=5, subjects=(1,))
        found = check_train_and_test(few.build(), few.nsd_ids, few.is_train)
        assert [one.name for one in found if one.verdict == "not decidable"] == [
            "every reliable voxel has a ceiling"
        ]
        assert not [one for one in found if one.verdict == "failed"]

    def test_an_unreliable_voxel_without_variance_passes_that_check(
        self, simulation: Simulation, built: TrainAndTest
    ) -> None:
        unreliable = np.flatnonzero(built.train["nc_testset"].to_numpy() <= 30)[0]
        train = built.train.copy(deep=True)
        train[:, unreliable] = 0
        failed = self.failed(simulation, TrainAndTest(train, built.test))
        assert failed == ["agrees with the region's assembly"]

    def test_shuffled_test_rows_fail(self, simulation: Simulation, built: TrainAndTest) -> None:
        order = np.arange(built.test.sizes["presentation"]).reshape(-1, 3).T.ravel()
        failed = self.failed(simulation, TrainAndTest(built.train, built.test[order]))
        assert {"images", "repetitions apart"} <= set(failed)

    def test_nan_fails(self, simulation: Simulation, built: TrainAndTest) -> None:
        train = built.train.copy(deep=True)
        train[0, 0] = np.nan
        assert "no NaN" in self.failed(simulation, TrainAndTest(train, built.test))

    def test_neuroids_in_another_order_fail(
        self, simulation: Simulation, built: TrainAndTest
    ) -> None:
        test = built.test[:, ::-1]
        assert "same neuroids" in self.failed(simulation, TrainAndTest(built.train, test))


@pytest.mark.parametrize(
    ("subjects", "n_images", "train_rows", "test_rows"),
    [(tuple(range(1, 9)), 515, 412, 309), ((1, 2, 5, 7), 1000, 800, 600)],
)
def test_published_numbers_of_rows(
    subjects: tuple[int, ...], n_images: int, train_rows: int, test_rows: int
) -> None:
    simulation = simulate(subjects=subjects, regions=("V4",), n_images=n_images)
    built = simulation.build()
    assert (built.train.shape[0], built.test.shape[0]) == (train_rows, test_rows)


def test_internal_consistency_is_the_corrected_correlation_of_each_halving() -> None:
    generator = np.random.default_rng(3)
    trials = generator.standard_normal((9, 1, 4)) + 0.5 * generator.standard_normal((9, 3, 4))
    found = internal_consistency(trials.astype(np.float32))
    for alone, others in ((0, [1, 2]), (1, [0, 2]), (2, [0, 1])):
        for voxel in range(4):
            rest = trials[:, others, voxel].mean(axis=1)
            r = pearsonr(trials[:, alone, voxel], rest).statistic
            assert found[alone, voxel] == pytest.approx(2 * r / (1 + r), abs=1e-5)
