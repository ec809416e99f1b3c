"""The encoding baseline: the truth scores 1, nothing scores 0, and features are read with care."""

from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from brainscore_inputs import Simulation, simulate, write_features
from scipy import stats
from sklearn.linear_model import RidgeCV
from synthetic_truth import signal

from nsd_prep.analysis.encoding import (
    ALPHAS,
    encoding_over_subjects,
    score_encoding,
    shift_of_ids,
    summarise_encoding,
)
from nsd_prep.analysis.features import Features, check_ids, parse_features, read_features
from nsd_prep.assemblies.train_test import TrainAndTest
from nsd_prep.core.errors import InputFileError, MissingFilesError
from nsd_prep.dataset.stimulus_table import count_images
from nsd_prep.report.figures.encoding import draw_encoding, encoding_figure
from nsd_prep.report.figures.style import booklet, one_style
from nsd_prep.report.sections import encoding_sections
from nsd_prep.sources.opening import open_dataset
from nsd_prep.synthetic import read_truth


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate(n_images=400, n_latents=6, n_voxels=30, ncsnr=(0.3, 2.0), seed=4)


@pytest.fixture(scope="module")
def built(simulation: Simulation) -> TrainAndTest:
    return simulation.build()


def for_both(features: Features) -> dict[int, Features]:
    return {1: features, 2: features}


def median_fraction(scores: pd.DataFrame, subject: str) -> float:
    item = scores[(scores["subject"] == subject) & (scores["noise_ceiling"] > 30)]
    return float(item["fraction_of_ceiling"].median())


class TestScores:
    def test_true_features_reach_the_ceiling(
        self, simulation: Simulation, built: TrainAndTest
    ) -> None:
        features = Features(simulation.nsd_ids, simulation.latents)
        scores = score_encoding(*built, for_both(features))
        for subject in ("subj01", "subj02"):
            assert median_fraction(scores, subject) == pytest.approx(1, abs=0.1)

    def test_random_features_score_nothing(
        self, simulation: Simulation, built: TrainAndTest
    ) -> None:
        values = np.random.default_rng(5).standard_normal((400, 6))
        scores = score_encoding(*built, for_both(Features(simulation.nsd_ids, values)))
        for subject in ("subj01", "subj02"):
            assert median_fraction(scores, subject) == pytest.approx(0, abs=0.05)

    def test_each_subject_has_features_of_its_own(
        self, simulation: Simulation, built: TrainAndTest
    ) -> None:
        values = np.random.default_rng(6).standard_normal((400, 6))
        own = {
            1: Features(simulation.nsd_ids, simulation.latents),
            2: Features(simulation.nsd_ids, values),
        }
        scores = score_encoding(*built, own)
        assert median_fraction(scores, "subj01") > 0.8
        assert median_fraction(scores, "subj02") < 0.2

    @pytest.mark.parametrize("n_features", [6, 192, 1500])
    def test_each_voxel_is_fitted_as_scikit_learn_fits_it(
        self, simulation: Simulation, built: TrainAndTest, n_features: int
    ) -> None:
        mixing = np.random.default_rng(n_features).standard_normal((6, n_features))
        values = simulation.latents @ mixing
        values += np.random.default_rng(7).standard_normal(values.shape)
        values[:, 1] = values[:, 0]
        features = Features(simulation.nsd_ids, values)
        scores = score_encoding(*built, for_both(features))
        fitted = features.select(built.train["nsd_id"].to_numpy())
        shown = features.select(built.test["nsd_id"].to_numpy()[::3])
        mean, deviation = fitted.mean(axis=0), fitted.std(axis=0)
        ridge = RidgeCV(alphas=ALPHAS, alpha_per_target=True)
        ridge.fit((fitted - mean) / deviation, built.train.to_numpy()[:, :, 0].astype(float))
        predicted = ridge.predict((shown - mean) / deviation)
        observed = built.test.to_numpy()[:, :, 0].reshape(len(shown), 3, -1).mean(axis=1)
        assert len(set(ridge.alpha_)) > 2
        assert scores["alpha"].tolist() == ridge.alpha_.tolist()
        for correlation, x, y in zip(scores["correlation"], predicted.T, observed.T, strict=True):
            assert correlation == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)

    def test_fraction_is_the_signed_square_over_the_noise_ceiling(
        self, simulation: Simulation, built: TrainAndTest
    ) -> None:
        features = Features(simulation.nsd_ids, simulation.latents[::-1])
        scores = score_encoding(*built, for_both(features))
        for row in scores.itertuples():
            expected = np.sign(row.correlation) * row.correlation**2 * 100 / row.noise_ceiling
            assert row.fraction_of_ceiling == pytest.approx(expected)
        assert (scores["fraction_of_ceiling"] < 0).any()

    def test_constant_voxels_and_features_give_no_nan(
        self, simulation: Simulation, built: TrainAndTest
    ) -> None:
        train, test = (one.copy(deep=True) for one in built)
        train[:, 3], test[:, 3] = 0, 0
        values = np.column_stack([simulation.latents, np.ones(400)])
        scores = score_encoding(train, test, for_both(Features(simulation.nsd_ids, values)))
        assert scores["correlation"].notna().all()
        assert scores["correlation"][3] == 0

    def test_more_features_than_images(self, simulation: Simulation, built: TrainAndTest) -> None:
        noise = np.random.default_rng(8).standard_normal((400, 400)) / 100
        values = np.column_stack([simulation.latents, noise])
        scores = score_encoding(*built, for_both(Features(simulation.nsd_ids, values)))
        assert np.isfinite(scores["correlation"]).all()

    def test_images_without_features(self, simulation: Simulation, built: TrainAndTest) -> None:
        features = Features(simulation.nsd_ids[:-7], simulation.latents[:-7])
        with pytest.raises(InputFileError, match=r"images have no features, nsd_id \d+"):
            score_encoding(*built, for_both(features))


