"""What a report holds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from nsd_prep.checks.registry import DescribedCheck
from nsd_prep.core.check import PROBLEMS, VERDICTS, Verdict
from nsd_prep.report.figures.figure import ReportFigure


@dataclass(frozen=True)
class Table:
    """A table that the page shows.

    Attributes
    ----------
    caption : str
        What it holds, in a sentence.
    frame : DataFrame
        Its cells; the columns' names are shown as they are, ``_`` as a space.
    """

    caption: str
    frame: pd.DataFrame


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes
    ----------
    name : str
        Lower case, words joined by dashes: part of addresses and artifact keys.
    title : str
        A few words.
    text : str
        What to look for, in a few sentences.
    pictures : tuple of ReportFigure
        Figures, in order.
    tables : tuple of Table
        Shown after the figures.
    files : mapping of str to DataFrame
        Tables that are written as CSV beside the page, by name without ending.
    """

    name: str
    title: str
    text: str
    pictures: tuple[ReportFigure, ...] = ()
    tables: tuple[Table, ...] = ()
    files: Mapping[str, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All that a report says; nothing in it depends on when or where it is written.

    Attributes
    ----------
    title : str
        Of the page.
    summary : str
        One sentence: what was made from what.
    facts : mapping of str to str
        What was run on what: short names and values.
    sections : tuple of Section
        In the order of the page.
    checks : tuple of DescribedCheck
        Every check of the run.
    methods : tuple of str
        Paragraphs that could stand in a paper.
    references : tuple of str
        What the paragraphs cite.
    """

    title: str
    summary: str
    facts: Mapping[str, str]
    sections: tuple[Section, ...]
    checks: tuple[DescribedCheck, ...]
    methods: tuple[str, ...]
    references: tuple[str, ...]

    @property
    def pictures(self) -> list[ReportFigure]:
        """The figures of all sections, in the order of the page."""
        return [picture for section in self.sections for picture in section.pictures]

    @property
    def pages(self) -> dict[str, int]:
        """The page of ``figures.pdf`` that a figure has, from 1, by the figure's name."""
        named = [picture.name for picture in self.pictures if picture.figure is not None]
        return {name: page for page, name in enumerate(named, 1)}


@dataclass(frozen=True)
class CheckGroup:
    """Checks of one name, for one region or subject after another.

    Attributes
    ----------
    name : str
        As in `nsd_prep.core.check.Check`.
    meanings : tuple of str
        What they mean, each once, in the order of the checks.
    verdict : {"failed", "suspicious", "not decidable", "passed"}
        The worst of them.
    numbers : mapping of str to int
        How many have each verdict, those that occur.
    checks : tuple of DescribedCheck
        In their order.
    """

    name: str
    meanings: tuple[str, ...]
    verdict: Verdict
    numbers: Mapping[Verdict, int]
    checks: tuple[DescribedCheck, ...]

    def columns(self) -> list[str]:
        """Return the columns that tell these checks apart, in the page's order."""
        columns = ["verdict"]
        rows = self.rows()
        columns += [name for name in ("region", "subject") if any(row[name] for row in rows)]
        columns += ["found", "expected"]
        return columns + (["meaning"] if len(self.meanings) > 1 else [])

    def rows(self) -> list[dict[str, str]]:
        """Return a row for each check, by column."""
        return [check_row(check) for check in self.checks]


def check_row(described: DescribedCheck) -> dict[str, str]:
    """Return a check's cells by column; what is of no region has its data in that column."""
    check = described.check
    return {
        "verdict": check.verdict,
        "check": check.name,
        "region": check.region or check.data,
        "subject": check.subject,
        "found": described.value,
        "expected": described.expectation,
        "meaning": described.meaning,
    }


def grouped(checks: Sequence[DescribedCheck]) -> list[CheckGroup]:
    """Group checks by name.

    Returns
    -------
    list of CheckGroup
        By the worst verdict of each, in the order of `nsd_prep.core.check.VERDICTS`, and of their
        first check within.
    """
    by_name: dict[str, list[DescribedCheck]] = {}
    for check in checks:
        by_name.setdefault(check.check.name, []).append(check)
    groups = []
    for name, members in by_name.items():
        numbers = verdict_numbers(members)
        meanings = tuple(dict.fromkeys(check.meaning for check in members))
        groups.append(CheckGroup(name, meanings, next(iter(numbers)), numbers, tuple(members)))
    return sorted(groups, key=lambda group: VERDICTS.index(group.verdict))


def problems(checks: Sequence[DescribedCheck]) -> list[dict[str, str]]:
    """Return the rows of failed and of suspicious checks, failed ones first."""
    return [
        check_row(check)
        for verdict in PROBLEMS
        for check in checks
        if check.check.verdict == verdict
    ]


def verdict_numbers(checks: Sequence[DescribedCheck]) -> dict[Verdict, int]:
    """Count the checks of each verdict that occurs, failed ones first."""
    counts = Counter(row.check.verdict for row in checks)
    return {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}


def cells(frame: pd.DataFrame) -> list[list[str]]:
    """Write the cells of a table for people.

    Parameters
    ----------
    frame : DataFrame
        Numbers with a fraction are written with three digits after the point, and with one in a
        column that reaches 10; whole numbers with a comma at each thousand; NaN as a dash.

    Returns
    -------
    list of list of str
        Rows of cells.
    """
    columns = [_texts(frame[column]) for column in frame.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _texts(column: "pd.Series[Any]") -> list[str]:
    if pd.api.types.is_float_dtype(column):
        digits = 1 if column.abs().max() >= 10 else 3
        return [f"{value:.{digits}f}" if np.isfinite(value) else "\N{EN DASH}" for value in column]
    if pd.api.types.is_integer_dtype(column):
        return [f"{value:,}" for value in column]
    return [str(value) for value in column]


def header(column: str) -> str:
    """Write a column's name for people."""
    words = {"rdm": "RDM", "sd": "SD"}
    return " ".join(words.get(word, word) for word in column.split("_"))
