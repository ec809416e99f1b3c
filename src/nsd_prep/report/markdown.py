"""The report in Markdown, in pieces for a server that shows artifacts."""

from collections.abc import Mapping

import pandas as pd

from nsd_prep.core.markdown import markdown_table
from nsd_prep.report.figures.figure import ReportFigure
from nsd_prep.report.page import MARKS, data_uri
from nsd_prep.report.record import Report, Section, cells, grouped, header, verdict_numbers


def artifacts(report: Report) -> dict[str, str]:
    """Return a report as Markdown documents.

    Parameters
    ----------
    report : Report
        What to say.

    Returns
    -------
    dict of str to str
        Documents by key (lower case, words joined by dashes): ``report`` with what was run and
        its methods, ``checks``, and one for each section with its tables and pictures (as data
        URIs).
    """
    documents = {"report": _overview(report), "checks": _checks(report)}
    return documents | {f"report-{section.name}": _section(section) for section in report.sections}


def _overview(report: Report) -> str:
    facts = markdown_table(
        ["", ""], [[f"**{name}**", value] for name, value in report.facts.items()]
    )
    return "\n\n".join(
        [
            f"# {report.title}",
            report.summary,
            f"Checks: {_numbers(report)}.",
            facts,
            "## Methods",
            *report.methods,
            "## References",
            *report.references,
        ]
    )


def _numbers(report: Report) -> str:
    numbers = verdict_numbers(report.checks)
    return ", ".join(f"{number} {verdict}" for verdict, number in numbers.items()) or "none made"


def _checks(report: Report) -> str:
    parts = ["# Checks", _numbers(report) + "."]
    for group in grouped(report.checks):
        parts += [
            f"## {MARKS[group.verdict]} {group.name}",
            *(group.meanings if len(group.meanings) == 1 else ()),
            markdown_table(
                group.columns(),
                [[_cell(row, column) for column in group.columns()] for row in group.rows()],
            ),
        ]
    return "\n\n".join(parts)


def _cell(row: Mapping[str, str], column: str) -> str:
    text = row[column]
    return f"{MARKS[text]} {text}" if column == "verdict" else text


def _section(section: Section) -> str:
    parts = [f"# {section.title}"]
    if section.text:
        parts.append(section.text)
    for picture in section.pictures:
        parts += [_picture(picture), picture.caption]
    for table in section.tables:
        parts += [table.caption, frame_as_markdown(table.frame)]
    return "\n\n".join(parts)


def _picture(picture: ReportFigure) -> str:
    return f"![{picture.title}]({data_uri(picture.png)})"


def frame_as_markdown(frame: pd.DataFrame) -> str:
    """Return a table as Markdown, its numbers written as on the page."""
    return markdown_table([header(column) for column in frame.columns], cells(frame))
