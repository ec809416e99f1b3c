"""The record of a session's raw betas, and what it tells of holes, copies and scales."""

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from surface_words import words_of_voxels

from nsd_prep.checks import check_session_records
from nsd_prep.checks.registry import describe
from nsd_prep.core.check import Check, of_vertices
from nsd_prep.core.nouns import VERTEX
from nsd_prep.dataset.published import run_lengths
from nsd_prep.extraction.statistics import BetaStatistics, describe_part, sessions_table

Sessions = dict[int, dict[str, np.ndarray]]
REGIONS = {"V1": 70, "IT": 150, "small": 9}


def raw_sessions(
    seed: int, n_sessions: int = 6, n_trials: int = 60, regions: dict[str, int] = REGIONS
) -> Sessions:
    """Raw betas (n_voxels, n_trials) of a subject: each voxel has its own scale and mean."""
    generator = np.random.default_rng(seed)
    scale = {name: 400 * generator.lognormal(0, 0.4, (n, 1)) for name, n in regions.items()}
    mean = {name: generator.normal(150, 200, (n, 1)) for name, n in regions.items()}
    sessions: Sessions = {}
    for session in range(1, n_sessions + 1):
        gain = generator.lognormal(0, 0.1)
        sessions[session] = {}
        for name, n in regions.items():
            drift = generator.normal(0, 60, (n, 1))
            values = mean[name] + drift + scale[name] * gain * generator.normal(size=(n, n_trials))
            values = np.clip(values, -32768, 32767).astype(np.int16)
            # A few voxels lack data in a session.
            values[generator.random(n) < 0.01] = 0
            sessions[session][name] = values
    return sessions


def records_of(sessions: Sessions) -> dict[int, dict[str, BetaStatistics]]:
    return {
        session: {
            name: describe_part(values, run_lengths(values.shape[1]))
            for name, values in parts.items()
        }
        for session, parts in sessions.items()
    }


def checks_of(sessions: Sessions) -> dict[str, Check]:
    return {check.name: check for check in check_session_records(1, records_of(sessions))}


def test_on_a_surface_what_was_found_is_of_vertices() -> None:
    sessions = raw_sessions(0)
    for values in sessions[3].values():
        values[:] = 0
    for values in sessions[4].values():
        values[:, :5] = 7
    checks = check_session_records(1, records_of(sessions), VERTEX)
    found = [describe(of_vertices(check)).value for check in checks]
    assert any("session 3: 100% of 229 vertices constant" in value for value in found)
    assert any("with one value in all vertices" in value for value in found)
    assert any("session 3: too few vertices with data" in value for value in found)
    assert not words_of_voxels(found)


