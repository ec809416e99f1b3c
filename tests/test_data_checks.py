"""The checks of single trials, volumes and RDMs, against independent computations."""

import itertools

import numpy as np
import pandas as pd
import pytest

from nsd_prep.analysis.image_features import image_features
from nsd_prep.analysis.rdm import upper_triangle
from nsd_prep.checks import (
    Scope,
    SingleTrials,
    check_colours,
    check_hemispheres,
    check_images,
    check_placement,
    check_published_region,
    check_published_repetitions,
    places_of_images,
    published_statistics,
)
from nsd_prep.checks.alignment import align, expected_correlation
from nsd_prep.checks.decision import NO_SHARE, Share, is_as_predicted
from nsd_prep.checks.published_values import check_published_rdms
from nsd_prep.checks.rdms import rdm_reliability, unit_rdm
from nsd_prep.checks.region_identity import check_region_identity, gains_of_regions
from nsd_prep.checks.region_order import (
    ORDER_OF_REGION_PAIRS,
    RegionOrder,
    check_region_order,
    region_order,
)
from nsd_prep.checks.registry import describe
from nsd_prep.checks.reliability import split_half_reliability
from nsd_prep.checks.sessions import check_sessions, session_agreement_table
from nsd_prep.checks.subject_agreement import check_subject_agreement, subject_agreement
from nsd_prep.checks.trial_agreement import agreement_of_trials, other_trials
from nsd_prep.core.check import PROBLEMS
from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset import published
from nsd_prep.dataset.space import VolumeSpace


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


def rdms_of(responses: np.ndarray) -> np.ndarray:
    return 1 - np.corrcoef(responses)


def upper_triangles(rdms: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.stack([upper_triangle(rdm) for rdm in own]) for name, own in rdms.items()}


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


def space_of(volume: np.ndarray) -> VolumeSpace:
    return VolumeSpace(volume.shape, np.eye(4))


class TestPlacement:
    def volume(self) -> tuple[np.ndarray, np.ndarray]:
        """An ncsnr volume with a strong corner, and the voxels of that corner."""
        generator = np.random.default_rng(0)
        ncsnr = np.full((12, 14, 16), np.nan, dtype=np.float32)
        ncsnr[2:10, 2:12, 2:14] = np.maximum(0, generator.normal(0, 0.1, (8, 10, 12)))
        corner = np.zeros(ncsnr.shape, dtype=bool)
        corner[2:5, 2:6, 3:7] = True
        ncsnr[corner] = generator.uniform(0.3, 1, corner.sum())
        return ncsnr, np.flatnonzero(corner)

    def verdicts(self, ncsnr: np.ndarray, voxels: np.ndarray, **more: np.ndarray) -> dict[str, str]:
        checks = check_placement(1, {"V1": voxels}, space_of(ncsnr), ncsnr, **more)
        return {check.name: check.verdict for check in checks}

    def test_a_region_on_its_signal_passes(self) -> None:
        ncsnr, voxels = self.volume()
        found = self.verdicts(ncsnr, voxels, brain=np.isfinite(ncsnr))
        assert found == dict.fromkeys(found, "passed")
        assert len(found) == 3

    @pytest.mark.parametrize("axes", [0, 1, 2, (0, 1), (0, 1, 2)])
    def test_a_flipped_region_fails_and_the_flip_is_named(self, axes: int | tuple) -> None:
        ncsnr, voxels = self.volume()
        checks = check_placement(1, {"V1": voxels}, space_of(ncsnr), np.flip(ncsnr, axes))
        orientation = next(check for check in checks if check.name == "orientation of the masks")
        assert orientation.verdict == "failed"
        for axis, name in enumerate("zyx"):
            assert (f"{name} mirrored" in describe(orientation).value) == (
                axis in np.atleast_1d(axes)
            )

    def test_a_region_out_of_the_brain_fails(self) -> None:
        ncsnr, _ = self.volume()
        outside = np.zeros(ncsnr.shape, dtype=bool)
        outside[9:12, 2:6, 3:7] = True
        found = self.verdicts(ncsnr, np.flatnonzero(outside), brain=np.isfinite(ncsnr))
        assert found["mask in the brain"] == "failed"

    def test_volumes_of_another_grid_are_an_error(self) -> None:
        ncsnr, voxels = self.volume()
        with pytest.raises(InputFileError, match="the size of the volume"):
            check_placement(1, {"V1": voxels}, space_of(ncsnr[:2]), ncsnr[:2])
        with pytest.raises(InputFileError, match="The ncsnr of subj01 has the grid"):
            check_placement(1, {"V1": voxels}, space_of(ncsnr), ncsnr[:2])
        with pytest.raises(InputFileError, match="brain mask of subj01 has the grid"):
            check_placement(1, {"V1": voxels}, space_of(ncsnr), ncsnr, np.isfinite(ncsnr).T)


