"""Files and folders that are held open: that another one stands in their place is noticed."""

import os
import weakref
from pathlib import Path

from nsd_prep.core.errors import InputFileError

#: Size and modification time (ns) of a file, or of the root's metadata of a store.
Version = tuple[int, int]


def version_of(path: Path) -> Version:
    """Return what tells a file or a Zarr store from another one under the same name."""
    status = (path / "zarr.json" if path.is_dir() else path).stat()
    return status.st_size, status.st_mtime_ns


class Held:
    """A file or folder that is held open: nothing else gets its inode meanwhile."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)
        self.close = weakref.finalize(self, os.close, self.descriptor)

    def require_current(self, path: Path, version: Version) -> None:
        """Raise InputFileError where something else stands at the path, or it was changed."""
        try:
            same = os.path.samestat(os.fstat(self.descriptor), path.stat())
            same = same and version_of(path) == version
        except FileNotFoundError:
            same = False
        if not same:
            raise InputFileError(
                f"{path} was written again, moved or removed since it was opened: expected what "
                "was there then; open it again."
            )