class TestRecord:
    def test_numbers_are_those_of_numpy(self) -> None:
        values = raw_sessions(0)[1]["V1"]
        values[3] = 1234
        values[5, 7] = 32767
        part = describe_part(values, run_lengths(60))
        varying = np.delete(values, np.flatnonzero(np.ptp(values, axis=1) == 0), axis=0) / 300
        assert part.n_voxels == 70
        assert part.constant_voxels == 70 - len(varying)
        assert part.saturated == pytest.approx(1 / values.size, rel=1e-4)
        assert part.session.mean == pytest.approx(np.median(varying.mean(1)), rel=1e-4)
        assert part.session.deviation == pytest.approx(np.median(varying.std(1)), rel=1e-4)
        low, high = np.quantile(varying.std(1), (0.25, 0.75))
        assert part.session.deviation_spread == pytest.approx(high - low, rel=1e-3)
        assert [run.n_trials for run in part.runs] == [6] * 10
        third = varying[:, 12:18]
        assert part.runs[2].mean == pytest.approx(np.median(third.mean(1)), rel=1e-4)
        assert part.runs[2].deviation == pytest.approx(np.median(third.std(1)), rel=1e-4)

    def test_it_is_kept_as_json(self) -> None:
        part = records_of(raw_sessions(0))[1]["V1"]
        assert BetaStatistics.model_validate_json(part.model_dump_json()) == part

    def test_the_digest_is_that_of_the_bytes(self) -> None:
        values = raw_sessions(0)[1]["small"]
        part = describe_part(values, run_lengths(60))
        assert part.sample_sha256 == hashlib.sha256(values.tobytes()).hexdigest()
        assert describe_part(np.zeros_like(values), run_lengths(60)).sample_sha256 == ""

    def test_trials_in_which_all_voxels_have_one_value_are_counted(self) -> None:
        values = raw_sessions(0)[1]["V1"]
        values[:, 30:42] = 0
        part = describe_part(values, run_lengths(60))
        assert part.session.uniform_trials == 12
        assert [run.uniform_trials for run in part.runs] == [0] * 5 + [6, 6] + [0] * 3

    def test_two_voxels_may_have_one_value_by_chance(self) -> None:
        values = np.array([[1, 2, 3, 4], [1, 5, 3, 0]], dtype=np.int16)
        assert describe_part(values, run_lengths(4)).session.uniform_trials == 0

    @pytest.mark.parametrize("n_trials", [750, 60, 65, 7, 1])
    def test_runs_cover_the_session(self, n_trials: int) -> None:
        lengths = run_lengths(n_trials)
        assert sum(lengths) == n_trials
        assert min(lengths) > 0
        assert lengths[:3] == (63, 62, 63) or n_trials != 750

    def test_the_table_has_a_row_for_each_part(self) -> None:
        table = sessions_table({1: records_of(raw_sessions(0, n_sessions=3))})
        assert len(table) == 9
        assert table["subject"].unique().tolist() == ["subj01"]
        assert table["region"].tolist() == ["V1", "IT", "small"] * 3
        assert (table["lowest_run"] <= table["highest_run"]).all()


def zeros(sessions: Sessions, *, which: tuple[int, ...] = (3,)) -> None:
    for session in which:
        for values in sessions[session].values():
            values[:] = 0


def three_of_zeros(sessions: Sessions) -> None:
    zeros(sessions, which=(1, 2, 6))


def half_of_the_trials(sessions: Sessions) -> None:
    for values in sessions[3].values():
        values[:, 30:] = 0


