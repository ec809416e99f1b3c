"""Where the bytes of a dataset's files lie, and a record of those that were read."""

from pathlib import Path
from typing import Protocol

from nsd_prep.files import FileIdentity, FileRecord, read_whole, sha256_of_bytes


class Source(Protocol):
    """What gives the files of a dataset; paths are absolute, below the dataset's root."""

    def exists(self, path: Path) -> bool:
        """Return whether there is such a file."""

    def read(self, path: Path) -> bytes:
        """Return the content of a small file; raise FileNotFoundError where there is none."""

    def identity(self, path: Path) -> FileIdentity:
        """Return what tells whether a large file is still the same, without reading it."""


class FolderSource:
    """Files of a folder on this machine."""

    def exists(self, path: Path) -> bool:
        """Return whether there is such a file."""
        return path.exists()

    def read(self, path: Path) -> bytes:
        """Return the content of a file."""
        return read_whole(path)

    def identity(self, path: Path) -> FileIdentity:
        """Return path, size and modification time."""
        return FileIdentity.from_path(path)


class Recorder:
    """A source that keeps the SHA-256 of every file that is read through it.

    Attributes
    ----------
    files : dict of str to FileRecord
        By path, in the order of reading.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.files: dict[str, FileRecord] = {}

    def exists(self, path: Path) -> bool:
        """Return whether there is such a file."""
        return self._source.exists(path)

    def read(self, path: Path) -> bytes:
        """Return the content of a file, and record its digest."""
        content = self._source.read(path)
        self.files[str(path)] = FileRecord(
            path=str(path), bytes=len(content), sha256=sha256_of_bytes(content)
        )
        return content

    def identity(self, path: Path) -> FileIdentity:
        """Return what tells whether a large file is still the same."""
        return self._source.identity(path)
