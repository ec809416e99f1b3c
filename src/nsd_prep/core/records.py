"""Records of files: what was read, and what a step wrote."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from nsd_prep.core.check import Check
from nsd_prep.core.digests import (
    digest_of_file,
    digest_of_json,
    recorded_digest,
    sampled_sha256,
    sha256_of_json,
)


class FileIdentity(BaseModel):
    """What tells whether a large file is still the same, without reading it.

    Attributes
    ----------
    path : str
        Absolute.
    bytes : int
        Size.
    modified : int
        Nanoseconds since 1970.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    bytes: int
    modified: int

    @classmethod
    def from_path(cls, path: Path) -> Self:
        """Return the identity of a file that is there."""
        status = path.stat()
        return cls(path=str(path.resolve()), bytes=status.st_size, modified=status.st_mtime_ns)


class FileSample(BaseModel):
    """What a large file, or several, held when they were read, as far as some blocks tell.

    Size and modification time do not tell: a download gives a file the time of its object.

    Attributes
    ----------
    changed : int
        When its inode was last changed, nanoseconds since 1970. It cannot be set; a file that was
        only moved, copied or given other permissions has another one, too.
    sha256 : str
        As `nsd_prep.core.digests.sampled_sha256`.
    """

    model_config = ConfigDict(frozen=True)

    changed: int
    sha256: str

    @classmethod
    def from_paths(cls, *paths: Path) -> Self:
        """Return what a file, or several together, hold now: of several, the last change."""
        changed = _last_change(paths)  # first: what is written meanwhile changes it again
        samples = [sampled_sha256(path) for path in paths]
        sha256 = samples[0] if len(samples) == 1 else sha256_of_json(samples)
        return cls(changed=changed, sha256=sha256)

    def renewed(self, *paths: Path) -> Self | None:
        """Return the sample of files that are still the same, None of others.

        The blocks are only read where the change time is another one.
        """
        if _last_change(paths) == self.changed:
            return self
        now = self.from_paths(*paths)
        return now if now.sha256 == self.sha256 else None


def _last_change(paths: Sequence[Path]) -> int:
    return max(path.stat().st_ctime_ns for path in paths)


class FileRecord(BaseModel):
    """What a small file held when it was read; where it was is no part of the digest."""

    model_config = ConfigDict(frozen=True)

    path: str
    bytes: int
    blake3: str

    @property
    def digest(self) -> str:
        """What stands for the file in a cache key: its content alone."""
        return self.blake3


class Digested(BaseModel):
    """A record of a file with its digest: BLAKE3, or SHA-256 as versions up to 0.4 wrote it."""

    model_config = ConfigDict(frozen=True)

    blake3: str | None = None
    sha256: str | None = None

    @property
    def file_digest(self) -> str:
        """The digest, as `nsd_prep.core.digests.recorded_digest` gives it."""
        return recorded_digest({"blake3": self.blake3, "sha256": self.sha256})


class Sealed(BaseModel):
    """A record that is kept as JSON, and does not load where it was altered: its seal differs."""

    model_config = ConfigDict(frozen=True)

    seal: str | None = None
    #: A record that is part of another is validated with it, once more.
    _is_checked: bool = PrivateAttr(default=False)

    @classmethod
    def sealed(cls, **fields: Any) -> Self:
        """Return a record of fields that are valid as they are, since they were just made."""
        record = cls.model_construct(**fields)
        object.__setattr__(record, "seal", record._expected_seal())
        record._is_checked = True
        return record

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self._is_checked:
            expected = self._expected_seal()
            if self.seal is None:
                object.__setattr__(self, "seal", expected)
            elif self.seal != expected:
                raise ValueError("the record was altered since it was written")
            self._check_possible()
            self._is_checked = True
        return self

    def _check_possible(self) -> None:
        """Raise ValueError where no sound record is so: an altered one may be sealed again."""

    def _expected_seal(self) -> str:
        return sha256_of_json(self.model_dump(mode="json", exclude={"seal"}))


class Folder(BaseModel):
    """A folder (an absolute path) that a step writes into; no cache key depends on where it is."""

    model_config = ConfigDict(frozen=True)

    path: Path

    @property
    def digest(self) -> str:
        """The same for every folder."""
        return "folder"

    def digest_of(self, name: str, like: str = "") -> str:
        """Return the digest of a file of the folder, as `digest_of_file`."""
        return digest_of_file(self.path / name, like)

    def holds(self, files: Mapping[str, str]) -> bool:
        """Return whether all files, by their names in the folder, have their digest.

        A file that a name leads to out of the folder, or through a link, is none of the folder's.
        A Zarr store holds no others: whoever opens it would take them for its own.
        """
        stores = {name[: name.index(".zarr/") + 5] for name in files if ".zarr/" in name}
        try:
            return all(set(self._files_of(store)) <= files.keys() for store in stores) and all(
                self.is_own(name) and self.digest_of(name, digest) == digest
                for name, digest in files.items()
            )
        except OSError:
            return False

    def held(self, files: Mapping[str, str]) -> set[str]:
        """Return which files have their digest; of a Zarr store all of them, or none."""
        stores: dict[str, dict[str, str]] = {}
        for name, digest in files.items():
            store = name[: name.index(".zarr/")] if ".zarr/" in name else name
            stores.setdefault(store, {})[name] = digest
        return {name for store in stores.values() if self.holds(store) for name in store}

    def _files_of(self, store: str) -> list[str]:
        """Return the names of the files and links in a store, but not of hidden files."""
        return [
            path.relative_to(self.path).as_posix()
            for path in (self.path / store).rglob("[!.]*")
            if path.is_file() or path.is_symlink()
        ]

    def is_own(self, name: str) -> bool:
        """Return whether a name is that of a regular file in the folder, without a link on the way.

        Names are relative, with slashes; a record that was altered may hold any other.
        """
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            return False
        path = self.path
        for part in parts:
            path /= part
            if path.is_symlink():
                return False
        return path.is_file()


class StepOutput(Sealed):
    """What a step made: the digest of each file, by its name in the folder, and checks."""

    files: dict[str, str] = Field(default_factory=dict)
    checks: tuple[Check, ...] = ()

    @classmethod
    def in_folder(cls, folder: Folder, names: Iterable[str], checks: Iterable[Check] = ()) -> Self:
        """Return the record of files that were just written, by their names in a folder."""
        files = {name: folder.digest_of(name) for name in names}
        return cls(files=files, checks=tuple(checks))

    @classmethod
    def from_paths(
        cls, folder: Folder, paths: Iterable[Path], checks: Iterable[Check] = ()
    ) -> Self:
        """Return the record of files that were just written, as `in_folder`, by their paths.

        Of a folder among them, such as a Zarr store, all files are recorded.
        """
        files: list[Path] = []
        for path in paths:
            files += sorted(filter(Path.is_file, path.rglob("*"))) if path.is_dir() else [path]
        names = [file.relative_to(folder.path).as_posix() for file in files]
        return cls.in_folder(folder, names, checks)

    @property
    def digest(self) -> str:
        """What stands for the files in a cache key: their names and content."""
        return digest_of_json(self.files)
