"""Checks: one thing that must hold, what was found, and the verdict."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

import pandas as pd

from nsd_prep.core.errors import FailedChecksError

#: Name of the check that the images of the stimulus sets are there: a run goes on without them.
STIMULUS_SETS: Final = "stimulus sets"

Verdict = Literal["passed", "suspicious", "failed", "not decidable"]
#: Verdicts, the one to look at first in front. A failed check ends a run with exit status 1; a
#: suspicious one is shown at the top and ends it with 0.
VERDICTS: Final[tuple[Verdict, ...]] = ("failed", "suspicious", "not decidable", "passed")


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
    verdict : {"passed", "suspicious", "failed", "not decidable"}
        Whether it was. Suspicious: unlikely in sound data, and a person should look.
    meaning : str
        One sentence: what the verdict says about the data, and what to do where it failed.
    """

    name: str
    where: str
    value: str
    expectation: str
    verdict: Verdict
    meaning: str


def check(
    name: str,
    where: str,
    value: object,
    expectation: str,
    holds: bool | Verdict | None,
    meaning: str,
) -> Check:
    """Make a check from whether it holds.

    Parameters
    ----------
    name, where, expectation, meaning : str
        As in `Check`.
    value : object
        What was found; numbers are written with four digits.
    holds : bool or {"passed", "suspicious", "failed", "not decidable"}, optional
        True is passed, False failed, None not decidable.

    Returns
    -------
    Check
        With its verdict in words.
    """
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return Check(name, where, text, expectation, as_verdict(holds), meaning)


def as_verdict(holds: bool | Verdict | None) -> Verdict:
    """Return the verdict in words: True is passed, False failed, None not decidable."""
    if holds is None:
        return "not decidable"
    if isinstance(holds, str):
        return holds
    return "passed" if holds else "failed"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict to look at first; not decidable where there is none."""
    found = set(verdicts)
    return next((verdict for verdict in VERDICTS if verdict in found), "not decidable")


def as_table(checks: Sequence[Check]) -> pd.DataFrame:
    """Return the checks as a table, a row each, with the attributes of `Check` as columns."""
    columns = ["name", "where", "value", "expectation", "verdict", "meaning"]
    return pd.DataFrame([asdict(one) for one in checks], columns=columns)


def raise_failed(checks: Sequence[Check]) -> None:
    """Raise where one of a run's checks failed; a suspicious one does not raise.

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
