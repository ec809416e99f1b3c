"""What a step made: files in a folder, and what it found."""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

from pydantic import Field

from nsd_prep.checks import Check
from nsd_prep.files import Folder, Sealed, sha256_of_json


class Made(Sealed):
    """What a step made.

    Attributes
    ----------
    files : dict of str to str
        SHA-256 of each file, by its name in the folder.
    checks : tuple of Check
        What was found.
    """

    files: dict[str, str] = Field(default_factory=dict)
    checks: tuple[Check, ...] = ()

    @classmethod
    def in_folder(cls, folder: Folder, names: Iterable[str], checks: Iterable[Check] = ()) -> Self:
        """Return the record of files that were just written.

        Parameters
        ----------
        folder : Folder
            Where they lie.
        names : iterable of str
            Their names in it.
        checks : iterable of Check
            What was found.
        """
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
        return sha256_of_json(self.files)
