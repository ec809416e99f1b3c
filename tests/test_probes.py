"""Runs of sessions, judged by every repeated image in a few voxels of each region."""

import numpy as np
import pandas as pd
import pytest

from nsd_prep.checks import SingleTrials
from nsd_prep.checks.probes import N_PROBES, choose_probes
from nsd_prep.checks.registry import describe
from nsd_prep.checks.runs import RUNS_IN_PLACE, undecided_once
from nsd_prep.checks.sessions import (
    SESSIONS_IN_PLACE,
    check_sessions,
    session_agreement,
    session_agreement_table,
)
from nsd_prep.checks.trial_agreement import agreement_of_trials, other_trials
from nsd_prep.core.check import Check
from nsd_prep.dataset.published import run_lengths

N_SESSIONS, N_TRIALS, N_VOXELS = 6, 400, 64
N_IMAGES = N_SESSIONS * N_TRIALS // 3
_ENDS = np.cumsum(run_lengths(N_TRIALS))
RUNS = [slice(end - length, end) for end, length in zip(_ENDS, run_lengths(N_TRIALS), strict=True)]


class Sessions:
    """Trials of a subject whose noise and signal are known."""

    def __init__(self, seed: int, strength: float = 0.6) -> None:
        generator = np.random.default_rng(seed)
        image = generator.permutation(np.repeat(np.arange(N_IMAGES), 3))
        self.image = image.reshape(N_SESSIONS, N_TRIALS)
        self.ncsnr = np.full(N_VOXELS, strength, dtype=np.float32)
        self.signal = strength * generator.normal(size=(N_IMAGES, N_VOXELS))[self.image]
        self.noise = generator.normal(size=self.signal.shape)

    def single(self, trials: np.ndarray) -> SingleTrials:
        deviation = trials.std(axis=1, keepdims=True)
        zscores = (trials - trials.mean(axis=1, keepdims=True)) / deviation
        order = np.argsort(self.image, axis=None, kind="stable").reshape(-1, 3)
        return SingleTrials(
            zscores.reshape(-1, N_VOXELS)[order].astype(np.float32),
            self.ncsnr,
            order // N_TRIALS + 1,
            order % N_TRIALS,
            N_TRIALS,
            np.arange(1, N_SESSIONS + 1),
            np.zeros((N_SESSIONS, N_VOXELS), dtype=np.bool_),
        )

    def runs(self, trials: np.ndarray) -> Check:
        _, found = check_sessions("subj01", {"IT": agreement_of_trials(self.single(trials))})
        return found


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    return Sessions(0)