class TestShiftOfIds:
    @pytest.fixture
    def of_all(self, simulation: Simulation) -> Features:
        """Return features of every image of a dataset of which some are in the assemblies."""
        ids = np.arange(-1, simulation.nsd_ids.max() + 3)
        values = np.random.default_rng(9).standard_normal((len(ids), 6))
        values[simulation.nsd_ids + 1] = simulation.latents
        return Features(ids, values)

    @pytest.mark.parametrize("added", [-1, 0, 1])
    def test_is_found_where_ids_are_off_by_one(
        self, of_all: Features, built: TrainAndTest, added: int
    ) -> None:
        features = for_both(Features(of_all.nsd_ids + added, of_all.values))
        scores = score_encoding(*built, features)
        assert shift_of_ids(*built, features, scores) == (-added or None)

    def test_is_not_found_in_features_that_predict_nothing(self, built: TrainAndTest) -> None:
        ids = np.arange(int(max(built.train["nsd_id"].max(), built.test["nsd_id"].max())) + 3)
        for seed in range(2):
            values = np.random.default_rng(seed).standard_normal((len(ids), 6))
            features = for_both(Features(ids, values))
            assert shift_of_ids(*built, features, score_encoding(*built, features)) is None

    def test_the_report_says_so(
        self, of_all: Features, built: TrainAndTest, caplog: pytest.LogCaptureFixture
    ) -> None:
        scores = score_encoding(*built, for_both(of_all))
        assert encoding_sections(scores, None, "F")[0].text.startswith("Ridge regression")
        text = encoding_sections(scores, -1, "the features of F")[0].text
        assert text.startswith("The ids of the features of F are off by one: ")
        assert "with -1 they do" in caplog.text


class TestIdsThatCountFromOne:
    def test_of_every_image_of_the_dataset(self) -> None:
        check_ids(np.arange(100), 100, "F")
        with pytest.raises(InputFileError, match=r"0 to 99, found 1 to 100; .*count from 1"):
            check_ids(np.arange(1, 101), 100, "F")

    def test_others_outside_are_refused_without_a_guess(self) -> None:
        with pytest.raises(
            InputFileError, match=r"nsd_id 250 first.*give the ids of the dataset's"
        ):
            check_ids(np.array([3, 250]), 100, "F")

    def test_of_the_assemblies_images_alone(self, simulation: Simulation) -> None:
        features = Features(simulation.nsd_ids + 1, simulation.latents)
        with pytest.raises(InputFileError, match="seem to count from 1; subtract 1"):
            features.select(simulation.nsd_ids)

    def test_of_a_dataset_by_its_stimulus_table(self, tiny_nsd: Path) -> None:
        dataset = open_dataset(tiny_nsd)
        n_images = count_images(dataset)
        assert n_images == len(pd.read_csv(dataset.stimulus_table))
        assert count_images(replace(dataset, is_nsd=True)) == 73_000


