"""A source that records what is read of it."""

from pathlib import Path
from typing import Any

from nsd_prep.core.digests import digest_of_bytes
from nsd_prep.core.records import FileRecord
from nsd_prep.dataset.source import Source


class Recorder:
    """A source that keeps the digest of every small file that is read through it.

    Attributes
    ----------
    files : dict of str to FileRecord
        By where the file lies, in the order of reading.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.files: dict[str, FileRecord] = {}

    def read(self, path: Path) -> bytes:
        """Return the content of a file, and record its digest."""
        content = self._source.read(path)
        where = self._source.where(path)
        self.files[where] = FileRecord(
            path=where, bytes=len(content), blake3=digest_of_bytes(content)
        )
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)