class TestSubjectAgreement:
    def subjects(self, seed: int, common: float, n_images: int = 30) -> np.ndarray:
        generator = np.random.default_rng(seed)
        shared = generator.normal(size=(n_images, 20))
        own = generator.normal(size=(4, n_images, 20))
        return np.stack([rdms_of(np.sqrt(common) * shared + np.sqrt(1 - common) * x) for x in own])

    def test_correlations_are_those_of_the_upper_triangles(self) -> None:
        rdms = self.subjects(0, 0.5)
        upper = rdms[:, *np.triu_indices(30, 1)]
        found = subject_agreement(rdms, permutations=10)
        r = np.corrcoef(upper)
        np.testing.assert_allclose(found.correlation, r, atol=1e-5)
        assert found.mean == pytest.approx(r[np.triu_indices(4, 1)].mean(), abs=1e-5)

    def test_agreement_has_the_smallest_p(self) -> None:
        found = subject_agreement(self.subjects(0, 0.95, n_images=10), permutations=200)
        assert found.p == pytest.approx(1 / 201)
        np.testing.assert_allclose(found.p_of_subjects, 1 / 201)

    def test_plain_agreement_needs_no_permutation(self) -> None:
        found = subject_agreement(self.subjects(0, 0.8, n_images=60), permutations=0)
        assert 0 < found.p < 0.005
        assert (found.p_of_subjects < 0.005).all()

    def test_spread_is_that_over_all_permutations(self) -> None:
        """Of five images all 120 orders can be tried."""
        first, second = (rdm + rdm.T for rdm in np.random.default_rng(0).normal(size=(2, 5, 5)))
        first, second = unit_rdm(first), unit_rdm(second)
        products = [
            (first[np.ix_(order, order)] * second).sum()
            for order in map(list, itertools.permutations(range(5)))
        ]
        found = subject_agreement(np.stack([first, second]), permutations=1)
        assert found.spread == pytest.approx(np.std(products), rel=1e-5)
        np.testing.assert_allclose(found.spread_of_subjects, np.std(products), rtol=1e-5)

    def test_spread_of_several_subjects_is_that_of_many_permutations(self) -> None:
        rdms = self.subjects(1, 0.3, n_images=20)
        generator = np.random.default_rng(0)
        means = []
        for _ in range(3000):
            orders = [generator.permutation(20) for _ in rdms]
            permuted = [unit_rdm(r)[np.ix_(o, o)] for r, o in zip(rdms, orders, strict=True)]
            pairs = itertools.combinations(permuted, 2)
            means.append(np.mean([(one * two).sum() for one, two in pairs]))
        found = subject_agreement(rdms, permutations=1)
        assert found.spread == pytest.approx(np.std(means), rel=0.05)

    def test_p_is_spread_evenly_where_nothing_agrees(self) -> None:
        p = np.array([subject_agreement(self.subjects(s, 0), permutations=60).p for s in range(40)])
        assert 0.35 < p.mean() < 0.65
        assert 0.2 < p.std() < 0.4

    def test_the_subject_with_other_images_is_named(self) -> None:
        rdms = self.subjects(0, 0.9, n_images=60)
        order = np.random.default_rng(0).permutation(60)
        rdms[2] = rdms[2][np.ix_(order, order)]
        checks = check_subject_agreement(
            "V1", [1, 2, 5, 7], subject_agreement(rdms, permutations=300), lambda: np.full(4, 0.9)
        )
        assert [check.verdict for check in checks] == ["passed", "failed", "passed"]
        assert describe(checks[1]).value == "at chance: subj05"

    def test_two_subjects_with_one_rdm_are_named(self) -> None:
        rdms = self.subjects(0, 0.5)
        rdms[3] = rdms[1]
        found = subject_agreement(rdms, permutations=200)
        checks = check_subject_agreement("V1", [1, 2, 3, 4], found, lambda: np.full(4, 0.9))
        assert checks[2].verdict == "failed"
        assert describe(checks[2]).value == "the same: subj02 and subj04"

    def test_unreliable_rdms_are_not_judged(self) -> None:
        found = subject_agreement(self.subjects(3, 0), permutations=200)
        assert found.p > 0.05
        checks = check_subject_agreement("V1", [1, 2, 3, 4], found, lambda: np.full(4, 0.01))
        assert [check.verdict for check in checks[:2]] == ["not decidable", "not decidable"]

    @pytest.mark.parametrize(
        ("reliability", "verdict"), [(0.01, "not decidable"), (0.95, "suspicious")]
    )
    def test_agreement_at_chance_is_judged_by_the_reliability_of_rdms(
        self, reliability: float, verdict: str
    ) -> None:
        found = subject_agreement(self.subjects(3, 0, n_images=60), permutations=200)
        assert found.p > 0.05
        asked = []

        def of_rdms() -> np.ndarray:
            asked.append(reliability)
            return np.full(4, reliability)

        checks = check_subject_agreement("V1", [1, 2, 3, 4], found, of_rdms)
        assert [check.verdict for check in checks[:2]] == [verdict, verdict]
        assert asked == [reliability]

    def test_the_reliability_of_rdms_that_agree_is_not_asked_for(self) -> None:
        found = subject_agreement(self.subjects(0, 0.9, n_images=60), permutations=300)
        checks = check_subject_agreement("V1", [1, 2, 3, 4], found, pytest.fail)
        assert [check.verdict for check in checks] == ["passed", "passed", "passed"]

    def test_constant_rdms_are_not_judged(self) -> None:
        found = subject_agreement(np.ones((3, 12, 12)), permutations=20)
        assert np.isnan(found.correlation).all()
        checks = check_subject_agreement("V1", [1, 2, 3], found, lambda: np.zeros(3))
        assert {check.verdict for check in checks} == {"not decidable"}

    def test_reliability_of_rdms_is_about_that_of_a_second_measurement(self) -> None:
        generator = np.random.default_rng(0)
        signal = 0.7 * generator.normal(size=(60, 10)) @ generator.normal(size=(10, 200)) / 3
        first, second = signal[:, None] + generator.normal(size=(2, 60, 3, 200))
        upper = [rdms_of(x.mean(axis=1))[np.triu_indices(60, 1)] for x in (first, second)]
        measured = np.corrcoef(*upper)[0, 1]
        assert rdm_reliability(first.astype(np.float32)) == pytest.approx(measured, abs=0.1)
        assert rdm_reliability(np.zeros((20, 3, 5), np.float32)) == 0


