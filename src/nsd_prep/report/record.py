"""What a report holds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from nsd_prep.analysis.picture import Picture
from nsd_prep.checks import VERDICTS, Check, Verdict


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
    pictures : tuple of Picture
        Figures, in order.
    tables : tuple of Table
        Shown after the figures.
    files : mapping of str to DataFrame
        Tables that are written as CSV beside the page, by name without ending.
    """

    name: str
    title: str
    text: str
    pictures: tuple[Picture, ...] = ()
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
    checks : tuple of Check
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
    checks: tuple[Check, ...]
    methods: tuple[str, ...]
    references: tuple[str, ...]


@dataclass(frozen=True)
class CheckGroup:
    """Checks of one name, which mean the same for one region or subject after another.

    Attributes
    ----------
    name, meaning : str
        As in `nsd_prep.checks.Check`.
    verdict : {"failed", "not decidable", "passed"}
        The worst of them.
    numbers : mapping of Verdict to int
        How many have each verdict, those that occur.
    checks : tuple of Check
        In their order.
    """

    name: str
    meaning: str
    verdict: Verdict
    numbers: Mapping[Verdict, int]
    checks: tuple[Check, ...]


def grouped(checks: Sequence[Check]) -> list[CheckGroup]:
    """Group checks by name and meaning.

    Parameters
    ----------
    checks : sequence of Check
        In any order.

    Returns
    -------
    list of CheckGroup
        Groups with a failed check first, then undecided ones, then the others; in the order of
        their first check within each.
    """
    by_name: dict[tuple[str, str], list[Check]] = {}
    for one in checks:
        by_name.setdefault((one.name, one.meaning), []).append(one)
    groups = []
    for (name, meaning), of in by_name.items():
        numbers = verdict_numbers(of)
        groups.append(CheckGroup(name, meaning, next(iter(numbers)), numbers, tuple(of)))
    return sorted(groups, key=lambda group: VERDICTS.index(group.verdict))


def verdict_numbers(checks: Sequence[Check]) -> dict[Verdict, int]:
    """Count the checks of each verdict.

    Parameters
    ----------
    checks : sequence of Check
        Any number.

    Returns
    -------
    dict of str to int
        Verdicts that occur, failed first.
    """
    counts = Counter(one.verdict for one in checks)
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
