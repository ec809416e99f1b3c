"""What a report shows of single trials: counts, reliability, one voxel."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import single_trials_reference as plain
from matplotlib.figure import Figure
from single_trials_inputs import Subject
from small_nsd import SmallNSD

from nsd_prep.checks.decision import Share, signal_share
from nsd_prep.checks.presentations import (
    compare_presentations,
    rows_of_presentations,
    share_of_presentations,
    telling_voxels,
    verdict_of_presentations,
)
from nsd_prep.core.errors import ParameterError
from nsd_prep.report.figures import single_trials as figures
from nsd_prep.report.figures.figure import ReportFigure
from nsd_prep.report.figures.single_trials import (
    draw_one_voxel,
    draw_reliability,
    draw_trials_by_session,
    trial_count_table,
)


@pytest.fixture
def subject(official: SmallNSD) -> Subject:
    return Subject.load(official, 5)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return a list that every figure is put into, instead of being rendered."""
    seen: list[Figure] = []

    def keep(figure: Figure, name: str, title: str, caption: str) -> ReportFigure:
        seen.append(figure)
        return ReportFigure(name, title, caption, 0, b"", b"")

    monkeypatch.setattr(figures, "picture", keep)
    return seen


class TestSessionTable:
    def test_counts_against_a_loop(self, official: SmallNSD, subject: Subject) -> None:
        counts = trial_count_table(subject.trials)
        rows = plain.trials(official, 5)
        assert counts.index.tolist() == [1, 2, 3]
        for session in counts.index:
            own = [row for row in rows if row["session"] == session]
            assert counts.loc[session, "trials"] == len(own) == 24
            assert counts.loc[session, "images"] == len({row["nsd_id"] for row in own})
            for repetition, name in enumerate(["first", "second", "third"]):
                seen = sum(row["repetition"] == repetition for row in own)
                assert counts.loc[session, name] == seen
            shared = sum(row["is_shared"] for row in own)
            assert counts.loc[session, "shared"] == counts.loc[session, "shared1000_test"] == shared


class TestReliability:
    @pytest.mark.parametrize("ending", [".nc", ".zarr"])
    def test_correlation_against_a_loop(
        self, official: SmallNSD, subject: Subject, tmp_path: Path, ending: str
    ) -> None:
        path = tmp_path / f"subj05{ending}"
        subject.write(path, format={".nc": "netcdf", ".zarr": "zarr"}[ending])
        found, *_ = compare_presentations(path, subject.trials, subject.voxels["ncsnr"].to_numpy())
        responses = plain.responses(official, 5, "session")
        rows = plain.trials(official, 5)
        first = {row["nsd_id"]: row["trial"] for row in rows if row["repetition"] == 0}
        second = {row["nsd_id"]: row["trial"] for row in rows if row["repetition"] == 1}
        images = [nsd_id for nsd_id in first if nsd_id in second]
        for voxel, correlation in enumerate(found):
            a = responses[[first[nsd_id] for nsd_id in images], voxel].astype(float)
            b = responses[[second[nsd_id] for nsd_id in images], voxel].astype(float)
            if a.std() == 0 or b.std() == 0:
                assert np.isnan(correlation)
            else:
                assert correlation == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-9)
        assert np.isnan(found).sum() == 1  # the dead voxel

    def test_the_prediction_holds_for_simulated_voxels(self) -> None:
        rng = np.random.default_rng(5)
        ncsnr = np.array([0.2, 0.7, 1.5])
        signal = rng.normal(size=(40_000, 3)) * ncsnr
        one, two = (signal + rng.normal(size=signal.shape) for _ in range(2))
        simulated = [np.corrcoef(one[:, voxel], two[:, voxel])[0, 1] for voxel in range(3)]
        np.testing.assert_allclose(simulated, signal_share(ncsnr), atol=0.02)

    def test_pairs_are_rows_of_the_file(self) -> None:
        trials = pd.DataFrame({"nsd_id": [7, 3, 7, 5, 3, 7], "repetition": [0, 0, 1, 0, 1, 2]})
        assert rows_of_presentations(trials, 2).tolist() == [[0, 2], [1, 4]]

    def test_too_few_repetitions(self, tmp_path: Path) -> None:
        trials = pd.DataFrame({"nsd_id": [7, 3, 7], "repetition": [0, 0, 1]})
        with pytest.raises(ParameterError, match="1 image with two presentations"):
            compare_presentations(tmp_path / "no.nc", trials, np.ones(1))


