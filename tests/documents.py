"""Fenced blocks of the documents that say, in a comment before them, that they are run.

``<!-- run: demo -->`` marks a block of bash or Python that is run in a folder with a finished run
on the demo dataset, ``<!-- run: bucket -->`` one that is run beside an imitation of NSD's bucket,
``<!-- run: server -->`` one whose addresses lead to a server of ranges, ``<!-- run: offline -->``
one that is run when that server is down, ``<!-- file: NAME -->`` one that is written to a file.
``, status 1`` is the exit status that is expected.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(
    r"^<!-- (?P<verb>run|file): (?P<what>[^,>]+?)(?:, status (?P<status>\d+))? -->\n"
    r"```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_FENCE = re.compile(r"^```(bash|python)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of a document."""

    verb: str
    what: str
    status: int
    language: str
    text: str
    line: int


def blocks(document: Path) -> list[Block]:
    """Return the marked blocks of a document, in order."""
    text = document.read_text(encoding="utf-8")
    return [
        Block(
            found["verb"],
            found["what"],
            int(found["status"] or 0),
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
