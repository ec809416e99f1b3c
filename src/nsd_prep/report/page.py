"""The report as one HTML page that needs nothing else."""

import base64
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Final

import numpy as np
import pandas as pd
from jinja2 import DictLoader, Environment, StrictUndefined

from nsd_prep.core.check import PROBLEMS
from nsd_prep.report.figures.figure import Cells
from nsd_prep.report.record import Report, cells, grouped, header, problems, verdict_numbers

_TEMPLATE: Final = "page.html.jinja"
_STYLE: Final = "page.css"
_SCRIPT: Final = "page.js"
#: What stands before a verdict, for those who do not tell its colour.
MARKS: Final[Mapping[str, str]] = {
    "failed": "✗",
    "suspicious": "!",
    "not decidable": "?",
    "passed": "✓",
}
#: Matrices with more cells than this are written with one byte a cell.
_CELLS_WRITTEN_OUT: Final = 5000


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
    template, style, script = (
        (files / name).read_text("utf-8") for name in (_TEMPLATE, _STYLE, _SCRIPT)
    )
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
        "cells_json": cells_json,
    }
    return environment.get_template(_TEMPLATE).render(
        report=report,
        groups=grouped(report.checks),
        numbers=verdict_numbers(report.checks),
        pages=report.pages,
        problems=problems(report.checks),
        problem_verdicts=PROBLEMS,
        marks=MARKS,
        style=style,
        script=script,
    )


def numeric(frame: pd.DataFrame) -> list[bool]:
    """Return for each column of a table whether it holds numbers."""
    return [pd.api.types.is_numeric_dtype(frame[column]) for column in frame.columns]


def data_uri(png: bytes) -> str:
    """Return a PNG picture as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def cells_json(matrices: Sequence[Cells]) -> str:
    """Write matrices for the page's script, which shows the value under the pointer.

    Parameters
    ----------
    matrices : sequence of Cells
        Of one figure.

    Returns
    -------
    str
        JSON that holds no ``<``: a list with box, rows, columns, and either values (numbers or
        null) or, for a large symmetric matrix, low, high and bytes: its upper triangle in base64,
        a byte each, 255 steps from low to high.
    """
    return json.dumps([_cells(matrix) for matrix in matrices]).replace("<", "\\u003c")


def _cells(matrix: Cells) -> dict[str, Any]:
    box = [round(share, 5) for share in (matrix.left, matrix.top, matrix.width, matrix.height)]
    rows, columns = list(matrix.rows), list(matrix.columns)
    values = np.asarray(matrix.values, dtype=np.float64)
    written: dict[str, Any] = {"box": box, "rows": rows}
    if columns != rows:
        written["columns"] = columns
    if values.size <= _CELLS_WRITTEN_OUT:
        written["values"] = [
            [float(f"{value:.3g}") if np.isfinite(value) else None for value in row]
            for row in values
        ]
        return written
    pairs = values[np.triu_indices(len(values), k=1)]
    low, high = float(pairs.min()), float(pairs.max())
    steps = np.round(255 * (pairs - low) / ((high - low) or 1.0)).astype(np.uint8)
    return written | {
        "low": round(low, 5),
        "high": round(high, 5),
        "bytes": base64.b64encode(steps.tobytes()).decode("ascii"),
    }