class TestShareOfPrediction:
    """Simulated presentations: signal as the ncsnr says, in rows that belong to their images."""

    def share(
        self,
        n_images: int,
        ncsnr: np.ndarray,
        change: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda _, second: second,
        stored: float = 1.0,
    ) -> Share:
        rng = np.random.default_rng(3)
        signal = rng.normal(size=(n_images, len(ncsnr))) * ncsnr
        scale = np.sqrt(1 + ncsnr**2)
        halves = [(signal + rng.normal(size=signal.shape)) / scale for _ in range(2)]
        second = change(*halves)
        telling = telling_voxels(stored * ncsnr)
        return share_of_presentations(
            halves[0][:, telling].astype(np.float32),
            second[:, telling].astype(np.float32),
            stored * ncsnr[telling],
        )

    def verdict(self, *arguments: Any) -> str:
        return verdict_of_presentations(self.share(*arguments))

    def test_sound(self) -> None:
        ncsnr = np.linspace(0, 1.2, 600)
        ncsnr[7] = np.nan
        share = self.share(800, ncsnr)
        assert abs(share.value - 1) < 0.05
        assert share.error < 0.02
        assert verdict_of_presentations(share) == "passed"

    def test_rows_of_other_images(self) -> None:
        ncsnr = np.linspace(0, 1.2, 600)

        def shifted(_first: np.ndarray, second: np.ndarray) -> np.ndarray:
            return np.roll(second, 1, axis=0)

        assert self.verdict(800, ncsnr, shifted) == "failed"
        assert self.verdict(120, ncsnr, shifted) == "suspicious"

    def test_a_third_of_the_rows_of_other_images(self) -> None:
        def partly(_first: np.ndarray, second: np.ndarray) -> np.ndarray:
            third = len(second) // 3
            return np.concatenate([np.roll(second[:third], 1, axis=0), second[third:]])

        ncsnr = np.linspace(0, 1.2, 600)
        assert self.verdict(800, ncsnr, partly) == "suspicious"

    def test_a_third_of_scattered_rows_of_other_images_never_passes(self) -> None:
        def scattered(_first: np.ndarray, second: np.ndarray) -> np.ndarray:
            wrong = second.copy()
            wrong[::3] = np.roll(second[::3], 1, axis=0)
            return wrong

        assert self.verdict(800, np.linspace(0, 1.2, 600), scattered) != "passed"

    def test_an_ncsnr_that_is_too_high_is_not_suspicious(self) -> None:
        for n_images in (120, 800, 3000):
            share = self.share(n_images, np.linspace(0, 1, 600), stored=1.2)
            assert share.value == pytest.approx(0.8, abs=0.12)
            assert verdict_of_presentations(share) != "suspicious"

    def test_two_fifths_of_the_rows_of_other_images(self) -> None:
        def partly(_first: np.ndarray, second: np.ndarray) -> np.ndarray:
            some = 2 * len(second) // 5
            return np.concatenate([np.roll(second[:some], 1, axis=0), second[some:]])

        ncsnr = np.linspace(0, 1.2, 600)
        assert self.verdict(800, ncsnr, partly) == "suspicious"

    def test_half_of_few_rows_of_other_images_never_pass(self) -> None:
        def half(_first: np.ndarray, second: np.ndarray) -> np.ndarray:
            return np.concatenate([np.roll(second[::2], 1, axis=0), second[1::2]])

        for n_images in (40, 60, 120):
            assert self.verdict(n_images, np.full(12, 0.6), half) != "passed"

    def test_copies(self) -> None:
        ncsnr = np.full(50, 0.6)
        assert self.verdict(800, ncsnr, lambda first, _: first) == "failed"

    def test_too_little_to_tell(self) -> None:
        for n_images, ncsnr in ((800, np.full(600, 0.2)), (9, np.ones(600)), (800, np.ones(4))):
            assert self.verdict(n_images, ncsnr) == "not decidable"


