"""Pages of the documentation, as a reader has them: in a new shell, from top to bottom.

``<!-- run: demo -->`` marks a block of bash or Python that is run in a folder with a finished run
on the demo dataset, ``<!-- run: bucket -->`` one that is run beside an imitation of NSD's bucket,
``<!-- run: server -->`` one whose addresses lead to a server of ranges, ``<!-- run: offline -->``
one that is run when that server is down, ``<!-- file: NAME -->`` one that is written to a file.
``, status 1`` is the exit status that is expected, ``, needs NAME`` a library without which it is
left out.
"""

import importlib.util
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(
    r"^<!-- (?P<verb>run|file): (?P<what>[^,>]+?)(?:, status (?P<status>\d+))?"
    r"(?:, needs (?P<needs>\w+))? -->\n```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_FENCE = re.compile(r"^```(bash|python)$", re.MULTILINE)
#: What a reader has done before any other page: the README's first command, and this.
ACTIVATE = "source .venv/bin/activate\n"


@dataclass(frozen=True)
class Block:
    """A block of a document."""

    verb: str
    what: str
    status: int
    needs: str | None
    language: str
    text: str
    line: int

    @property
    def can_run(self) -> bool:
        """Whether the library that it needs is there."""
        return self.needs is None or importlib.util.find_spec(self.needs) is not None


def blocks(document: Path) -> list[Block]:
    """Return the marked blocks of a document, in order."""
    text = document.read_text(encoding="utf-8")
    return [
        Block(
            found["verb"],
            found["what"],
            int(found["status"] or 0),
            found["needs"],
            found["language"],
            found["text"],
            text[: found.start()].count("\n") + 1,
        )
        for found in _BLOCK.finditer(text)
    ]


def unmarked(document: Path) -> list[int]:
    """Return the lines of the blocks of commands and code that are not marked."""
    text = document.read_text(encoding="utf-8")
    inside = [(found.start(), found.end()) for found in _BLOCK.finditer(text)]
    return [
        text[: fence.start()].count("\n") + 1
        for fence in _FENCE.finditer(text)
        if not any(start <= fence.start() < end for start, end in inside)
    ]


class Shell:
    """A new shell of a reader's in some folder, and the Python that is typed into it.

    Nothing is prepared in it: what a page needs the page says.
    """

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process, self._folder = process, folder
        self._python = ""

    def run(self, block: Block) -> str:
        """Run a block, which must end as the page says; return what is shown."""
        if not block.can_run:
            return ""
        if block.verb == "file":
            (self._folder / block.what).write_text(block.text, encoding="utf-8")
            return ""
        text = block.text
        if block.language == "python":  # one session of Python for the whole page
            self._python += text
            (self._folder / ".session.py").write_text(self._python, encoding="utf-8")
            text = "python .session.py\n"
        status, shown = self.type(text)
        assert status == block.status, f"line {block.line}: {shown[-3000:]}"
        return shown

    def type(self, text: str) -> tuple[int, str]:
        """Type commands, and return the status of the first that fails and what is shown."""
        end = uuid.uuid4().hex
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # In the shell itself: what it sets stays. The first command that fails ends the block.
        script = self._folder / ".block.sh"
        script.write_text(text, encoding="utf-8")
        self._process.stdin.write(
            "trap 'status=$?; trap - ERR; return $status' ERR; set -o pipefail\n"
            f"source '{script}'; status=$?; trap - ERR; echo {end} $status\n"
        )
        self._process.stdin.flush()
        shown = []
        for line in self._process.stdout:
            if line.startswith(end):
                return int(line.split()[1]), "".join(shown)
            shown.append(line)
        raise AssertionError(f"the shell has ended: {''.join(shown)[-3000:]}")


@contextmanager
def new_shell(folder: Path, home: Path, **variables: str) -> Iterator[Shell]:
    """Start a shell without any of this environment's settings."""
    environment = {
        "HOME": str(home),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "DO_NOT_TRACK": "1",
        **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
    }
    with subprocess.Popen(
        ["bash", "--noprofile", "--norc"],
        cwd=folder,
        env=environment | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield Shell(process, folder)
        finally:
            process.kill()


def make_clone(folder: Path) -> None:
    """Make a folder that looks like a clone after the README's installation."""
    folder.mkdir(parents=True)
    (folder / ".venv").symlink_to(sys.prefix)
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.name != "nsd-prep-output":
            (folder / path.name).symlink_to(path)
