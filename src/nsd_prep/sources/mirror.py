"""Local copies of a remote dataset's small files, and what is known of its large ones.

Below the mirror's folder lie whole files only, in the dataset's own layout; beside them, in
``.remote``, a record of each: its URL, size and ETag, and the digest of the copy.
"""

from pathlib import Path
from typing import Final

from pydantic import ValidationError

from nsd_prep.core.atomic import replaced, written_whole
from nsd_prep.core.digests import digest_of_bytes, read_whole
from nsd_prep.core.records import Digested
from nsd_prep.dataset.identity import RemoteIdentity

RECORDS: Final = ".remote"


class MirrorRecord(Digested):
    """What is known of a remote file.

    Attributes
    ----------
    identity : RemoteIdentity
        URL, size and ETag.
    blake3, sha256 : str or None
        Digest of the copy, where there is one: versions up to 0.4 wrote SHA-256.
    """

    identity: RemoteIdentity


class Mirror:
    """A folder of copies.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    url : str
        Of the dataset's root: what was copied from another one does not count.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self._url = url

    def record(self, name: str) -> MirrorRecord | None:
        """Return what is known of a file, by its path below the root."""
        try:
            record = MirrorRecord.model_validate_json(read_whole(self._record_file(name)))
        except (OSError, ValidationError):
            return None
        return record if record.identity.path == f"{self._url}/{name}" else None

    def content(self, name: str) -> bytes | None:
        """Return the copy of a file; None where there is none, or it was altered."""
        record = self.record(name)
        if record is None or not record.file_digest:
            return None
        try:
            content = read_whole(self.folder / name)
        except OSError:
            return None
        digest = record.file_digest
        return content if digest_of_bytes(content, digest) == digest else None

    def keep(self, name: str, identity: RemoteIdentity, content: bytes | None = None) -> None:
        """Write what is known of a file, and its copy before that, each whole or not at all.

        There is a copy of a small file alone.

        Raises
        ------
        OutputError
            There is no space or no permission.
        """
        digest = None
        if content is not None:
            with written_whole(self.folder / name) as partial:
                partial.write_bytes(content)
            digest = digest_of_bytes(content)
        record = MirrorRecord(identity=identity, blake3=digest)
        with replaced(self._record_file(name)) as partial:
            partial.write_text(record.model_dump_json(), encoding="utf-8")

    def drop(self, name: str) -> None:
        """Remove what is known of a file."""
        self._record_file(name).unlink(missing_ok=True)

    def _record_file(self, name: str) -> Path:
        return self.folder / RECORDS / f"{name}.json"
