"""Standard streams that whoever started this process has closed."""

import os
import sys


def open_closed_streams() -> None:
    """Let closed standard streams lead to nowhere: the next file to be opened would take its place.

    What a library prints would be written into that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            lowest_free = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(lowest_free, mode))
