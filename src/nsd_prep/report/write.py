"""A report as files: the page, its figures as PNG and in one PDF, its tables as CSV."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from nsd_prep.core.atomic import write_text, written_whole
from nsd_prep.report.figures.style import booklet
from nsd_prep.report.page import render_page
from nsd_prep.report.record import Report

#: From so many cells on a table is not left to pandas, which formats them one by one.
_CELLS_OF_PANDAS: Final = 50_000
#: As texts, cells take ten times their memory.
_ROWS_AT_ONCE: Final = 10_000
_NEEDS_QUOTES: Final = re.compile('[,"\r\n]')


def write_report_files(folder: Path, report: Report) -> list[Path]:
    """Write a report.

    Parameters
    ----------
    folder : Path
        Where; made where it is missing.
    report : Report
        As `nsd_prep.report.compose.compose_report` gives it. The same report gives the same
        bytes.

    Returns
    -------
    list of Path
        All that was written: ``figures/NAME.png``, ``figures.pdf`` with a page for each figure that
        is more than pixels,
        ``tables/NAME.csv``, and ``index.html``, written last.
    """
    files = {f"figures/{picture.name}.png": picture.png for picture in report.pictures}
    if report.pages:
        files["figures.pdf"] = booklet(report.pictures)
    written = []
    for name, content in files.items():
        path = folder / name
        with written_whole(path) as partial:
            partial.write_bytes(content)
        written.append(path)
    for section in report.sections:
        for name, frame in section.files.items():
            path = folder / "tables" / f"{name}.csv"
            write_text(path, as_csv(frame))
            written.append(path)
    page = folder / "index.html"
    write_text(page, render_page(report))
    return [*written, page]


def as_csv(frame: pd.DataFrame) -> str:
    """Return a table as CSV text, numbers with seven digits.

    Parameters
    ----------
    frame : DataFrame
        Any table.

    Returns
    -------
    str
        With a header, without the index, lines ending in a line feed.
    """
    if frame.size >= _CELLS_OF_PANDAS and (texts := _as_lines(frame)) is not None:
        return texts
    text: str = frame.to_csv(index=False, lineterminator="\n", float_format="%.7g")
    return text


def _as_lines(frame: pd.DataFrame) -> str | None:
    """Return a table as CSV; None where a cell may need quotes."""
    if not _is_plain(frame.columns):
        return None
    pieces = [",".join(frame.columns)]
    for start in range(0, len(frame), _ROWS_AT_ONCE):
        some = frame.iloc[start : start + _ROWS_AT_ONCE]
        columns = [_as_texts(some[name]) for name in some]
        if any(column is None for column in columns):
            return None
        pieces.append("\n".join(map(",".join, zip(*columns, strict=True))))
    return "\n".join([*pieces, ""])


def _as_texts(column: "pd.Series[Any]") -> list[str] | None:
    """Return a column's cells as pandas writes them; None where one may need quotes."""
    values = column.tolist()
    kind = column.dtype.kind if isinstance(column.dtype, np.dtype) else ""
    if kind == "f":
        return ["" if value != value else f"{value:.7g}" for value in values]
    if kind in ("i", "u"):
        return list(map(str, values))
    return values if _is_plain(values) else None


def _is_plain(names: Iterable[object]) -> bool:
    """Return whether all are texts that pandas writes as they are."""
    texts = [name for name in set(names) if isinstance(name, str) and name]
    return len(texts) == len(set(names)) and not _NEEDS_QUOTES.search("".join(texts))
