"""Checks as data: kinds, verdicts, words made when they are shown, and the table."""

import json
import re
import runpy
import string
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from surface_words import words_of_voxels

from nsd_prep.checks.assembly_values import VOXELS_MEASURED
from nsd_prep.checks.placement import INSIDE_BRAIN_MASK
from nsd_prep.checks.published_kinds import PUBLISHED_WEAKEST_SUBJECT
from nsd_prep.checks.registry import KINDS, as_table, describe
from nsd_prep.checks.scales import SCALE_OF_SESSIONS
from nsd_prep.checks.tables import TABLES_OF_DATA
from nsd_prep.checks.train_test import RELIABLE_VOXELS_HAVE_CEILING
from nsd_prep.core.check import PROBLEMS, VERDICTS, Check, Kind, any_verdict, of_vertices, worst
from nsd_prep.core.check_table import raise_failed
from nsd_prep.core.content import content
from nsd_prep.core.errors import FailedChecksError
from nsd_prep.core.nouns import VERTEX
from nsd_prep.core.records import StepOutput

DOCS = Path(__file__).parents[1] / "docs"
ALL_KINDS = [kind for kinds in KINDS.values() for kind in kinds]
TOLD = Kind(
    name="told",
    scope="region",
    measures="something",
    conditions=dict.fromkeys(VERDICTS, "sometimes"),
    value="{measured:.4g} and {other:.1%} of {what}",
    expectation="at most {upper:g}",
    meanings={**any_verdict("A verdict."), "odd": "An odd one."},
    upper=2,
    unit="r",
)


def outside(verdict: str, subject: int = 1) -> Check:
    return INSIDE_BRAIN_MASK.check(
        verdict, region="V1", subject=f"subj{subject:02d}", measured=0.25, n_voxels=40
    )


class TestVerdicts:
    def test_in_words(self) -> None:
        verdicts = [TOLD.check(holds).verdict for holds in (True, False, None, "suspicious")]
        assert verdicts == ["passed", "failed", "not decidable", "suspicious"]

    def test_the_worst_is_the_first_to_look_at(self) -> None:
        assert worst(["passed", "suspicious", "not decidable"]) == "suspicious"
        assert worst(["passed", "not decidable"]) == "not decidable"
        assert worst([]) == "not decidable"

    def test_problems_are_the_worst_of_them(self) -> None:
        assert VERDICTS[: len(PROBLEMS)] == PROBLEMS

    def test_only_failed_checks_end_a_run(self) -> None:
        checks = as_table([outside(verdict, row) for row, verdict in enumerate(VERDICTS, 1)])
        raise_failed(checks[1:])
        with pytest.raises(FailedChecksError, match="'region inside the brain mask' of V1"):
            raise_failed(checks)
        with pytest.raises(FailedChecksError, match=r"found 25\.0% of 40 voxels"):
            raise_failed(checks)


class TestCheck:
    def test_is_about_region_subject_and_data(self) -> None:
        assert TOLD.check(True).where == ""
        assert TOLD.check(True, subject="subj02", region="V1").where == "V1, subj02"
        assert TOLD.check(True, subject="subj02", data="single trials").where == (
            "subj02, single trials"
        )

    def test_has_the_bounds_of_its_kind_or_its_own(self) -> None:
        assert (TOLD.check(True).lower, TOLD.check(True).upper) == (None, 2)
        own = TOLD.check(True, lower=0, upper=1, unit="p")
        assert (own.lower, own.upper, own.unit) == (0, 1, "p")

    @pytest.mark.parametrize("number", [np.float32(0.5), 0.5, np.float64(0.5)])
    def test_words_are_made_of_its_fields(self, number: float) -> None:
        check = TOLD.check(True, measured=number, other=number, what=np.int64(7))
        assert TOLD.value_of(check) == "0.5 and 50.0% of 7"
        assert TOLD.expectation_of(check) == "at most 2"
        assert TOLD.meaning_of(check) == "A verdict."
        assert TOLD.meaning_of(replace(check, reason="odd")) == "An odd one."

    def test_what_could_not_be_measured_is_said(self) -> None:
        check = TOLD.check(None, measured=float("nan"), other=float("inf"), what=None)
        assert check.measured is None
        assert TOLD.value_of(check) == "unknown and unknown of None"

    @pytest.mark.parametrize("name", ["/data/nan/x.hdf5", "inf", "voxels of {site}"])
    def test_names_stay_what_they_are(self, name: str) -> None:
        check = of_vertices(TOLD.check(None, other=0.5, what=name))
        assert TOLD.value_of(check).endswith(f"of {name}")

    def test_on_a_surface_its_words_are_about_vertices(self) -> None:
        check = of_vertices(VOXELS_MEASURED.check(None, measured=0.5, n_voxels=24))
        described = describe(check)
        assert described.value.startswith("50.0% of 24 vertices without data")
        assert as_table([check])["unit"].tolist() == ["share of vertices"]
        assert as_table([check])["name"].tolist() == ["voxels with data"]
        own = replace(check, unit="share of all")
        assert as_table([own])["unit"].tolist() == ["share of all"]
        lacking = RELIABLE_VOXELS_HAVE_CEILING.check(False, reason="without data", n_reliable=9)
        assert 'invalid_voxels="drop"' in describe(of_vertices(lacking)).meaning
        assert "these vertices lack data" in describe(of_vertices(lacking)).meaning

    def test_survives_a_record(self) -> None:
        checks = (
            TOLD.check(True, session=np.int64(3), measured=1, other=np.inf, what=(1, 2)),
            outside("failed"),
        )
        record = StepOutput(checks=checks)
        text = json.dumps(record.model_dump(mode="json"), allow_nan=False)
        assert StepOutput.model_validate_json(text).checks == checks

    def test_one_of_an_earlier_form_is_not_taken_for_one(self) -> None:
        record = StepOutput(checks=(outside("failed"),)).model_dump(mode="json")
        words = ("name", "where", "value", "expectation", "verdict", "meaning")
        record["checks"] = [dict.fromkeys(words, "passed")]
        with pytest.raises(ValueError, match="altered"):
            StepOutput.model_validate(record)


