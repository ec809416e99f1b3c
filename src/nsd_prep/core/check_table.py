"""The table of a run's checks: read back, and what follows from it."""

from pathlib import Path
from types import MappingProxyType
from typing import Final

import pandas as pd

from nsd_prep.core.errors import FailedChecksError

#: Columns that say in words what each check found.
WORDS: Final = ("name", "where", "value", "expectation", "verdict", "meaning")
#: Columns with the fields of a check; empty where a check has none.
FIELDS: Final = (
    "region",
    "subject",
    "data",
    "session",
    "run",
    "measured",
    "lower",
    "upper",
    "unit",
)
#: Types of those that are numbers.
NUMBERS: Final = MappingProxyType(
    dict.fromkeys(("session", "run"), "Int64")
    | dict.fromkeys(("measured", "lower", "upper"), "float64")
)


def read_checks(path: Path) -> pd.DataFrame:
    """Read ``checks.csv`` as the table that was written."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for name, kind in NUMBERS.items():
        # Number by number: a reader's own floats may differ in the last digit.
        read = int if kind == "Int64" else float
        numbers = [read(text) if text else None for text in table[name]]
        table[name] = pd.Series(numbers, dtype=kind)
    return table


def raise_failed(checks: pd.DataFrame) -> None:
    """Raise a FailedChecksError that names each failed check of ``checks.csv``."""
    failed = [
        f"The check '{row.name}'{f' of {row.where}' * bool(row.where)} failed: found {row.value}, "
        f"expected {row.expectation}."
        for row in checks[checks["verdict"] == "failed"].itertuples()
    ]
    if failed:
        raise FailedChecksError(failed)