def half_of_the_voxels(sessions: Sessions) -> None:
    for values in sessions[3].values():
        values[len(values) // 2 :] = 0


def a_hole_in_a_third_of_the_voxels(sessions: Sessions) -> None:
    for values in sessions[3].values():
        values[: len(values) // 3] = 0


def one_region_lost(sessions: Sessions) -> None:
    sessions[3]["V1"][:] = 0


def scaled_twice(sessions: Sessions) -> None:
    for name, values in sessions[3].items():
        sessions[3][name] = np.clip(values * 300.0, -32768, 32767).astype(np.int16)


def not_scaled(sessions: Sessions) -> None:
    for name, values in sessions[3].items():
        sessions[3][name] = np.round(values / 300).astype(np.int16)


def of_another_preparation(sessions: Sessions) -> None:
    for name, values in sessions[3].items():
        sessions[3][name] = (values * 1.9).astype(np.int16)


def with_another_mean(sessions: Sessions) -> None:
    for values in sessions[3].values():
        values += 600


def copied(sessions: Sessions) -> None:
    sessions[3] = {name: values.copy() for name, values in sessions[5].items()}


def of_another_subject(sessions: Sessions) -> None:
    sessions[3] = raw_sessions(99)[3]


def moved(sessions: Sessions) -> None:
    for name, values in sessions[3].items():
        sessions[3][name] = np.roll(values, 2, axis=0)


def run_not_scaled(sessions: Sessions) -> None:
    for values in sessions[3].values():
        values[:, 24:30] = np.round(values[:, 24:30] / 300)


def run_scaled_thrice(sessions: Sessions) -> None:
    for values in sessions[3].values():
        values[:, 24:30] = np.clip(values[:, 24:30] * 3.0, -32768, 32767)


def run_with_another_mean(sessions: Sessions) -> None:
    for values in sessions[3].values():
        values[:, 24:30] += 2000


ERRORS: list[tuple[Callable[[Sessions], None], str, str]] = [
    (zeros, "voxels of a session with data", "failed"),
    (three_of_zeros, "voxels of a session with data", "failed"),
    (half_of_the_voxels, "voxels of a session with data", "failed"),
    (a_hole_in_a_third_of_the_voxels, "voxels of a session with data", "suspicious"),
    (one_region_lost, "voxels of a session with data", "suspicious"),
    (half_of_the_trials, "trials of a session with data", "failed"),
    (scaled_twice, "saturation", "failed"),
    (scaled_twice, "scale of sessions", "failed"),
    (not_scaled, "scale of sessions", "failed"),
    (of_another_preparation, "scale of sessions", "suspicious"),
    (with_another_mean, "scale of sessions", "suspicious"),
    (run_not_scaled, "scale of runs", "failed"),
    (run_scaled_thrice, "scale of runs", "suspicious"),
    (run_with_another_mean, "scale of runs", "suspicious"),
    (copied, "sessions differ", "failed"),
    (of_another_subject, "voxels of a session in their places", "suspicious"),
    (moved, "voxels of a session in their places", "suspicious"),
]


class TestChecks:
    @pytest.mark.parametrize(
        ("error", "name", "verdict"), ERRORS, ids=[f"{e.__name__}-{n}" for e, n, _ in ERRORS]
    )
    @pytest.mark.parametrize("seed", range(3))
    def test_an_error_is_found_and_its_session_named(
        self, error: Callable[[Sessions], None], name: str, verdict: str, seed: int
    ) -> None:
        sessions = raw_sessions(seed)
        error(sessions)
        found = checks_of(sessions)[name]
        assert found.verdict == verdict
        expected = {"three_of_zeros": "1 2 6", "copied": "5"}.get(error.__name__, "3").split()
        for session in expected:
            assert f"session {session}: " in describe(found).value
        assert describe(found).value.count("session ") == len(expected) + (error is copied)

    @pytest.mark.parametrize("error", [run_not_scaled, run_scaled_thrice, run_with_another_mean])
    def test_the_run_is_named(self, error: Callable[[Sessions], None]) -> None:
        sessions = raw_sessions(0)
        error(sessions)
        value = describe(checks_of(sessions)["scale of runs"]).value
        assert "session 3: run 5 of 10 with" in value
        assert value.count("run ") == 1

    @pytest.mark.parametrize("factor", [2.0, 0.5])
    @pytest.mark.parametrize("seed", range(20))
    def test_another_scale_is_not_passed_where_sessions_differ_much(
        self, seed: int, factor: float
    ) -> None:
        sessions = raw_sessions(seed)
        gains = np.random.default_rng(seed).lognormal(0, 0.2, len(sessions))
        gains[2] = factor
        for gain, parts in zip(gains, sessions.values(), strict=True):
            for name, values in parts.items():
                parts[name] = np.clip(values * gain, -32768, 32767).astype(np.int16)
        ratio = gains[2] / np.median(gains)
        found = checks_of(sessions)["scale of sessions"]
        if max(ratio, 1 / ratio) > 1.75:  # the drift of sound sessions is within this
            assert found.verdict in ("suspicious", "not decidable")
            assert "session 3: deviation" in describe(found).value

    @pytest.mark.parametrize("seed", range(3))
    def test_one_region_that_is_moved_is_named(self, seed: int) -> None:
        sessions = raw_sessions(seed)
        sessions[3]["V1"] = sessions[3]["V1"][np.random.default_rng(seed).permutation(70)]
        found = checks_of(sessions)["voxels of a session in their places"]
        assert found.verdict == "suspicious"
        assert describe(found).value.startswith("session 3: r ")
        assert describe(found).value.endswith("is usual in V1")

    @pytest.mark.filterwarnings("error")
    def test_a_session_without_data_is_not_said_to_be_as_it_should_be(self) -> None:
        sessions = raw_sessions(0)
        zeros(sessions)
        found = checks_of(sessions)
        assert describe(found["voxels of a session with data"]).value == (
            "session 3: 100% of 229 voxels constant"
        )
        for name in (
            "trials of a session with data",
            "scale of sessions",
            "scale of runs",
            "voxels of a session in their places",
        ):
            assert found[name].verdict == "not decidable", name
            assert describe(found[name]).value == "session 3: too few voxels with data"

    def test_trials_of_zeros_are_told_by_region_and_run(self) -> None:
        sessions = raw_sessions(0)
        for values in sessions[3].values():
            values[:, 7] = 0
        sessions[4]["V1"][:, :12] = 0
        value = describe(checks_of(sessions)["trials of a session with data"]).value
        assert "1 of 60 trials with one value in all voxels of every region (run 2 of 10)" in value
        assert "12 of 60 trials with one value in all voxels of V1 (runs 1, 2 of 10)" in value

    @pytest.mark.parametrize(("factor", "verdict"), [(1 / 300, "failed"), (1 / 30, "suspicious")])
    def test_betas_on_another_scale_in_all_sessions(self, factor: float, verdict: str) -> None:
        sessions = raw_sessions(0)
        for regions in sessions.values():
            for name, values in regions.items():
                regions[name] = np.round(values * factor).astype(np.int16)
        found = checks_of(sessions)["betas in percent signal change"]
        assert found.verdict == verdict
        assert "not scaled like NSD's" in describe(found).meaning

    @pytest.mark.parametrize("seed", range(20))
    def test_sound_sessions_pass(self, seed: int) -> None:
        assert {check.verdict for check in checks_of(raw_sessions(seed)).values()} == {"passed"}

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("regions", [{"one": 1}, {"few": 4}])
    @pytest.mark.parametrize("n_sessions", [1, 2, 4])
    def test_small_data_are_never_failed(self, regions: dict[str, int], n_sessions: int) -> None:
        for seed in range(10):
            found = checks_of(raw_sessions(seed, n_sessions, regions=regions)).values()
            assert {check.verdict for check in found} <= {"passed", "not decidable", "suspicious"}

    @pytest.mark.filterwarnings("error")
    def test_a_region_without_data_anywhere_is_no_matter_of_sessions(self) -> None:
        sessions = raw_sessions(0)
        for parts in sessions.values():
            parts["small"][:] = 0
        assert {check.verdict for check in checks_of(sessions).values()} == {"passed"}


def test_too_few_sessions_to_compare_are_not_called_wrong() -> None:
    checks = checks_of(raw_sessions(0, n_sessions=1))
    for name in ("scale of sessions", "voxels of a session in their places"):
        assert checks[name].verdict == "not decidable"
        assert describe(checks[name]).meaning == (
            "Sessions have too little data, or differ too much from each other, to tell."
        )


def test_what_was_measured_names_its_session_and_run() -> None:
    sessions = raw_sessions(0)
    for name, values in sessions[4].items():
        sessions[4][name] = np.clip(values * 2.5, -32768, 32767).astype(np.int16)
    scale = checks_of(sessions)["scale of sessions"]
    deviation = {
        session: np.concatenate([values.std(axis=1) for values in regions.values()])
        for session, regions in sessions.items()
    }
    others = np.median([deviation[session] for session in sessions if session != 4], axis=0)
    ratio = np.median(deviation[4] / np.where(others > 0, others, np.nan))
    assert (scale.session, scale.run, scale.unit) == (4, None, "ratio of deviations")
    assert scale.measured == pytest.approx(ratio, rel=0.2)
    assert scale.measured > scale.upper == 1.5

    sessions = raw_sessions(0)
    for values in sessions[2].values():
        values[:, 12:18] *= 3
    runs = checks_of(sessions)["scale of runs"]
    assert (runs.session, runs.run) == (2, 3)
    assert runs.measured == pytest.approx(3, rel=0.4)

    sound = checks_of(raw_sessions(1))
    for name, check in sound.items():
        assert check.measured is not None, name
        assert (
            (check.lower or 0) <= check.measured <= (np.inf if check.upper is None else check.upper)
        )
