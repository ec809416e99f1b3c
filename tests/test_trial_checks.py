"""Checks that look at single trials: their images, their sessions, their reliability."""

import numpy as np
import pandas as pd
import pytest

from nsd_prep.checks import (
    SingleTrials,
    places_of_images,
)
from nsd_prep.checks.alignment import align, expected_correlation
from nsd_prep.checks.decision import NO_SHARE, Share, is_as_predicted
from nsd_prep.checks.registry import describe
from nsd_prep.checks.reliability import split_half_reliability
from nsd_prep.checks.sessions import check_sessions, session_agreement_table
from nsd_prep.checks.trial_agreement import agreement_of_trials, other_trials
from nsd_prep.core.errors import InputFileError


def simulated(
    seed: int, n_images: int = 60, n_voxels: int = 40, n_sessions: int = 5, strength: float = 0.6
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z-scored trials (n_images, 3, n_voxels), their sessions, and the true ncsnr."""
    generator = np.random.default_rng(seed)
    ncsnr = strength * generator.lognormal(0, 0.5, n_voxels)
    signal = generator.normal(size=(n_images, n_voxels)) * ncsnr
    noise = generator.normal(size=(n_images, 3, n_voxels))
    responses = (signal[:, np.newaxis] + noise) / np.sqrt(1 + ncsnr**2)
    session = generator.permutation(np.arange(3 * n_images) % n_sessions).reshape(n_images, 3)
    return responses.astype(np.float32), session + 1, ncsnr.astype(np.float32)


def trials_of(
    responses: np.ndarray,
    session: np.ndarray,
    ncsnr: np.ndarray,
    trials_per_session: int = 100_000,
    without_data: np.ndarray | None = None,
) -> SingleTrials:
    """Trials with data everywhere, in the order of the images within each session."""
    sessions = np.unique(session)
    trial = np.empty(session.shape, dtype=np.int64)
    for number in sessions:
        trial[session == number] = np.arange(np.count_nonzero(session == number))
    if without_data is None:
        without_data = np.zeros((len(sessions), len(ncsnr)), dtype=np.bool_)
    return SingleTrials(
        responses, ncsnr, session, trial, trials_per_session, sessions, without_data
    )


class TestDecision:
    def test_a_sure_share_is_judged_by_the_side_it_lies_on(self) -> None:
        assert is_as_predicted(Share(1.0, 0.01, 500)) is True
        assert is_as_predicted(Share(0.8, 0.01, 500)) is True
        assert is_as_predicted(Share(0.1, 0.01, 500)) is False
        assert is_as_predicted(Share(3.0, 0.01, 500)) is False

    def test_an_unsure_share_is_not_judged(self) -> None:
        assert is_as_predicted(Share(1.0, 0.5, 500)) is None
        assert is_as_predicted(Share(0.1, 0.5, 500)) is None
        assert is_as_predicted(Share(3.0, 0.5, 500)) is None
        assert is_as_predicted(NO_SHARE) is None

    def test_few_images_need_a_wider_margin(self) -> None:
        assert is_as_predicted(Share(1.0, 0.15, 500)) is True
        assert is_as_predicted(Share(1.0, 0.15, 10)) is None


class TestAlignment:
    def test_the_ncsnr_is_that_of_the_authors_procedure(self) -> None:
        generator = np.random.default_rng(0)
        betas = generator.normal(3, 2, size=(4, 30, 7))  # sessions of 30 trials
        image = generator.permutation(np.repeat(np.arange(40), 3))
        betas += 2 * generator.normal(size=(40, 7))[image].reshape(4, 30, 7)
        population = (betas - betas.mean(1, keepdims=True)) / betas.std(1, keepdims=True)
        sample = (betas - betas.mean(1, keepdims=True)) / betas.std(1, keepdims=True, ddof=1)
        rows = np.argsort(image, axis=None, kind="stable").reshape(-1, 3)
        responses = population.reshape(120, 7)[rows].astype(np.float32)
        found = align(trials_of(responses, rows // 30 + 1, np.ones(7, "f4"), 30)).ncsnr
        variance = [
            np.mean([np.var(sample.reshape(120, 7)[r, v], ddof=1) for r in rows]) for v in range(7)
        ]
        expected = [np.sqrt(max(0, 1 - v)) / np.sqrt(v) for v in variance]
        np.testing.assert_allclose(found, expected, rtol=1e-4)

    def test_the_signal_is_the_mean_product_of_repetitions(self) -> None:
        responses, session, ncsnr = simulated(0)
        found = align(trials_of(responses, session, ncsnr)).trials
        share = ncsnr**2 / (1 + ncsnr**2)
        scores = [
            np.mean([one[a] * one[b] for a, b in ((0, 1), (0, 2), (1, 2))], axis=0) @ share
            for one in responses.astype(np.float64)
        ]
        scores = np.array(scores) / (share @ share)
        assert found.value == pytest.approx(scores.mean(), rel=1e-3)
        assert found.error == pytest.approx(scores.std(ddof=1) / np.sqrt(60), rel=1e-3)

    def test_recomputed_ncsnr_of_all_images_is_the_stored_one(self) -> None:
        responses, session, _ = simulated(0)
        variance = responses.astype(np.float64).var(axis=1, ddof=1).mean(axis=0) * 49 / 50
        stored = np.sqrt(np.maximum(0, 1 - variance) / variance).astype(np.float32)
        alignment = align(trials_of(responses, session, stored, 50))
        known = stored > 0
        np.testing.assert_allclose(alignment.ncsnr[known], stored[known], rtol=1e-4)
        assert alignment.correlation == pytest.approx(1)
        assert alignment.voxels.value == pytest.approx(1, rel=1e-4)

    def test_shares_are_1_on_average_and_their_errors_are_right(self) -> None:
        found = []
        for seed in range(40):
            responses, session, ncsnr = simulated(seed)
            found.append(align(trials_of(responses, session, ncsnr)))
        for name in ("trials", "voxels"):
            values = np.array([getattr(alignment, name).value for alignment in found])
            errors = np.array([getattr(alignment, name).error for alignment in found])
            assert abs(values.mean() - 1) < 4 * values.std() / np.sqrt(len(values))
            assert values.std() == pytest.approx(errors.mean(), rel=0.4)

    def test_expected_correlation_is_that_of_simulated_trials(self) -> None:
        _, _, ncsnr = simulated(0, n_voxels=200)
        found = []
        for seed in range(10):
            generator = np.random.default_rng(seed)
            noise = generator.normal(size=(50, 3, 200)) / np.sqrt(1 + ncsnr**2)
            variance = noise.var(axis=1, ddof=1).mean(axis=0)
            estimate = np.sqrt(np.maximum(0, 1 - variance) / variance)
            found.append(np.corrcoef(estimate, ncsnr)[0, 1])
        assert expected_correlation(ncsnr.astype(np.float64), 50) == pytest.approx(
            np.mean(found), abs=0.03
        )

    def test_voxels_without_data_say_nothing(self) -> None:
        responses, session, ncsnr = simulated(0)
        sound = align(trials_of(responses, session, ncsnr, 750))
        gaps = np.zeros((5, 70), dtype=np.bool_)
        gaps[:, 40:] = True
        alignment = align(
            trials_of(
                np.concatenate([responses, np.zeros((60, 3, 30), np.float32)], axis=2),
                session,
                np.concatenate([ncsnr, np.full(30, np.nan, np.float32)]),
                750,
                gaps,
            )
        )
        assert alignment.trials.value == pytest.approx(sound.trials.value)
        assert alignment.voxels.value == pytest.approx(sound.voxels.value)
        assert np.isnan(alignment.ncsnr[40:]).all()

    def test_a_session_without_data_takes_nothing_from_the_others(self) -> None:
        values = []
        for seed in range(20):
            responses, session, ncsnr = simulated(seed)
            responses[session == 2] = 0
            gaps = np.zeros((5, 40), dtype=np.bool_)
            gaps[1] = True
            trials = trials_of(responses, session, ncsnr, without_data=gaps)
            alignment, reliability = align(trials), split_half_reliability(trials)
            shares = (alignment.trials, alignment.voxels, reliability.share)
            assert False not in [is_as_predicted(share) for share in shares]
            values.append([share.value for share in shares])
        np.testing.assert_allclose(np.mean(values, axis=0), 1, atol=0.1)

    @pytest.mark.parametrize(("n_images", "n_voxels"), [(5, 40), (60, 3)])
    def test_too_few_images_or_voxels_are_not_judged(self, n_images: int, n_voxels: int) -> None:
        trials = simulated(0, n_images=n_images, n_voxels=n_voxels)
        alignment = align(trials_of(*trials, 750))
        assert is_as_predicted(alignment.trials) is None
        assert is_as_predicted(alignment.voxels) is None


class TestSessions:
    def test_agreement_is_that_of_a_plain_loop(self) -> None:
        responses, session, ncsnr = simulated(1, n_images=20, n_voxels=6, n_sessions=3)
        found = agreement_of_trials(trials_of(responses, session, ncsnr))
        signal = ncsnr.astype(np.float64) ** 2 / (1 + ncsnr.astype(np.float64) ** 2)

        def others(image: int, repetition: int) -> np.ndarray | None:
            elsewhere = session[image] != session[image, repetition]
            return responses[image][elsewhere].mean(axis=0) if elsewhere.any() else None

        for image, repetition in np.ndindex(20, 3):
            mean = others(image, repetition)
            if mean is None:
                assert np.isnan(found.agreement[image, repetition])
                continue
            trial = responses[image, repetition] * signal
            chance = [
                trial @ others(other, place)
                for other, place in np.ndindex(20, 3)
                if session[other, place] == session[image, repetition]
                and other != image
                and others(other, place) is not None
            ]
            expected = trial @ mean - np.mean(chance)
            assert found.agreement[image, repetition] == pytest.approx(expected, rel=1e-5, abs=1e-6)
        scored = np.isfinite(found.agreement)
        np.testing.assert_allclose(found.expected[scored], signal @ signal)
        assert not found.expected[~scored].any()

    def test_agreement_with_images_of_other_trials_is_that_of_a_plain_loop(self) -> None:
        responses, session, ncsnr = simulated(2, n_images=24, n_voxels=6, n_sessions=3)
        trials = trials_of(responses, session, ncsnr, 36)
        found = agreement_of_trials(trials).with_other_trials()
        signal = ncsnr.astype(np.float64) ** 2 / (1 + ncsnr.astype(np.float64) ** 2)
        images = np.repeat(np.arange(24), 3)
        flat, sessions = responses.reshape(-1, 6), session.ravel()
        elsewhere = (images[:, np.newaxis] == images) & (sessions[:, np.newaxis] != sessions)
        others = [flat[rows].mean(axis=0) if rows.any() else None for rows in elsewhere]
        n_known = 0
        for number, there in enumerate(
            other_trials(sessions, trials.trial.ravel(), trials.trials_per_session)
        ):
            for trial, other in enumerate(there):
                instead = found[number].ravel()[trial]
                if other < 0 or others[trial] is None or others[other] is None:
                    assert np.isnan(instead)
                    continue
                weighted = flat[trial] * signal
                chance = [
                    weighted @ others[one]
                    for one in np.flatnonzero(sessions == sessions[trial])
                    if images[one] != images[trial] and others[one] is not None
                ]
                expected = weighted @ others[other] - np.mean(chance)
                assert instead == pytest.approx(expected, rel=1e-5, abs=1e-6)
                n_known += 1
        assert n_known > 3 * len(images)

    def test_sessions_agree_as_predicted(self) -> None:
        values, errors = [], []
        for seed in range(40):
            responses, session, ncsnr = simulated(seed)
            agreement = agreement_of_trials(trials_of(responses, session, ncsnr, 36))
            table = session_agreement_table([agreement])
            assert table["verdict"].tolist() == ["passed"] * 5
            assert table.index.tolist() == [1, 2, 3, 4, 5]
            values += table["agreement"].tolist()
            errors += table["error"].tolist()
        assert np.mean(values) == pytest.approx(1, abs=0.05)
        assert np.std(values) == pytest.approx(np.mean(errors), rel=0.4)

    def test_regions_are_added(self) -> None:
        responses, session, ncsnr = simulated(0)
        whole = agreement_of_trials(trials_of(responses, session, ncsnr))
        parts = [
            agreement_of_trials(trials_of(responses[:, :, part], session, ncsnr[part]))
            for part in (slice(0, 15), slice(15, 40))
        ]
        pd.testing.assert_frame_equal(
            session_agreement_table([whole]), session_agreement_table(parts)
        )

    def test_a_session_at_chance_is_named(self) -> None:
        responses, session, ncsnr = simulated(0, n_voxels=400)
        wrong = session == 4
        responses[wrong] = np.random.default_rng(0).permutation(responses[wrong])
        agreement = agreement_of_trials(trials_of(responses, session, ncsnr))
        found, _ = check_sessions("subj03", {"IT": agreement})
        assert found.verdict == "failed"
        assert found.where == "subj03"
        assert describe(found).value == "at chance: session 4 of 5"

    def test_a_session_blind_in_early_cortex_is_suspicious_and_not_to_be_downloaded_again(
        self,
    ) -> None:
        """As subject 7's session 34: nothing of the images in V1, as the eyes were closed."""
        responses, session, ncsnr = simulated(0, n_voxels=400)
        blind = session == 4
        responses[blind] = np.random.default_rng(0).normal(size=responses[blind].shape)
        agreement = agreement_of_trials(trials_of(responses, session, ncsnr))
        found, _ = check_sessions("subj07", {"V1": agreement})
        assert found.verdict == "suspicious"
        assert describe(found).value == "at chance in early cortex: session 4 of 5"
        meaning = describe(found).meaning
        assert meaning.startswith("The subject may not have looked")
        assert meaning.index("only where a check of the session's record") < meaning.index("aws s3")
        known, _ = check_sessions("subj07", {"V1": agreement}, known=(4,))
        elsewhere, _ = check_sessions("subj07", {"IT": agreement}, known=(4,))
        assert known.verdict == elsewhere.verdict == "suspicious"
        assert "download" not in describe(known).meaning + describe(elsewhere).meaning

    def test_sessions_weak_as_the_subjects_differ_are_not_suspicious(self) -> None:
        """Three of five sessions have half of the signal, or less."""
        responses, session, ncsnr = simulated(0, n_voxels=400)
        generator = np.random.default_rng(1)
        for number, share in {1: 0.3, 2: 0.5, 3: 0.7}.items():
            here = session == number
            noise = generator.normal(size=responses[here].shape)
            responses[here] = share * responses[here] + np.sqrt(1 - share**2) * noise
        agreement = agreement_of_trials(trials_of(responses, session, ncsnr))
        found, _ = check_sessions("subj01", {"V1": agreement})
        assert found.verdict in ("passed", "not decidable")

    def test_weak_signals_are_not_judged(self) -> None:
        responses, session, ncsnr = simulated(0, n_voxels=8, strength=0.1)
        agreement = agreement_of_trials(trials_of(responses, session, ncsnr))
        found, _ = check_sessions("subj01", {"V1": agreement})
        assert found.verdict == "not decidable"

    def test_places_come_from_the_table_of_trials(self) -> None:
        table = pd.DataFrame(
            {
                "nsd_id": [7, 3, 7, 3, 9, 7, 3],
                "repetition": [0, 0, 1, 1, 0, 2, 2],
                "session": [1, 1, 1, 2, 2, 3, 4],
                "trial_in_session": [10, 11, 12, 0, 1, 5, 6],
            }
        )
        session, trial = places_of_images(table, np.array([3, 7]))
        assert session.tolist() == [[1, 2, 4], [1, 1, 3]]
        assert trial.tolist() == [[11, 0, 6], [10, 12, 5]]
        with pytest.raises(InputFileError, match="the first nsd_id 9"):
            places_of_images(table, np.array([3, 9]))


class TestReliability:
    def test_correlations_are_those_of_numpy(self) -> None:
        responses, session, ncsnr = simulated(0)
        found = split_half_reliability(trials_of(responses, session, ncsnr))
        for voxel in range(40):
            r = np.corrcoef(responses[:, :, voxel].T)
            mean = (r[0, 1] + r[0, 2] + r[1, 2]) / 3
            assert found.correlation[voxel] == pytest.approx(mean, abs=1e-6)
            assert found.corrected[voxel] == pytest.approx(2 * mean / (1 + mean), abs=1e-5)
        single = ncsnr.astype(np.float64) ** 2 / (1 + ncsnr.astype(np.float64) ** 2)
        np.testing.assert_allclose(found.predicted, 2 * single / (1 + single))

    def test_share_is_1_on_average_and_its_error_is_right(self) -> None:
        shares = [
            split_half_reliability(trials_of(*trials)).share for trials in map(simulated, range(40))
        ]
        values = np.array([share.value for share in shares])
        assert values.mean() == pytest.approx(1, abs=0.05)
        assert values.std() == pytest.approx(np.mean([share.error for share in shares]), rel=0.4)

    def test_a_constant_voxel_has_none(self) -> None:
        responses, session, ncsnr = simulated(0)
        responses[:, :, 3] = 0
        found = split_half_reliability(trials_of(responses, session, ncsnr))
        assert np.flatnonzero(np.isnan(found.correlation)).tolist() == [3]
        assert np.isfinite(found.share.value)
