"""Text and tables on a terminal of any width, and where there is none."""

import sys
import textwrap
from collections.abc import Sequence
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

#: A terminal that says it is narrower than this does not know its width.
NARROWEST: Final = 30
_USUAL: Final = 80
#: Width of tables that are not written to a terminal.
_WIDTH: Final = 120
_NO_LIMIT: Final = 1000
_NARROWEST_TEXT: Final = 8


def console(*, stderr: bool = False) -> Console:
    """Return a console whose width is a sensible one, whatever COLUMNS says."""
    made = Console(stderr=stderr)
    return made if made.width >= NARROWEST else Console(stderr=stderr, width=_USUAL)


def wrapped(text: str, width: int, hanging: int = 0) -> str:
    """Break lines between words; a word longer than a line, such as a path, stays whole.

    What follows in a line is indented as its begin, and ``hanging`` columns at least.
    """
    return "\n".join(_wrapped_line(line, width, hanging) for line in text.split("\n"))


def _wrapped_line(line: str, width: int, hanging: int) -> str:
    if len(line) <= width:
        return line
    begin = len(line) - len(line.lstrip(" "))
    return textwrap.fill(
        line,
        width,
        subsequent_indent=" " * max(begin, hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )


class Prose:
    """Text that `rich` breaks between words on a terminal, and leaves as it is elsewhere."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the text, wrapped where somebody reads it."""
        text = wrapped(self.text, options.max_width) if console.file.isatty() else self.text
        yield Text(text, no_wrap=True, overflow="ignore")


def say(text: str, *, stderr: bool = False) -> None:
    """Print text to standard output or standard error, on a terminal broken between words."""
    # Not by a console: this goes to what a progress bar has put in the stream's place.
    stream = sys.stderr if stderr else sys.stdout
    shown = wrapped(text, console(stderr=stderr).width) if stream.isatty() else text
    print(shown, file=stream, flush=True)


def print_rendered(content: RenderableType) -> None:
    """Print text or tables to standard output, as wide as they need where that is no terminal."""
    output = console()
    if not output.is_terminal:
        output = Console(width=_WIDTH)
    if isinstance(content, str):
        content = Prose(content)
    output.print(content, highlight=False, soft_wrap=True)


class FittingTable:
    """A table that fits into a narrow terminal.

    Heads are broken between words. Of the cells only those of the widest column of texts are
    broken; none is cut, since a name that is cut cannot be copied.

    Parameters
    ----------
    columns : sequence of (str, bool)
        Heads, and whether the cells below are texts.
    rows : sequence of sequence of str
        Cells.
    title : str, optional
        Above the table.
    """

    def __init__(
        self,
        columns: Sequence[tuple[str, bool]],
        rows: Sequence[Sequence[str]],
        title: str | None = None,
    ) -> None:
        self.columns, self.rows, self.title = columns, rows, title

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table with each head in a line if there is room; else in several, or closer.

        Where not even that fits, each row becomes a line with its heads.
        """
        unlimited, room = options.update(width=_NO_LIMIT), options.max_width

        def excess(table: Table) -> int:
            return console.measure(table, options=unlimited).maximum - room

        flat, stacked = self._table(stacked=False), self._table(stacked=True)
        close = self._table(stacked=True, padding=0)
        for table in (flat, stacked, close):
            if excess(table) <= 0:
                yield table
                return
        if excess(close) <= self._spare():
            yield close
        else:
            yield Prose("\n".join([*filter(None, [self.title]), *map(self._as_line, self.rows)]))

    def _as_line(self, row: Sequence[str]) -> str:
        heads = (head for head, _ in self.columns)
        return f"  {', '.join(map(' '.join, zip(heads, row, strict=True)))}"

    def _spare(self) -> int:
        """Return by how much the widest column of texts can be narrower."""
        widest = self._widest_text()
        if widest is None:
            return 0
        head = self.columns[widest][0]
        longest = max(map(len, (head, *(row[widest] for row in self.rows))))
        return longest - max(_NARROWEST_TEXT, *map(len, head.split()))

    def _table(self, *, stacked: bool, padding: int = 1) -> Table:
        table = Table(
            title=None if self.title is None else Text(self.title),
            title_justify="left",
            padding=(0, padding),
        )
        widest = self._widest_text()
        for number, (head, is_text) in enumerate(self.columns):
            table.add_column(
                head.replace(" ", "\n") if stacked else head,
                justify="left" if is_text else "right",
                no_wrap=number != widest,
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table

    def _widest_text(self) -> int | None:
        """Return which column of texts is the widest, if there is one."""
        cells = zip(*self.rows, strict=True) if self.rows else [()] * len(self.columns)
        lengths = {
            number: max(map(len, (head, *texts)))
            for number, ((head, is_text), texts) in enumerate(zip(self.columns, cells, strict=True))
            if is_text
        }
        return max(lengths, key=lengths.__getitem__, default=None)
