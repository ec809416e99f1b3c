"""What places with a response are called: voxels, or vertices on a surface."""

import re
from typing import Final

#: The noun, but not in options such as --invalid-voxels, in paths, or names of files and columns.
_VOXEL: Final = re.compile(r"(?<![-/.\w])([Vv])oxel(s?)(?![-/\w]|\.\w)")


def about_vertices(text: str) -> str:
    """Return a text about voxels as one about vertices."""
    return _VOXEL.sub(lambda noun: f"{noun[1]}ert{'ices' if noun[2] else 'ex'}", text)
