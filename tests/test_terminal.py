"""What a terminal shows: lines broken between words, at any width that it may say it has."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import rich.console
from rich.progress import Progress
from terminal import in_terminal

from nsd_prep.core.progress import Stage, Stages, _Bar
from nsd_prep.core.terminal import NARROWEST, FittingTable, Prose, console, say, wrapped
from nsd_prep.pipeline.summary import Summary

#: What a program is started by that may take no more of the machine's memory.
WITH_4_GB = ["sh", "-c", 'ulimit -v 4194304 && exec "$0" "$@"']


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def printed(content: rich.console.RenderableType, width: int, *, terminal: bool = True) -> str:
    """Return what a terminal of a width, or a file, is sent."""
    stream = Screen() if terminal else io.StringIO()
    rich.console.Console(file=stream, width=width, color_system=None).print(
        content, soft_wrap=True, highlight=False
    )
    return stream.getvalue()


class TestProse:
    TEXT = "Using the synthetic dataset: NSD's formats, simulated responses, and --nsd-root too."

    @pytest.mark.parametrize("width", [NARROWEST, 47, 60, 80])
    def test_lines_are_broken_between_words(self, width: int) -> None:
        shown = printed(Prose(self.TEXT), width)
        assert shown.split() == self.TEXT.split()
        assert max(map(len, shown.splitlines())) <= width

    def test_a_path_stays_whole(self) -> None:
        path = "/data/a-folder-with-a-long-name/of-a-run/with-many-characters.nc"
        assert path in printed(Prose(f"The file {path} is there."), 40).splitlines()

    def test_what_follows_is_indented_as_its_line(self) -> None:
        assert wrapped("  failed: one two", 12) == "  failed:\n  one two"
        assert wrapped("  cache   one two", 14, hanging=10) == "  cache   one\n          two"

    def test_a_pipe_gets_a_line_a_sentence(self) -> None:
        assert printed(Prose(self.TEXT), 40, terminal=False) == f"{self.TEXT}\n"

    def test_what_is_said_stands_above_a_bar(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stderr", Screen())
        output = rich.console.Console(stderr=True, force_terminal=True, width=80)
        with Progress(console=output, auto_refresh=False) as bar:
            bar.add_task("working")
            bar.refresh()
            say("a line of the log", stderr=True)
        before, _, after = sys.stderr.getvalue().partition("a line of the log")
        assert before.endswith("\x1b[2K")  # the bar was removed
        assert "working" in after

    def test_brackets_are_text(self) -> None:
        assert printed(Prose("in [bold] and [/data]"), 80) == "in [bold] and [/data]\n"


class TestTables:
    COLUMNS = (("region", True), ("neuroids", False), ("noise ceiling", False), ("file", True))
    ROWS = (("midventral", "12345", "31.3%", "Allen2022.midventral.nc"),) * 2

    @pytest.mark.parametrize("width", [50, 60])
    def test_heads_and_numbers_are_not_broken_in_words(self, width: int) -> None:
        columns = [*self.COLUMNS, ("not in subjects", True)]
        rows = [(*row, "4, 5") for row in self.ROWS]
        shown = printed(FittingTable(columns, rows), width)
        assert max(map(len, shown.splitlines())) <= width
        for word in (
            "region",
            "neuroids",
            "noise",
            "ceiling",
            "file",
            "subjects",
            "12345",
            "31.3%",
        ):
            assert re.search(rf"(?<!\w){word}(?!\w)", shown), word

    def test_heads_are_one_line_where_there_is_room(self) -> None:
        assert "noise ceiling" in printed(FittingTable(self.COLUMNS, self.ROWS), 80)

    def test_of_what_fits_nowhere_each_row_is_a_line(self) -> None:
        shown = printed(FittingTable(self.COLUMNS, self.ROWS), 30)
        assert max(map(len, shown.splitlines())) <= 30
        line = "region midventral, neuroids 12345, noise ceiling 31.3%, file " + self.ROWS[0][-1]
        assert shown.split() == 2 * line.split()

    def test_without_rows(self) -> None:
        assert "neuroids" in printed(FittingTable(self.COLUMNS, []), 60)

    def test_the_summary_of_a_run(self, tmp_path: Path) -> None:
        head = ["subject", "0 times", "1 times", "2 times", "3 times", "sessions used"]
        table = pd.DataFrame([["1", "0", "0", "0", "1000", "40"]], columns=head)
        checks = pd.DataFrame({"verdict": ["passed"]})
        seen = ("Shared images seen", table)
        summary = Summary(tmp_path, "", [seen], ["failed: a check of images"], {}, checks, 1)
        shown = printed(summary.for_terminal(), 50)
        assert max(map(len, shown.splitlines()[:6])) <= 50
        assert re.search(r"\bsessions\b.*", shown)
        assert f"Files: 0 in {tmp_path}" in " ".join(shown.split())


class TestBar:
    @staticmethod
    def line(width: int, stage: Stage) -> str:
        stream = Screen()
        output = rich.console.Console(
            file=stream, width=width, force_terminal=True, color_system=None
        )
        bar = _Bar(console=output)
        assert isinstance(bar, Progress)
        bar.show(bar.add_task("", steps=""), stage)
        output.print(bar.get_renderable())
        (shown,) = stream.getvalue().splitlines()
        return shown

    @pytest.mark.parametrize("width", [NARROWEST, 40, 50, 60, 80, 120])
    def test_no_clock_is_cut(self, width: int) -> None:
        stage = Stage("writing train and test assemblies", 240)
        shown = self.line(width, stage)
        assert len(shown) <= width
        assert "0:00:00" in shown
        assert "0/240" in shown
        assert ("…" in shown) == (width < 50)

    def test_the_bar_shrinks_before_the_remaining_time_goes(self) -> None:
        stage = Stage("extracting sessions", 240)
        stage.done = 120
        wide, narrow, narrower = (self.line(width, stage) for width in (120, 60, 50))
        assert wide.count("━") > narrow.count("━") > 0
        assert "-:--:--" in narrow
        assert "-:--:--" not in narrower
        assert narrower.count("━") > 0


def test_stages_end_with_their_time_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "nsd_prep"), Stages().stage("writing the report", 9):
        pass
    assert re.fullmatch(r"writing the report: \d+\.\d s", caplog.messages[-1])


class TestAWidthThatIsNone:
    @pytest.mark.parametrize(
        ("command", "columns"),
        [(command, "0") for command in ("run", "trials", "synth", "compare", "publish")]
        + [("run", "1"), ("run", "10")],
    )
    def test_help_is_as_wide_as_usual(self, columns: str, command: str) -> None:
        ran = subprocess.run(
            [*WITH_4_GB, sys.executable, "-m", "nsd_prep", command, "--help"],
            env={**os.environ, "COLUMNS": columns},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert 70 < max(map(len, ran.stdout.splitlines())) <= 80

    @pytest.mark.parametrize("columns", ["0", "1", "10"])
    def test_so_is_what_a_run_in_python_shows(
        self, columns: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", columns)
        assert console().width == console(stderr=True).width == 80


def test_a_command_in_a_terminal_breaks_no_word(tiny_nsd: Path, tmp_path: Path) -> None:
    words = ["run", "--nsd-root", str(tiny_nsd), "--output-dir", str(tmp_path / "out"), "--check"]
    log = tmp_path / "log"
    with in_terminal(
        [sys.executable, "-m", "nsd_prep", *words], log, tmp_path, os.environ, columns=60
    ) as (process, _):
        assert process.wait(60) == 0
    shown = log.read_text()
    lines = [line for line in shown.splitlines() if line.strip()]
    assert [line for line in lines if len(line) > 60 and "/" not in line] == []
    assert re.search(r"images\s+were\s+seen\s+three\s+times\s+by\s+all", shown)