class TestRuns:
    def test_sound_runs_are_in_their_places(self, sessions: Sessions) -> None:
        assert sessions.runs(sessions.signal + sessions.noise).verdict == "passed"

    def test_exchanged_runs_fail(self, sessions: Sessions) -> None:
        trials = sessions.signal + sessions.noise
        exchanged = trials.copy()
        exchanged[2, RUNS[1]], exchanged[2, RUNS[6]] = trials[2, RUNS[6]], trials[2, RUNS[1]]
        found = sessions.runs(exchanged)
        assert found.verdict == "failed"
        assert describe(found).value == "session 3 runs 2 and 7 of 10"
        assert "runs were exchanged" in describe(found).meaning

    def test_trials_are_read_again_once_for_what_runs_at_chance_show(
        self, sessions: Sessions
    ) -> None:
        exchanged = sessions.signal + sessions.noise
        exchanged[2, RUNS[1]], exchanged[2, RUNS[6]] = (
            exchanged[2, RUNS[6]].copy(),
            exchanged[2, RUNS[1]].copy(),
        )
        read = []
        single = sessions.single(exchanged)
        agreement = agreement_of_trials(single, lambda: read.append("again") or single)
        table = session_agreement([agreement])
        assert read == []
        _, found = check_sessions("subj01", {"IT": agreement}, repeated=[agreement])
        assert (found.verdict, read) == ("failed", ["again"])
        whole = session_agreement_table([agreement])["agreement"]
        pd.testing.assert_series_equal(table, whole)
        read.clear()
        sound = sessions.single(sessions.signal + sessions.noise)
        agreement = agreement_of_trials(sound, pytest.fail)
        _, found = check_sessions("subj01", {"IT": agreement}, repeated=[agreement])
        assert found.verdict == "passed"

    @pytest.mark.parametrize("shift", [1, -1])
    def test_a_trial_that_is_lost_or_there_twice_fails(
        self, sessions: Sessions, shift: int
    ) -> None:
        trials = sessions.signal + sessions.noise
        shifted = trials.copy()
        shifted[2, RUNS[4].start : -1] = np.roll(trials[2], -shift, axis=0)[RUNS[4].start : -1]
        found = sessions.runs(shifted)
        assert found.verdict == "failed"
        assert describe(found).value == "session 3 from run 5 of 10 on"
        assert "was lost or appears twice" in describe(found).meaning

    @pytest.mark.parametrize("runs", [RUNS[4:5], RUNS[7:], RUNS[2:8:5]])
    def test_runs_in_which_the_subject_slept_are_suspicious(
        self, sessions: Sessions, runs: list[slice]
    ) -> None:
        """A person may sleep: what shows no image says nothing of the order of the trials."""
        trials = sessions.signal + sessions.noise
        for run in runs:
            trials[2, run] = sessions.noise[2, run]
        found = sessions.runs(trials)
        assert found.verdict == "suspicious"
        assert describe(found).meaning.startswith("The subject may have slept")

    def test_weak_signals_are_not_judged(self) -> None:
        weak = Sessions(1, strength=0.05)
        assert weak.runs(weak.signal + weak.noise).verdict == "not decidable"


def test_other_trials_are_those_of_other_runs_and_the_neighbours() -> None:
    session = np.array([2, 2, 2, 1])
    trial = np.array([0, 1, 15, 15])  # 150 trials: ten runs of 15
    found = other_trials(session, trial, 150)
    assert found.shape == (12, 4)
    assert found[0].tolist() == [0, 1, 0, -1]  # the first run
    assert found[1].tolist() == [2, -1, 2, 3]  # the second
    assert found[10].tolist() == [1, -1, -1, -1]  # the next trial
    assert found[11].tolist() == [-1, 0, -1, -1]  # the one before


class TestWhatCannotBeDecided:
    @staticmethod
    def undecided(subject: str, seen: float) -> Check:
        return RUNS_IN_PLACE.check(
            "not decidable", subject=subject, measured=seen, found=f"{seen:.0%} of all exchanges"
        )

    def test_is_said_once_for_the_run(self) -> None:
        before = SESSIONS_IN_PLACE.check(True, subject="subj01", found="all")
        checks = [before, self.undecided("subj01", 0.1), self.undecided("subj02", 0.45)]
        first, found = undecided_once(checks)
        assert first is before
        assert (found.verdict, found.where, found.measured) == ("not decidable", "", 0.45)
        assert "at most 45% of all exchanges" in describe(found).value
        assert "subj01, subj02" in describe(found).value
        assert undecided_once([first, found]) == [first, found]

    def test_what_is_decided_stays(self) -> None:
        passed = RUNS_IN_PLACE.check(True, subject="subj01", measured=1, found="all")
        checks = [passed, self.undecided("subj02", 0.1)]
        assert undecided_once(checks) == checks


class TestProbes:
    def test_are_the_voxels_of_the_highest_ncsnr(self) -> None:
        ncsnr = np.random.default_rng(0).permutation(np.linspace(0.1, 1, 300)).astype(np.float32)
        ncsnr[::7] = np.nan
        chosen = choose_probes(ncsnr)
        assert len(chosen) == N_PROBES
        assert (np.diff(chosen) > 0).all()
        others = np.delete(ncsnr, chosen)
        assert ncsnr[chosen].min() > np.nanmax(others)

    def test_have_signal(self) -> None:
        assert choose_probes(np.array([0, np.nan, 0.2, 0], dtype=np.float32)).tolist() == [2]
        assert choose_probes(np.zeros(3, dtype=np.float32)).tolist() == []
