"""Checks: one thing that must hold, what was found, and the verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

import pandas as pd

from nsd_prep.errors import FailedChecksError

#: Name of the check that the images of the stimulus sets are there: a run goes on without them.
STIMULUS_SETS: Final = "stimulus sets"

Verdict = Literal["passed", "failed", "not decidable"]
VERDICTS: Final[tuple[Verdict, ...]] = ("passed", "failed", "not decidable")


@dataclass(frozen=True)
class Check:
    """One thing that must hold.

    Attributes
    ----------
    name : str
        What is checked.
    where : str
        Region, subject or file that it is about; empty for the whole run.
    value : str
        What was found.
    expectation : str
        What should be found.
    verdict : {"passed", "failed", "not decidable"}
        Whether it was.
    meaning : str
        One sentence: what it says about the data, and what to do where it failed.
    """

    name: str
    where: str
    value: str
    expectation: str
    verdict: Verdict
    meaning: str


def check(
    name: str, where: str, value: object, expectation: str, holds: bool | None, meaning: str
) -> Check:
    """Make a check from whether it holds; None where that cannot be decided.

    Parameters
    ----------
    name, where, expectation, meaning : str
        As in `Check`.
    value : object
        What was found; numbers are written with four digits.
    holds : bool or None
        The verdict.

    Returns
    -------
    Check
        With its verdict in words.
    """
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    if holds is None:
        return Check(name, where, text, expectation, "not decidable", meaning)
    return Check(name, where, text, expectation, "passed" if holds else "failed", meaning)


def as_table(checks: Sequence[Check]) -> pd.DataFrame:
    """Return the checks as a table, a row each, with the attributes of `Check` as columns."""
    columns = ["name", "where", "value", "expectation", "verdict", "meaning"]
    return pd.DataFrame([asdict(one) for one in checks], columns=columns)


def raise_failed(checks: Sequence[Check]) -> None:
    """Raise where a check failed.

    Parameters
    ----------
    checks : sequence of Check
        All of a run's.

    Raises
    ------
    FailedChecksError
        It names each failed check with what was found and expected.
    """
    failed = [one for one in checks if one.verdict == "failed"]
    if failed:
        raise FailedChecksError(
            [
                f"The check '{one.name}'{f' of {one.where}' if one.where else ''} failed: found "
                f"{one.value}, expected {one.expectation}."
                for one in failed
            ]
        )