#: Weights of three groups of features in each region.
HIERARCHY = {"V1": (1, 0.3, 0), "V2": (1, 0.7, 0.1), "V4": (0.4, 1, 0.3), "IT": (0, 0.4, 1)}


class TestRegionOrder:
    def regions(self, blocks: dict[str, tuple[float, float, float]]) -> dict[str, np.ndarray]:
        generator = np.random.default_rng(0)
        latents = generator.normal(size=(3, 80, 5))
        found = {}
        for name, weights in blocks.items():
            features = np.concatenate([w * x for w, x in zip(weights, latents, strict=True)], 1)
            found[name] = np.stack(
                [rdms_of(features @ generator.normal(size=(15, 400))) for _ in range(4)]
            )
        return found

    def test_correlations_and_errors_are_those_of_plain_deletion(self) -> None:
        rdms = self.regions(HIERARCHY)
        found = region_order(rdms)

        def between(one: str, two: str, images: np.ndarray, subjects: list[int]) -> float:
            upper = np.triu_indices(len(images), 1)
            rows = {
                name: [rdms[name][s][np.ix_(images, images)][upper] for s in subjects]
                for name in (one, two)
            }
            pairs = [(i, j) for i in range(len(subjects)) for j in range(len(subjects)) if i != j]
            return float(np.mean([np.corrcoef(rows[one][i], rows[two][j])[0, 1] for i, j in pairs]))

        def steps(images: np.ndarray, subjects: list[int]) -> np.ndarray:
            corrected = [
                between(a, b, images, subjects)
                / np.sqrt(between(a, a, images, subjects) * between(b, b, images, subjects))
                for a, b in ORDER_OF_REGION_PAIRS
            ]
            return -np.diff(corrected)

        whole, everyone = np.arange(80), [0, 1, 2, 3]
        upper = np.triu_indices(80, 1)
        means = {name: stack.mean(axis=0)[upper] for name, stack in rdms.items()}
        of_means = [np.corrcoef(means[a], means[b])[0, 1] for a, b in ORDER_OF_REGION_PAIRS]
        np.testing.assert_allclose(found.correlations, of_means, atol=1e-10)
        np.testing.assert_allclose(found.differences, steps(whole, everyone), atol=1e-5)
        images = np.array([steps(np.delete(whole, i), everyone) for i in whole])
        subjects = np.array([steps(whole, [s for s in everyone if s != k]) for k in everyone])
        variance = sum((len(x) - 1) * x.var(axis=0) for x in (images, subjects))
        np.testing.assert_allclose(found.errors, np.sqrt(variance), rtol=0.1)

    def test_the_order_of_the_hierarchy_passes_and_another_fails(self) -> None:
        order = region_order(self.regions(HIERARCHY))
        assert check_region_order(order, 80).verdict == "passed"
        exchanged = HIERARCHY | {"V2": HIERARCHY["IT"], "IT": HIERARCHY["V2"]}
        wrong = region_order(self.regions(exchanged))
        assert check_region_order(wrong, 80).verdict in PROBLEMS

    def test_differences_within_their_errors_are_not_judged(self) -> None:
        same = region_order(self.regions(dict.fromkeys(HIERARCHY, (1, 1, 1))))
        assert check_region_order(same, 80).verdict == "not decidable"

    def test_noise_that_regions_of_a_subject_share_changes_no_order(self) -> None:
        """V4 and IT of each subject have the same noise, and V1 has few voxels."""
        generator = np.random.default_rng(0)
        images = generator.normal(size=(80, 5))
        rdms: dict[str, list[np.ndarray]] = {name: [] for name in HIERARCHY}
        for _ in range(6):
            noise = generator.normal(size=(80, 5))
            for name, stack in rdms.items():
                n_voxels = 8 if name == "V1" else 200
                shared = noise @ generator.normal(size=(5, n_voxels)) * (name in ("V4", "IT"))
                own = generator.normal(size=(80, n_voxels))
                stack.append(rdms_of(images @ generator.normal(size=(5, n_voxels)) + shared + own))
        order = region_order({name: np.stack(stack) for name, stack in rdms.items()})
        assert order.correlations[2] > order.correlations[1] + 0.05
        assert check_region_order(order, 80).verdict == "not decidable"

    @pytest.mark.parametrize("n_subjects", [1, 2])
    def test_few_subjects_have_no_error(self, n_subjects: int) -> None:
        rdms = {name: stack[:n_subjects] for name, stack in self.regions(HIERARCHY).items()}
        check = check_region_order(region_order(rdms), 80)
        assert check.verdict == "not decidable"
        assert "Too few" in describe(check).meaning
        assert "nan" not in describe(check).value


