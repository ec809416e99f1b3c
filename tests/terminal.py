"""Programs in a pseudo-terminal, where a person would start them."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

INTERRUPT = b"\x03"  # Ctrl-C
_OF_TERMINALS = ("TERM", "COLUMNS", "LINES")


@contextmanager
def in_terminal(
    words: Sequence[str],
    log: Path,
    folder: Path,
    environment: Mapping[str, str],
    columns: int = 200,
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Start a program in a terminal of its own, which nobody types into.

    Parameters
    ----------
    words : sequence of str
        The program and its arguments.
    log : Path
        File to which all that the terminal shows is appended.
    folder : Path
        Working directory.
    environment : mapping
        Of the program, less what it knows about terminals.
    columns : int
        The terminal's width.

    Yields
    ------
    subprocess.Popen, int
        The program; and a file descriptor to type into.
    """
    log.touch()
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(
        words,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env={name: value for name, value in environment.items() if name not in _OF_TERMINALS}
        | {"TERM": "xterm-256color"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C reaches the program
    )
    os.close(theirs)

    def copy() -> None:
        with log.open("ab", buffering=0) as file, suppress(OSError):  # EIO: nobody is left
            while shown := os.read(ours, 4096):
                file.write(shown)

    reader = threading.Thread(target=copy, daemon=True)
    reader.start()
    try:
        yield process, ours
    finally:
        reader.join(timeout=5)
        os.close(ours)
