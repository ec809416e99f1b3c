"""Write the tables of docs/checks.md from the kinds of checks.

python docs/tables_of_checks.py
"""

import re
from collections.abc import Sequence
from pathlib import Path

from nsd_prep.checks.registry import KINDS
from nsd_prep.core.check import Kind, Threshold, Verdict

PAGE = Path(__file__).with_name("checks.md")
THRESHOLDS = "thresholds"
UNSOUND: tuple[Verdict, ...] = ("failed", "suspicious", "not decidable")
BLOCK = re.compile(r"(<!-- table: (?P<name>[^>]+) -->\n).*?(?=<!-- end of table -->)", re.DOTALL)


def main() -> None:
    """Write the page anew."""
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def with_tables(page: str) -> str:
    """Return the page with its tables as the kinds of checks have them."""
    return BLOCK.sub(lambda block: block[1] + table(block["name"]), page)


def table(name: str) -> str:
    """Return the table of a group of kinds, or that of all thresholds."""
    if name == THRESHOLDS:
        columns = ("number", "value", "where it is from", "checks")
        return as_markdown(columns, rows_of_thresholds())
    columns = ("check", "one per", "what is measured", "standard error accounts for", *UNSOUND)
    return as_markdown(columns, [row_of_kind(kind) for kind in KINDS[name]])


def row_of_kind(kind: Kind) -> list[str]:
    """Return what a kind measures, and when it gives which verdict."""
    conditions = [kind.conditions.get(verdict, "") for verdict in UNSOUND]
    return [kind.name, kind.scope, kind.measures, ", ".join(kind.draws), *conditions]


def rows_of_thresholds() -> list[list[str]]:
    """Return every threshold once, with the checks that it is of."""
    checks: dict[Threshold, list[str]] = {}
    for kinds in KINDS.values():
        for kind in kinds:
            for threshold in kind.thresholds:
                checks.setdefault(threshold, []).append(kind.name)
    return [
        [one.name, number(one.value), one.source, "; ".join(names)] for one, names in checks.items()
    ]


def number(value: float | tuple[float, float]) -> str:
    """Write a number, or a range."""
    return f"{value[0]:g} to {value[1]:g}" if isinstance(value, tuple) else f"{value:g}"


def as_markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