class TestFigures:
    def test_trials_by_session(self, subject: Subject, drawn: list[Figure]) -> None:
        shown = draw_trials_by_session(subject.trials, 5)
        assert shown.name == "trials-by-session-subj05"
        axis = drawn[0].axes[0]
        heights = np.array([bar.get_height() for bar in axis.patches]).reshape(3, 3)
        assert heights.sum(axis=0).tolist() == [24, 24, 24]
        np.testing.assert_array_equal(
            heights.T, trial_count_table(subject.trials)[["first", "second", "third"]]
        )

    def test_reliability_passes_over_what_is_not_known(self, drawn: list[Figure]) -> None:
        correlation = np.array([0.1, np.nan, 0.5, 0.3])
        ncsnr = np.array([0.3, 0.4, np.nan, 0.9], dtype=np.float32)
        shown = draw_reliability(correlation, ncsnr, 1)
        assert "2 of 4 voxels have both" in shown.caption
        points = drawn[0].axes[0].collections[0]
        assert points.get_array().sum() == 2

    def test_a_single_voxel_can_be_seen(self, drawn: list[Figure]) -> None:
        correlation = np.repeat([0.1, 0.9], [200, 1])
        draw_reliability(correlation, correlation.astype(np.float32), 1)
        cells = drawn[0].axes[0].collections[0]
        cells.update_scalarmappable()
        (alone,) = cells.get_facecolors()[cells.get_array() == 1]
        assert alone[:3].min() < 0.8

    def test_numbers_of_voxels_are_labelled_where_they_are_few(self, drawn: list[Figure]) -> None:
        correlation = np.repeat([0.1, 0.5], [1, 20])
        draw_reliability(correlation, correlation.astype(np.float32), 1)
        drawn[0].canvas.draw()
        bar = next(axes for axes in drawn[0].axes if axes.get_ylabel() == "voxels")
        low, high = bar.get_ylim()
        ticks = [label.get_text() for label in bar.get_yticklabels()]
        shown = [
            text
            for place, text in zip(bar.get_yticks(), ticks, strict=True)
            if low <= place <= high * 1.001
        ]
        assert shown == ["1", "2", "5", "10", "20"]

    def test_reliability_of_no_voxel(self, drawn: list[Figure]) -> None:
        shown = draw_reliability(np.full(3, np.nan), np.full(3, np.nan, np.float32), 1)
        assert "0 of 3 voxels" in shown.caption
        assert len(drawn) == 1

    def test_one_voxel(self, official: SmallNSD, subject: Subject, drawn: list[Figure]) -> None:
        responses = plain.responses(official, 5, "session")[:, 3]
        draw_one_voxel(responses, subject.trials, "voxel 3", 5, "SD")
        course, pairs = drawn[0].axes
        np.testing.assert_array_equal(course.lines[0].get_ydata(), responses)
        first, second = rows_of_presentations(subject.trials, 2).T
        np.testing.assert_array_equal(pairs.lines[0].get_xdata(), responses[first])
        np.testing.assert_array_equal(pairs.lines[0].get_ydata(), responses[second])
        correlation = np.corrcoef(responses[first], responses[second])[0, 1]
        assert pairs.get_title() == f"r = {correlation:.2f}"

    def test_the_same_trials_give_the_same_bytes(
        self, official: SmallNSD, subject: Subject
    ) -> None:
        responses = plain.responses(official, 5, "session")[:, 3]
        one, two = (draw_one_voxel(responses, subject.trials, "voxel 3", 5, "SD") for _ in range(2))
        assert one == two
        assert one.png.startswith(b"\x89PNG")