class TestKinds:
    def test_have_names_of_their_own(self) -> None:
        assert len({kind.name for kind in ALL_KINDS}) == len(ALL_KINDS)

    @pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
    def test_each_can_pass_and_can_not(self, kind: Kind) -> None:
        if kind is not PUBLISHED_WEAKEST_SUBJECT:  # which is shown without a verdict
            assert "passed" in kind.conditions
            assert len(kind.conditions) > 1
        assert set(kind.conditions) <= set(VERDICTS)
        assert all(sentence.endswith(".") for sentence in kind.meanings.values())
        assert kind.scope
        assert kind.measures
        assert kind.expectation

    @pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
    def test_each_says_what_its_verdicts_mean(self, kind: Kind) -> None:
        reasons = set(kind.meanings) - set(VERDICTS)
        # A verdict without a sentence of its own is told by reasons.
        assert reasons or set(kind.conditions) <= set(kind.meanings)

    @pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
    def test_on_a_surface_each_speaks_of_vertices(self, kind: Kind) -> None:
        fields = {
            name
            for template in (kind.value, kind.expectation)
            for _, name, _, _ in string.Formatter().parse(template)
            if name
        } - {"measured", "lower", "upper", *VERTEX.fields}
        check = of_vertices(kind.check(None, **dict.fromkeys(fields, 1)))
        said = [kind.value_of(check), kind.expectation_of(check), kind.unit_of(check)]
        said += [kind.meaning_of(replace(check, reason=reason)) for reason in kind.meanings]
        assert not words_of_voxels(said)

    @pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
    def test_what_cannot_be_decided_is_not_said_to_hold(self, kind: Kind) -> None:
        if {"not decidable", "passed"} <= set(kind.conditions):
            meanings = [kind.meanings.get(verdict) for verdict in ("not decidable", "passed")]
            assert meanings[0] is None or meanings[0] != meanings[1]

    @pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
    def test_each_whose_number_has_an_error_says_what_that_holds(self, kind: Kind) -> None:
        words = " ".join([*kind.conditions.values(), kind.measures])
        if re.search(r"surely|standard errors|permuted|robustly|\bp (above|below)", words):
            assert kind.draws

    def test_numbers_that_decide_have_a_source(self) -> None:
        thresholds = [one for kind in ALL_KINDS for one in kind.thresholds]
        assert thresholds
        assert all(one.name and one.source for one in thresholds)

    def test_page_has_their_tables(self) -> None:
        page = (DOCS / "checks.md").read_text(encoding="utf-8")
        script = runpy.run_path(str(DOCS / "tables_of_checks.py"))
        assert script["with_tables"](page) == page, "run python docs/tables_of_checks.py"
        assert all(f"\n| {kind.name} |" in page for kind in ALL_KINDS)


class TestTable:
    def test_has_words_then_data(self) -> None:
        scale = SCALE_OF_SESSIONS.check(
            False,
            subject="subj02",
            session=4,
            measured=7.25,
            lower=0.5,
            upper=1.5,
            unit="ratio of deviations",
            found="session 4: odd",
        )
        table = as_table([outside("suspicious"), scale])
        described = describe(scale)
        assert table.columns.tolist() == [
            *("name", "where", "value", "expectation", "verdict", "meaning"),
            *("region", "subject", "data", "session", "run", "measured", "lower", "upper", "unit"),
        ]
        assert table.iloc[1].tolist()[:6] == [
            "scale of sessions",
            "subj02",
            "session 4: odd",
            described.expectation,
            "failed",
            described.meaning,
        ]
        assert table["measured"].tolist() == [0.25, 7.25]
        assert table["session"].tolist() == [pd.NA, 4]
        assert "subj02,,4,,7.25,0.5,1.5,ratio of deviations" in table.to_csv()

    def test_without_checks_has_the_same_columns(self) -> None:
        columns = as_table([outside("passed")]).columns
        assert as_table([]).columns.tolist() == columns.tolist()


def test_templates_name_nothing_by_position() -> None:
    for kind in ALL_KINDS:
        for template in (kind.value, kind.expectation):
            names = [name for _, name, _, _ in string.Formatter().parse(template) if name != ""]
            assert all(name is None or name.isidentifier() for name in names)


def test_a_check_has_the_same_content_after_its_record_was_read() -> None:
    check = TABLES_OF_DATA.check(True, data="voxels.csv", measured=0, lower=0, upper=np.int64(2))
    record = StepOutput(checks=(check,))
    (read,) = StepOutput.model_validate_json(record.model_dump_json()).checks
    assert repr(content(read)) == repr(content(check))
