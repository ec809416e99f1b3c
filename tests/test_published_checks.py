"""Checks against published numbers."""

import numpy as np
import pandas as pd
import pytest

from nsd_prep.checks import (
    Scope,
    check_published_region,
    check_published_repetitions,
    published_statistics,
)
from nsd_prep.checks.published_values import check_published_rdms
from nsd_prep.checks.region_order import (
    RegionOrder,
)
from nsd_prep.checks.registry import describe
from nsd_prep.dataset import published

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