B3 = "betas_fithrf_GLMdenoise_RR"
WHOLE = Scope(B3, published.SESSION_COUNTS)
#: Voxels of subjects 1 to 8 in the labels of 2020-21.
OLDER_LABELS = {
    "V1": (1348, 1097, 1251, 871, 1115, 1130, 1148, 1081),
    "V2": (1415, 1083, 1160, 883, 1088, 1191, 958, 1040),
    "V3": (1188, 1081, 945, 800, 934, 1215, 721, 879),
    "V4": (676, 504, 422, 473, 548, 488, 374, 490),
}


class TestPublished:
    def voxels(self, region: str) -> pd.DataFrame:
        """Voxel tables with the published medians."""
        parts = []
        for index, subject in enumerate(published.SUBJECTS):
            count = published.VOXEL_COUNTS[region][index]
            median = published_statistics.MEDIAN_NOISE_CEILING[region][index]
            ceiling = np.clip(np.linspace(median - 20, median + 20, count), 0, 100)
            parts.append(pd.DataFrame({"subject": f"subj{subject:02d}", "noise_ceiling": ceiling}))
        return pd.concat(parts)

    def test_published_medians_pass_and_others_fail(self) -> None:
        table = self.voxels("V1")
        medians = [
            one
            for one in check_published_region("V1", table, WHOLE)
            if one.name in ("published median noise ceiling", "published voxel count")
        ]
        assert [one.verdict for one in medians] == ["passed"] * 16
        table.loc[table["subject"] == "subj03", "noise_ceiling"] += 1
        found = check_published_region("V1", table, WHOLE)
        failed = [one.where for one in found if one.verdict == "failed"]
        assert "V1, subj03" in failed
        assert not {"V1, subj01", "V1, subj08"} & set(failed)

    def test_a_voxel_less_is_another_mask(self) -> None:
        found = check_published_region("V1", self.voxels("V1").iloc[1:], WHOLE)
        failed = [(check.name, check.where) for check in found if check.verdict == "failed"]
        assert ("published voxel count", "V1, subj01") in failed

    @pytest.mark.parametrize(("region", "counts"), OLDER_LABELS.items())
    def test_an_older_release_of_the_labels_is_named_and_suspicious(
        self, region: str, counts: tuple[int, ...]
    ) -> None:
        medians = published_statistics.MEDIAN_NOISE_CEILING.get(region, (0,) * 8)
        table = pd.concat(
            pd.DataFrame({"subject": f"subj{subject:02d}", "noise_ceiling": [median] * count})
            for subject, (median, count) in enumerate(zip(medians, counts, strict=True), start=1)
        )
        counted = [
            one
            for one in check_published_region(region, table, WHOLE)
            if one.name == "published voxel count"
        ]
        assert [one.verdict for one in counted] == ["suspicious"] * 8
        assert all("older release (2020-21)" in describe(one).meaning for one in counted)

    @pytest.mark.parametrize(
        ("region", "subject", "count"),
        [
            ("early", 1, 5917),
            ("midparietal", 8, 653),
            ("lateral", 3, 8572),
            ("parietal", 7, 2459),
            ("ventral", 2, 8185),
            ("nsdgeneral", 1, 15_724),
        ],
    )
    def test_voxels_of_further_regions(self, region: str, subject: int, count: int) -> None:
        scope = Scope(B3, {subject: published.SESSION_COUNTS[subject]})
        table = pd.DataFrame({"subject": f"subj{subject:02d}", "noise_ceiling": [0.0] * count})
        for rows, verdict in ((table, "passed"), (table.iloc[1:], "failed")):
            found = {check.name: check for check in check_published_region(region, rows, scope)}
            assert found["published voxel count"].verdict == verdict
            assert found["published voxel count"].where == f"{region}, subj{subject:02d}"

    @pytest.mark.parametrize(("added", "verdict"), [(0, "passed"), (1, "failed")])
    def test_medians_of_nsdgeneral_of_four_subjects_and_of_the_parcels(
        self, added: float, verdict: str
    ) -> None:
        one = pd.DataFrame({"subject": "subj05", "noise_ceiling": [34.1 + added] * 9})
        scope = Scope(B3, {5: published.SESSION_COUNTS[5]})
        (found,) = check_published_region("nsdgeneral", one, scope)
        assert (found.name, found.verdict) == ("published median noise ceiling", verdict)
        four = Scope(B3, {subject: published.SESSION_COUNTS[subject] for subject in (7, 5, 2, 1)})
        table = pd.DataFrame({"subject": "subj01", "noise_ceiling": [29.0 + added] * 9})
        checks = {one.name: one for one in check_published_region("V4", table, four)}
        assert checks["published pooled noise ceiling"].verdict == verdict
        parcels = pd.DataFrame({"subject": "subj01", "noise_ceiling": [9.7 + added] * 35_429})
        parcels.iloc[:6805, 1] = 31.0
        found_of_parcels = {
            one.name: one
            for one in check_published_region("IT-glasser", parcels, WHOLE)
            if not one.where.endswith("subj01")
        }
        assert found_of_parcels["published voxel count"].verdict == "passed"
        assert found_of_parcels["published reliable voxels"].verdict == "passed"
        assert found_of_parcels["published pooled noise ceiling"].verdict == verdict

    def test_numbers_of_all_voxels_need_all_subjects(self) -> None:
        table = self.voxels("V4")
        names = {check.name for check in check_published_region("V4", table, WHOLE)}
        assert "published reliable voxels" in names
        some = table[table["subject"] != "subj08"]
        seven = Scope(B3, {subject: n for subject, n in WHOLE.sessions.items() if subject != 8})
        names = {check.name for check in check_published_region("V4", some, seven)}
        assert names == {"published median noise ceiling", "published voxel count"}
        assert check_published_region("V3", table, WHOLE) == []

    @pytest.mark.parametrize("preparation", ["betas_assumehrf", "betas_fithrf", ""])
    def test_noise_ceilings_are_demanded_of_b3_alone(self, preparation: str) -> None:
        table = self.voxels("V1")
        table["noise_ceiling"] /= 2
        scope = Scope(preparation, WHOLE.sessions)
        found = check_published_region("V1", table, scope)
        assert {check.verdict for check in found if "count" in check.name} == {"passed"}
        verdicts = {check.verdict for check in found if "count" not in check.name}
        assert verdicts == (set() if preparation else {"not decidable"})
        assert "failed" in {check.verdict for check in check_published_region("V1", table, WHOLE)}

    @pytest.mark.parametrize("subjects", [(1,), (1, 2, 5, 7), (3, 6), (4,), tuple(range(1, 9))])
    def test_repetitions_are_published_of_all_sessions(self, subjects: tuple[int, ...]) -> None:
        counts = pd.DataFrame.from_dict(dict(published.REPETITION_COUNTS), orient="index")
        n_images = min(published.REPETITION_COUNTS[subject][0] for subject in subjects)
        for preparation in (B3, "betas_assumehrf", ""):
            scope = Scope(preparation, {subject: WHOLE.sessions[subject] for subject in subjects})
            found = check_published_repetitions(counts, n_images, scope)
            assert [one.verdict for one in found] == ["passed"] * (len(subjects) + 1)
            wrong = check_published_repetitions(counts - 1, n_images - 1, scope)
            assert {one.verdict for one in wrong} == {"failed"}
        fewer = Scope(B3, {s: n - (s == subjects[0]) for s, n in scope.sessions.items()})
        assert len(check_published_repetitions(counts, 3, fewer)) == len(subjects) - 1

    @pytest.mark.parametrize(("region", "value"), [("V1", 5402), ("V2", 4584), ("V4", 1660)])
    def test_reliable_voxels_are_counted(self, region: str, value: int) -> None:
        table = self.voxels(region)
        for surplus, verdict in ((0, "passed"), (50, "failed")):
            table["noise_ceiling"] = 30.0
            table.iloc[: value + surplus, 1] = 31.0
            found = {check.name: check for check in check_published_region(region, table, WHOLE)}
            assert found["published reliable voxels"].verdict == verdict

    def rdms(self) -> tuple[dict[str, np.ndarray], RegionOrder]:
        n_images = published_statistics.RDM_IMAGES
        upper = np.triu_indices(n_images, 1)
        noise = np.zeros((n_images, n_images))
        noise[upper] = np.random.default_rng(0).normal(size=len(upper[0]))
        noise = (noise + noise.T) / noise[upper].std()
        rdms = {"V1": 1 + 0.1 * noise, "V2": 1 + 0.2 * noise, "IT": 1 + 0.5 * noise}
        correlations = np.array([0.83, 0.60, 0.9, 0.16])
        return rdms, RegionOrder(correlations, -np.diff(correlations), np.zeros(3), np.full(3, 7.0))

    def test_rdms_are_judged_for_v1_and_shown_for_it(self) -> None:
        found = {
            (check.name, check.where): check.verdict
            for check in check_published_rdms(self.rdms()[0], {}, self.rdms()[1], WHOLE)
        }
        assert found == {
            ("published RDM deviation", "V1"): "passed",
            ("published RDM deviation", "V2"): "failed",
            ("published RDM deviation", "IT"): "not decidable",
            ("published correlation between regions", "V1-V2"): "passed",
            ("published correlation between regions", "V2-V4"): "failed",
            ("published correlation between regions", "V4-IT"): "not decidable",
            ("published correlation between regions", "V1-IT"): "not decidable",
        }

    def test_rdms_are_published_of_all_sessions_and_subjects_and_of_b3(self) -> None:
        rdms, order = self.rdms()
        fewer = dict(WHOLE.sessions) | {1: 39}
        some = {subject: n for subject, n in WHOLE.sessions.items() if subject < 8}
        for scope in (Scope("betas_fithrf", WHOLE.sessions), Scope(B3, fewer), Scope(B3, some)):
            assert check_published_rdms(rdms, {}, order, scope) == []
        unknown = check_published_rdms(rdms, {}, order, Scope("", WHOLE.sessions))
        assert "failed" not in {one.verdict for one in unknown}
        small = {region: rdm[:60, :60] for region, rdm in rdms.items()}
        assert check_published_rdms(small, {}, order, WHOLE) == []


