"""What stands in an output folder where a run cannot write."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nsd_prep.core.errors import ParameterError
from nsd_prep.core.folders import kind_of, require_folder, visible
from nsd_prep.pipeline.belonging import writes, writes_into
from nsd_prep.pipeline.earlier import Options
from nsd_prep.pipeline.outputs import FOLDERS, MANIFEST

_OTHERWISE: Final = "choose another output_dir="


def require_no_obstacle(output: Path, run: Options) -> None:
    """Raise a ParameterError where something stands that is no file, or no folder, as it must be.

    A link in the place of a file is none: it is replaced, not followed, and counts as a file that
    no run has written.
    """
    for path in _everything_in(output):
        name = path.relative_to(output).as_posix()
        if writes_into(run, name):
            require_folder(path, "this run", _OTHERWISE)
        elif path.is_symlink() and name != MANIFEST:
            continue
        elif (writes(run, name) and path.suffix != ".zarr") or name == MANIFEST:
            if path.is_file() and not path.is_symlink():
                continue
            raise ParameterError(
                f"{path} is {kind_of(path)}, where this run writes a file: move it away, or "
                f"{_OTHERWISE}."
            )


def _everything_in(output: Path) -> Iterator[Path]:
    """Go through what is in the folders that runs write, and below, but not in Zarr stores."""
    for path in visible(output):
        yield path
        if path.is_dir() and not path.is_symlink() and path.name in FOLDERS:
            below = path.rglob("[!.]*")  # does not follow links
            yield from (one for one in below if ".zarr/" not in one.relative_to(path).as_posix())
