"""Checks as records: verdicts in words, numbers, the table."""

import dataclasses

import pytest

from nsd_prep.core.check import VERDICTS, Check, as_table, check, raise_failed, worst
from nsd_prep.core.errors import FailedChecksError


class TestRecords:
    def test_verdicts_in_words(self) -> None:
        assert check("a", "b", 1, "c", True, "d").verdict == "passed"
        assert check("a", "b", 1, "c", False, "d").verdict == "failed"
        assert check("a", "b", 1, "c", None, "d").verdict == "not decidable"
        assert check("a", "b", 1, "c", "suspicious", "d").verdict == "suspicious"

    def test_only_failed_checks_end_a_run(self) -> None:
        made = [check(verdict, "", 1, "2", verdict, "d") for verdict in VERDICTS]
        raise_failed(made[1:])
        with pytest.raises(FailedChecksError, match="'failed'") as raised:
            raise_failed(made)
        assert "suspicious" not in str(raised.value)

    def test_the_worst_verdict_is_the_first_to_look_at(self) -> None:
        assert worst(["passed", "suspicious", "not decidable"]) == "suspicious"
        assert worst(["passed", "not decidable"]) == "not decidable"
        assert worst([]) == "not decidable"

    def test_numbers_have_four_digits(self) -> None:
        assert check("a", "b", 0.123456, "c", True, "d").value == "0.1235"
        assert check("a", "b", 123456, "c", True, "d").value == "123456"

    def test_a_table_has_a_row_for_each(self) -> None:
        checks = [check("a", "b", n, "c", True, "d") for n in range(3)]
        table = as_table(checks)
        assert table.columns.tolist() == [field.name for field in dataclasses.fields(Check)]
        assert table["value"].tolist() == ["0", "1", "2"]
        assert as_table([]).columns.tolist() == table.columns.tolist()