class TestSummary:
    SCORES = pd.DataFrame(
        {
            "subject": ["subj02", "subj02", "subj02", "subj02", "subj01"],
            "region": ["V1", "V1", "V1", "IT", "V1"],
            "noise_ceiling": [40.0, 60.0, 30.0, 20.0, 50.0],
            "correlation": [0.2, 0.4, 0.9, 0.5, 0.6],
            "fraction_of_ceiling": [0.1, 0.3, 2.7, 1.2, 0.7],
        }
    )

    def test_medians_are_over_reliable_voxels(self) -> None:
        summary = summarise_encoding(self.SCORES)
        assert summary[["region", "subject"]].to_numpy().tolist() == [
            ["V1", "subj02"],
            ["V1", "subj01"],
            ["IT", "subj02"],
        ]
        first = summary.iloc[0]
        assert (first["voxels"], first["reliable_voxels"]) == (3, 2)
        assert first["median_fraction_of_ceiling"] == pytest.approx(0.2)
        assert first["median_noise_ceiling"] == pytest.approx(50)
        assert first["median_correlation"] == pytest.approx(0.3)

    @pytest.mark.filterwarnings("error")
    def test_intervals_over_subjects(self) -> None:
        medians = [0.2, 0.3, 0.25, 0.4, np.nan]
        summary = pd.DataFrame(
            {"region": ["V1"] * 5 + ["IT"] * 2, "median_correlation": [*medians, 0.1, np.nan]}
        )
        v1, it = encoding_over_subjects(summary).itertuples()
        assert (v1.region, v1.subjects) == ("V1", 4)
        assert v1.mean_correlation == pytest.approx(0.2875)
        low, high = stats.t.interval(0.95, 3, loc=0.2875, scale=stats.sem(medians[:4]))
        assert (v1.low_subjects, v1.high_subjects) == pytest.approx((low, high), abs=0.02)
        assert it.subjects == 1
        assert np.isnan([it.low_subjects, it.high_subjects]).all()

    @pytest.mark.filterwarnings("error")
    def test_a_region_without_reliable_voxels_has_no_mean(self) -> None:
        summary = pd.DataFrame({"region": ["IT"], "median_correlation": [np.nan]})
        (row,) = encoding_over_subjects(summary).itertuples()
        assert row.subjects == 0
        assert np.isnan([row.mean_correlation, row.low_subjects, row.high_subjects]).all()

    def test_no_reliable_voxel(self) -> None:
        last = summarise_encoding(self.SCORES).iloc[-1]
        assert last["reliable_voxels"] == 0
        assert np.isnan(last["median_fraction_of_ceiling"])


class TestFigure:
    def test_has_a_panel_for_each_region(self) -> None:
        with one_style():
            figure = encoding_figure(TestSummary.SCORES)
        assert [panel.get_title() for panel in figure.axes][:2] == ["V1", "IT"]
        labels = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
        assert labels == ["2\n2", "1\n1"]

    def test_a_user_s_settings_change_no_byte(self) -> None:
        drawn = draw_encoding(TestSummary.SCORES)
        mine = {"font.size": 20, "axes.facecolor": "red", "lines.linewidth": 5, "axes.grid": True}
        with matplotlib.rc_context(mine):
            again = draw_encoding(TestSummary.SCORES)
        assert drawn.png[:8] == b"\x89PNG\r\n\x1a\n"
        assert (again.png, booklet([again])) == (drawn.png, booklet([drawn]))


