"""A report as files: the page, its figures as PNG and in one PDF, its tables as CSV."""

from pathlib import Path
from typing import Final

import pandas as pd

from nsd_prep.core.atomic import write_text, written_whole
from nsd_prep.report.figures.style import booklet
from nsd_prep.report.page import render_page
from nsd_prep.report.record import Report

#: Tables with more columns than this hold a matrix, and are written row by row.
_COLUMNS_OF_MATRIX: Final = 100


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
        Any table. One with more than 100 columns holds names that need no quotes, and numbers.

    Returns
    -------
    str
        With a header, without the index, lines ending in a line feed.
    """
    if len(frame.columns) <= _COLUMNS_OF_MATRIX:
        text: str = frame.to_csv(index=False, lineterminator="\n", float_format="%.7g")
        return text
    # pandas formats cell by cell, which takes eight times as long for a matrix of distances.
    is_float = [pd.api.types.is_float_dtype(dtype) for dtype in frame.dtypes]
    form = ",".join("%.7g" if number else "%s" for number in is_float)
    rows = (form % row for row in frame.itertuples(index=False, name=None))
    return "\n".join([",".join(frame.columns), *rows, ""])