class TestHemispheres:
    GRID = (9, 10, 12)

    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Voxels with a low and with a high NIfTI i."""
        i = np.unravel_index(np.arange(9 * 10 * 12), self.GRID)[2]
        return np.flatnonzero(i < 5), np.flatnonzero(i > 6)

    @pytest.mark.parametrize("flipped", [False, True])
    def test_the_affine_tells_left_from_right(self, flipped: bool) -> None:
        affine = np.diag([-1.8 if flipped else 1.8, 1.8, 1.8, 1])
        low, high = self.sides()
        left, right = (high, low) if flipped else (low, high)
        space = VolumeSpace(self.GRID, affine)
        assert check_hemispheres(1, space, left, right).verdict == "passed"
        exchanged = check_hemispheres(1, space, right, left)
        assert exchanged.verdict == "failed"
        assert "exchanged" in describe(exchanged).meaning

    def test_axes_in_another_order_are_followed(self) -> None:
        affine = np.array([[0, 0, 1.8, 0], [0, 1.8, 0, 0], [1.8, 0, 0, 0], [0, 0, 0, 1]])
        k = np.unravel_index(np.arange(9 * 10 * 12), self.GRID)[0]
        left, right = np.flatnonzero(k < 4), np.flatnonzero(k > 4)
        space = VolumeSpace(self.GRID, affine)
        assert check_hemispheres(1, space, left, right).verdict == "passed"

    @pytest.mark.filterwarnings("error")
    def test_labels_on_both_sides_and_too_few(self) -> None:
        everything = np.arange(9 * 10 * 12)
        space = VolumeSpace(self.GRID, np.diag([1.8, 1.8, 1.8, 1]))
        mixed = check_hemispheres(1, space, everything[::2], everything[1::2])
        assert mixed.verdict == "suspicious"
        none = check_hemispheres(1, space, everything[:0], everything)
        assert none.verdict == "not decidable"


class TestImages:
    def photographs(self, n_images: int = 60) -> np.ndarray:
        """Oriented noise of several scales, a little redder than blue."""
        generator = np.random.default_rng(0)
        spectrum = np.fft.fft2(generator.normal(size=(n_images, 64, 64)))
        fy, fx = np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64), indexing="ij")
        angle = generator.uniform(0, np.pi, (n_images, 1, 1))
        along = fx * np.cos(angle) + fy * np.sin(angle)
        across = fy * np.cos(angle) - fx * np.sin(angle)
        scale = generator.uniform(0.03, 0.3, (n_images, 1, 1))
        grey = np.fft.ifft2(spectrum * np.exp(-((along / scale) ** 2) - (across / 0.02) ** 2)).real
        grey = 128 + 50 * grey / grey.std(axis=(1, 2), keepdims=True)
        tint = np.array([10, 0, -10]) + generator.normal(0, 5, (n_images, 1, 1, 3))
        return np.clip(grey[..., np.newaxis] + tint, 0, 255).astype(np.uint8)

    def v1(self, features: np.ndarray) -> np.ndarray:
        """The RDM of voxels that read the features, with noise."""
        generator = np.random.default_rng(1)
        tuning = generator.normal(size=(features.shape[1], 300))
        responses = (features - features.mean(0)) @ tuning
        return rdms_of(responses + responses.std() * generator.normal(size=responses.shape))

    def test_images_in_place_pass_and_their_neighbours_fail(self) -> None:
        features = image_features(self.photographs())
        v1 = self.v1(features)
        assert check_images(features, v1, natural=True).verdict == "passed"
        off = check_images(np.roll(features, 1, axis=0), v1, natural=True)
        assert off.verdict == "failed"
        assert check_images(np.roll(features, 1, axis=0), v1, natural=False).verdict == (
            "not decidable"
        )

    def test_a_grating_has_its_energy_where_it_is(self) -> None:
        y, x = np.mgrid[:80, :120]
        images = np.full((3, 80, 120, 3), 128, dtype=np.uint8)
        images[0, ..., :] = (128 + 100 * np.sin(2 * np.pi * 8 * x / 120))[..., None]
        images[1, ..., :] = (128 + 100 * np.sin(2 * np.pi * 16 * y / 80))[..., None]
        energy = image_features(images).reshape(3, 4, 4, 4, 3)
        for row, orientation, frequency in ((0, 0, 1), (1, 2, 2)):
            best = energy[row].mean(axis=(0, 1))
            assert np.unravel_index(best.argmax(), best.shape) == (orientation, frequency)
        assert energy[2].max() < 1e-5 * energy[0].max()

    def test_red_and_blue_exchanged_are_suspicious(self) -> None:
        colours = self.photographs().mean(axis=(1, 2))
        assert check_colours(colours).verdict == "passed"
        assert check_colours(colours[:, ::-1]).verdict == "suspicious"
        assert check_colours(colours[:5]).verdict == "not decidable"


class TestRegionIdentity:
    def rdms(self, n_subjects: int, n_images: int = 60) -> dict[str, np.ndarray]:
        generator = np.random.default_rng(0)
        latents = generator.normal(size=(3, n_images, 5))
        found = {}
        for name, weights in HIERARCHY.items():
            features = np.concatenate([w * x for w, x in zip(weights, latents, strict=True)], 1)
            tuning = generator.normal(size=(n_subjects, 15, 200))
            noise = generator.normal(size=(n_subjects, n_images, 200))
            found[name] = np.stack([rdms_of(x) for x in features @ tuning + noise])
        return found

    def test_gain_is_that_of_plain_correlations_and_its_error_of_deletion(self) -> None:
        rdms = self.rdms(4)
        found = gains_of_regions(upper_triangles(rdms))[0]
        assert (found.first, found.second) == ("V1", "V2")

        def gains(keep: np.ndarray) -> np.ndarray:
            upper = np.triu_indices(len(keep), 1)
            flat = {n: [one[np.ix_(keep, keep)][upper] for one in rdms[n]] for n in ("V1", "V2")}
            r = np.corrcoef(np.concatenate([flat["V1"], flat["V2"]]))
            return r[:4, :4] + r[4:, 4:] - r[:4, 4:] - r[4:, :4]

        images = np.arange(60)
        np.testing.assert_allclose(found.between, gains(images), atol=1e-4)
        without = [gains(np.delete(images, image))[0, 1:].mean() for image in images]
        error = np.sqrt((found.influence[0] ** 2).sum())
        assert error == pytest.approx(np.sqrt(59 * np.var(without)), rel=0.15)

    @pytest.mark.parametrize(
        "seeds", [range(4), pytest.param(range(4, 24), marks=pytest.mark.slow)]
    )
    @pytest.mark.parametrize("n_subjects", [2, 3, 4, 8])
    def test_regions_of_one_geometry_are_never_called_exchanged(
        self, n_subjects: int, seeds: range
    ) -> None:
        """The draw of voxels alone decides which of two such regions another one is like."""
        for seed in seeds:
            generator = np.random.default_rng(seed)
            features = generator.normal(size=(100, 12))
            rdms = {
                name: np.stack(
                    [
                        rdms_of(features @ generator.normal(size=(12, n_voxels)))
                        for _ in range(n_subjects)
                    ]
                )
                for name, n_voxels in {"V1": 100, "V2": 20, "V4": 100, "IT": 300}.items()
            }
            found = check_region_identity(list(range(1, n_subjects + 1)), upper_triangles(rdms))
            assert {check.verdict for check in found} <= {"passed", "not decidable"}
            verdict = check_region_order(region_order(rdms), 100).verdict
            assert verdict in ("passed", "not decidable")

    def test_regions_in_their_places_pass_and_exchanged_ones_are_named(self) -> None:
        rdms = self.rdms(5)
        sound = check_region_identity([1, 2, 3, 5, 7], upper_triangles(rdms))
        assert {one.verdict for one in sound} == {"passed"}
        rdms["V1"][3], rdms["IT"][3] = rdms["IT"][3].copy(), rdms["V1"][3].copy()
        wrong = check_region_identity([1, 2, 3, 5, 7], upper_triangles(rdms))
        assert [one.where for one in wrong if one.verdict == "failed"] == ["subj05"]
        assert "subj05's V1 looks like the others' IT" in describe(wrong[3]).value

    def test_regions_of_ones_own_are_suspicious_at_most(self) -> None:
        rdms = self.rdms(5)
        rdms["V1"][3], rdms["IT"][3] = rdms["IT"][3].copy(), rdms["V1"][3].copy()
        own = {"mine": rdms["V1"], "other": rdms["IT"]}
        assert (
            check_region_identity([1, 2, 3, 5, 7], upper_triangles(own))[3].verdict == "suspicious"
        )

    def test_of_two_subjects_either_may_be_the_one(self) -> None:
        rdms = self.rdms(2)
        rdms["V1"][1], rdms["IT"][1] = rdms["IT"][1].copy(), rdms["V1"][1].copy()
        found = check_region_identity([1, 2], upper_triangles(rdms))
        assert {check.verdict for check in found} == {"suspicious"}

    def test_one_subject_or_one_region_gives_no_check(self) -> None:
        rdms = self.rdms(1)
        assert check_region_identity([1], upper_triangles(rdms)) == []
        assert check_region_identity([1, 2], upper_triangles({"V1": rdms["V1"]})) == []