def test_latents_drive_the_voxels(tiny_nsd: Path) -> None:
    truth = read_truth(tiny_nsd)
    for subject, voxels in truth.subjects.items():
        nsd_ids = truth.design.sharedix[[3, 0, 8]] - 1
        features = Features(*truth.latents(subject)).select(nsd_ids)
        expected = (features @ voxels.tuning.T) * voxels.signal_strength
        np.testing.assert_allclose(signal(truth, subject, nsd_ids), expected, rtol=1e-4, atol=1e-5)


class TestFeaturesFile:
    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        features = Features(np.array([7, 3, 12]), np.arange(6.0).reshape(3, 2))
        write_features(tmp_path / "features.nc", features)
        again = read_features(tmp_path / "features.nc")
        np.testing.assert_array_equal(again.select(np.array([3, 7])), [[2, 3], [0, 1]])

    def test_bytes_are_parsed_as_the_file_is_read(self, tmp_path: Path) -> None:
        features = Features(np.array([7, 3, 12]), np.arange(6.0).reshape(3, 2))
        write_features(tmp_path / "features.nc", features)
        content = (tmp_path / "features.nc").read_bytes()
        parsed = parse_features(content, "a name")
        np.testing.assert_array_equal(parsed.values, features.values)
        np.testing.assert_array_equal(parsed.nsd_ids, features.nsd_ids)
        with pytest.raises(InputFileError, match="features file a name cannot be read"):
            parse_features(content[:200], "a name")

    def test_stimulus_id_alone_will_do(self, tmp_path: Path) -> None:
        xr.DataArray(
            np.ones((2, 3), dtype=np.float32),
            dims=("image", "unit"),
            coords={"stimulus_id": ("image", np.array(["nsd_00012", "nsd_00004"], dtype=object))},
            name="layer",
        ).to_netcdf(tmp_path / "features.nc")
        assert read_features(tmp_path / "features.nc").nsd_ids.tolist() == [12, 4]

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFilesError, match=r"features\.nc is missing"):
            read_features(tmp_path / "features.nc")

    def test_not_netcdf(self, tmp_path: Path) -> None:
        (tmp_path / "features.nc").write_text("a,b\n")
        with pytest.raises(InputFileError, match="cannot be read"):
            read_features(tmp_path / "features.nc")

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (xr.DataArray(np.ones((2, 3)), dims=("a", "b"), name="x"), "coordinates none"),
            (
                xr.DataArray(
                    np.ones((2, 3)), dims=("a", "b"), coords={"nsd_id": ("b", [1, 2, 3])}, name="x"
                ),
                "expected netCDF with one variable",
            ),
            (
                xr.DataArray(np.ones(2), dims="a", coords={"nsd_id": ("a", [1, 2])}, name="x"),
                "images by features",
            ),
            (
                xr.DataArray([["x"]], dims=("a", "b"), coords={"nsd_id": ("a", [1])}, name="x"),
                "images by features",
            ),
            (
                xr.DataArray([[1.0]], dims=("a", "b"), coords={"nsd_id": ("a", [1e300])}, name="x"),
                "names an image '1e\\+300'",
            ),
            (
                xr.DataArray([[1.0]], dims=("a", "b"), coords={"nsd_id": ("a", [-1])}, name="x"),
                "names an image '-1'",
            ),
            (
                xr.DataArray(
                    [[1, np.nan]], dims=("a", "b"), coords={"nsd_id": ("a", [1])}, name="x"
                ),
                "1 value that is not finite",
            ),
            (
                xr.DataArray(
                    np.ones((2, 1)), dims=("a", "b"), coords={"nsd_id": ("a", [1, 1])}, name="x"
                ),
                "1 image more than once",
            ),
        ],
    )
    def test_another_form(self, tmp_path: Path, array: xr.DataArray, message: str) -> None:
        array.to_netcdf(tmp_path / "features.nc")
        with pytest.raises(InputFileError, match=message):
            read_features(tmp_path / "features.nc")

    def test_unreadable_stimulus_ids(self, tmp_path: Path) -> None:
        xr.DataArray(
            np.ones((2, 1)),
            dims=("a", "b"),
            coords={"stimulus_id": ("a", np.array(["nsd_x", "coco_3"], dtype=object))},
            name="x",
        ).to_netcdf(tmp_path / "features.nc")
        with pytest.raises(InputFileError, match="nsd_x"):
            read_features(tmp_path / "features.nc")
