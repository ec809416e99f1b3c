"""The report as one HTML page that needs nothing else."""

import base64
from importlib import resources
from pathlib import Path
from typing import Final

import pandas as pd
from jinja2 import DictLoader, Environment, StrictUndefined

from nsd_prep.files import write_text, written_whole
from nsd_prep.report.record import Report, cells, grouped, header, verdict_numbers

_TEMPLATE: Final = "page.html.jinja"
_STYLE: Final = "page.css"
#: What stands before a verdict, for those who do not tell its colour.
MARKS: Final = {"passed": "✓", "failed": "✗", "not decidable": "?"}


def render_page(report: Report) -> str:
    """Render a report as HTML, with pictures and style inside.

    Parameters
    ----------
    report : Report
        What to say.

    Returns
    -------
    str
        A page; the same report gives the same text.
    """
    files = resources.files("nsd_prep.report")
    template, style = ((files / name).read_text("utf-8") for name in (_TEMPLATE, _STYLE))
    environment = Environment(
        loader=DictLoader({_TEMPLATE: template}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "cells": cells,
        "header": header,
        "data_uri": data_uri,
        "numeric": numeric,
    }
    return environment.get_template(_TEMPLATE).render(
        report=report,
        groups=grouped(report.checks),
        numbers=verdict_numbers(report.checks),
        marks=MARKS,
        style=style,
    )


def numeric(frame: pd.DataFrame) -> list[bool]:
    """Return for each column of a table whether it holds numbers."""
    return [pd.api.types.is_numeric_dtype(frame[column]) for column in frame.columns]


def data_uri(png: bytes) -> str:
    """Return a PNG picture as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write a report: the page, its figures as PNG and PDF, its tables as CSV.

    Parameters
    ----------
    report : Report
        What it holds.
    folder : Path
        Where; made where it is missing.

    Returns
    -------
    list of Path
        All the files; ``index.html`` was written last.
    """
    written = []
    for section in report.sections:
        for picture in section.pictures:
            for ending, content in (("png", picture.png), ("pdf", picture.pdf)):
                written.append(folder / "figures" / f"{picture.name}.{ending}")
                with written_whole(written[-1]) as partial:
                    partial.write_bytes(content)
        for name, frame in section.files.items():
            written.append(folder / "tables" / f"{name}.csv")
            text = frame.to_csv(index=False, lineterminator="\n", float_format="%.7g")
            write_text(written[-1], text)
    written.append(folder / "index.html")
    write_text(written[-1], render_page(report))
    return written
