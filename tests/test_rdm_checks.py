"""Checks that look at RDMs: of subjects, of regions, and of the images."""

import itertools

import numpy as np
import pytest

from nsd_prep.analysis.image_features import image_features
from nsd_prep.analysis.rdm import upper_triangle
from nsd_prep.checks import (
    check_colours,
    check_images,
)
from nsd_prep.checks.rdms import rdm_reliability, unit_rdm
from nsd_prep.checks.region_identity import check_region_identity, gains_of_regions
from nsd_prep.checks.region_order import (
    ORDER_OF_REGION_PAIRS,
    check_region_order,
    region_order,
)
from nsd_prep.checks.registry import describe
from nsd_prep.checks.subject_agreement import check_subject_agreement, subject_agreement
from nsd_prep.core.check import PROBLEMS

#: Weights of three groups of features in each region.
HIERARCHY = {"V1": (1, 0.3, 0), "V2": (1, 0.7, 0.1), "V4": (0.4, 1, 0.3), "IT": (0, 0.4, 1)}


def rdms_of(responses: np.ndarray) -> np.ndarray:
    return 1 - np.corrcoef(responses)


def upper_triangles(rdms: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.stack([upper_triangle(rdm) for rdm in own]) for name, own in rdms.items()}


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
