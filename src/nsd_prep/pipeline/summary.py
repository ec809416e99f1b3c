"""The end of a run, in a form that people read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from nsd_prep.assemblies.identifiers import SPLITS, is_assembly_file, stimulus_metadata_file
from nsd_prep.core.check import VERDICTS
from nsd_prep.core.markdown import markdown_table
from nsd_prep.core.terminal import FittingTable, Prose
from nsd_prep.pipeline import outputs

#: Columns of texts; all others are numbers.
_TEXTS: Final = ("region", "subject", "file", "not in subjects")


def size_as_text(n_bytes: float) -> str:
    """Return a number of bytes in powers of 1000."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"


class Summary:
    """The end of a run, for the terminal and for its page.

    Parameters
    ----------
    output_dir : Path
        The output folder.
    suffix : str
        Of the names of train and test files.
    tables : sequence of (str, DataFrame of str)
        What to show of the assemblies; titles first.
    remarks : sequence of str
        What to say of the checks beside how many have each verdict.
    files : mapping of str to str
        Digest of what was made, by name in the output folder.
    checks : DataFrame
        What was checked, as in ``checks.csv``.
    seconds : float
        How long it took.

    Attributes
    ----------
    output_dir, suffix, files
        As given.
    verdicts : dict of str to int
        How many checks have each verdict.
    lines : list of str
        What people read below the tables.
    assemblies : dict of str to str
        Those of `files` that are assemblies: of regions, train and test.
    can_be_packaged : bool
        Whether there is all that Brain-Score's packages are made of.
    """

    def __init__(
        self,
        output_dir: Path,
        suffix: str,
        tables: Sequence[tuple[str, pd.DataFrame]],
        remarks: Sequence[str],
        files: Mapping[str, str],
        checks: pd.DataFrame,
        seconds: float,
    ) -> None:
        self._tables = tables
        self.output_dir, self.suffix = output_dir, suffix
        self.files = files
        page = output_dir / outputs.PAGE
        self._page = page if outputs.PAGE in files else None
        self.verdicts = {verdict: int((checks["verdict"] == verdict).sum()) for verdict in VERDICTS}
        self.lines = [
            "Checks: "
            + ", ".join(f"{number} {verdict}" for verdict, number in self.verdicts.items()),
            *(f"  {remark}" for remark in remarks),
            f"Time: {seconds:.1f} s",
            f"Files: {len(files)} in {output_dir}",
        ]
        self.assemblies = {name: digest for name, digest in files.items() if is_assembly_file(name)}
        sets = {
            stimulus_metadata_file(Path(outputs.BRAINSCORE), split, suffix).as_posix()
            for split in SPLITS
        }
        self.can_be_packaged = bool(self.assemblies) and sets <= files.keys()
        others = sorted(
            path.name for path in output_dir.glob("Allen2022*.nc") if path.name not in files
        )
        if others:
            self.lines.append(f"Not of this run: {', '.join(others)}")

    def for_terminal(self) -> RenderableType:
        """Return tables and lines for `rich`; the report's name is a link where terminals know."""
        parts: list[RenderableType] = [_as_rich(*table) for table in self._tables]
        parts += map(Prose, self.lines)
        if self._page:
            link = (str(self._page), f"link {self._page.as_uri()}")
            parts.append(Text.assemble("Report: ", link))
        return Group(*parts)

    def as_markdown(self) -> str:
        """Return tables and lines for the page of the run."""
        tables = [
            f"**{title}**\n\n{markdown_table(table.columns, table.itertuples(index=False))}"
            for title, table in self._tables
        ]
        page = [f"Report: [{self._page}](<{self._page.as_uri()}>)"] if self._page else []
        return "\n\n".join([*tables, *(line.strip() for line in self.lines), *page])


def _as_rich(title: str, table: pd.DataFrame) -> FittingTable:
    columns = [(name, name in _TEXTS) for name in table.columns]
    return FittingTable(columns, list(table.itertuples(index=False)), title)
