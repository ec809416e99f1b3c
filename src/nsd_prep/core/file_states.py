"""The states of a run's input files, to tell whether they are as they were."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from nsd_prep.core.digests import digest_of_bytes, read_whole
from nsd_prep.core.records import FileIdentity


def _version(path: Path) -> list[str | int]:
    """Return what a large file is known by: where it is, its size and its times.

    The time at which its inode was changed cannot be set, as that of its content can.
    """
    changed = path.stat().st_ctime_ns  # first: what is written meanwhile changes it again
    identity = FileIdentity.from_path(path)
    return [identity.path, identity.bytes, identity.modified, changed]


def _content(path: Path) -> str:
    return digest_of_bytes(read_whole(path))


#: What can be noted of a file, and how it is found out.
_FACTS: Final[Mapping[str, Callable[[Path], Any]]] = MappingProxyType(
    {"exists": Path.exists, "blake3": _content, "version": _version}
)


class FileStates:
    """What was noted of files when a run looked at them.

    Of each path that it was there or not, of a small file the digest, of a large one where it is,
    its size and times. What differs between two looks of one run is None: it is never as it was.
    """

    def __init__(self) -> None:
        self._noted: dict[str, dict[str, Any]] = {}

    def note_existence(self, path: Path, exists: bool) -> None:
        """Note whether a file is there."""
        self._note(path, "exists", exists)

    def note_content(self, path: Path, digest: str | None = None) -> None:
        """Note what a small file holds: its digest, where that is known."""
        self._note(path, "blake3", digest or _content(path))

    def note_version(self, path: Path) -> None:
        """Note which version of a large file is there, before it is read."""
        self._note(path, "version", _version(path))

    def _note(self, path: Path, fact: str, value: Any) -> None:
        noted = self._noted.setdefault(str(path), {})
        if noted.setdefault(fact, value) != value:
            noted[fact] = None

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Return what was noted of each path, for `are_as_noted`."""
        return {path: dict(facts) for path, facts in self._noted.items()}


def are_as_noted(noted: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether files are what they were when `FileStates` noted it."""
    try:
        return all(
            value is not None and _FACTS[fact](Path(path)) == value
            for path, facts in noted.items()
            for fact, value in facts.items()
        )
    except (OSError, ValueError, KeyError):  # gone, or no record of this version
        return False
