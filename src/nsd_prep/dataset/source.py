"""Where a dataset's files come from: a folder of this machine, or a bucket or web server.

A dataset's paths are absolute and lie below a local root in both cases; for a remote dataset that
root is the folder of its mirror.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from nsd_prep.core.digests import read_whole, sha256_of_bytes
from nsd_prep.core.errors import InputFileError, MissingFilesError
from nsd_prep.core.records import FileIdentity, FileRecord
from nsd_prep.dataset import betas
from nsd_prep.dataset.identity import RemoteIdentity

#: What tells whether a large file is still the same.
Identity = FileIdentity | RemoteIdentity


class Source(Protocol):
    """What reads a dataset's files, by their paths below `root`.

    Attributes
    ----------
    root : Path
        Absolute.
    """

    root: Path

    def where(self, path: Path) -> str:
        """Return where a file really lies, for messages: its path, or its URL."""

    def exists(self, path: Path) -> bool:
        """Return whether a file is there; InputFileError where it is a link that leads nowhere."""

    def read(self, path: Path) -> bytes:
        """Return all of a small file.

        Raises
        ------
        OSError
            It is not there, or cannot be read; `MissingFilesError` for a remote one.
        """

    def identity(self, path: Path) -> Identity:
        """Return what tells whether a file is still the same."""

    def identities(self, paths: Sequence[Path]) -> dict[Path, Identity]:
        """Return the identities of files, looked up together.

        Raises
        ------
        MissingFilesError
            Some are not there: it lists all of these.
        """

    def check_session(self, path: Path, grid: tuple[int, int, int], n_trials: int) -> None:
        """Raise as `nsd_prep.dataset.betas.check_session_file`."""

    def prefetch(
        self, path: Path, voxels: NDArray[np.int64], grid: tuple[int, int, int], n_trials: int
    ) -> bool:
        """Begin to fetch what `read_voxels` will be asked for, where that is of use."""

    def read_voxels(
        self, path: Path, voxels: NDArray[np.int64], grid: tuple[int, int, int], n_trials: int
    ) -> NDArray[np.int16]:
        """Read all trials of some voxels of a session, as `nsd_prep.dataset.betas.read_voxels`."""

    def images(
        self, path: Path, nsd_ids: NDArray[np.int64]
    ) -> Path | Callable[[int], NDArray[np.uint8]]:
        """Return the file of all images, or what gives the pixels of one of some images by its id.

        What is returned is called with the ids (0-based) ascending, each once.
        """

    def fetch_files(self, paths: Sequence[Path]) -> None:
        """Fetch those of some small files that are there, together, before they are read."""

    def look_up(self, paths: Sequence[Path]) -> None:
        """Look up together whether some files are there, before each is asked for."""

    def close(self) -> None:
        """Let go of connections, and of what was prefetched."""


class FolderSource(Source):
    """A dataset in a folder.

    Parameters
    ----------
    root : Path
        Absolute.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @override
    def where(self, path: Path) -> str:
        return str(path)

    @override
    def exists(self, path: Path) -> bool:
        if path.is_symlink() and not path.exists():
            raise InputFileError(
                f"{path} is a link that leads nowhere: correct it, or remove it where the file is "
                "not to be used."
            )
        return path.exists()

    @override
    def read(self, path: Path) -> bytes:
        return read_whole(path)

    @override
    def identity(self, path: Path) -> FileIdentity:
        return FileIdentity.from_path(path)

    @override
    def identities(self, paths: Sequence[Path]) -> dict[Path, Identity]:
        missing = [path for path in paths if not path.exists()]
        if missing:
            listed = "".join(f"\n  - {path}" for path in missing)
            raise MissingFilesError(f"{len(missing)} files are missing, download them:{listed}")
        return {path: FileIdentity.from_path(path) for path in paths}

    @override
    def check_session(self, path: Path, grid: tuple[int, int, int], n_trials: int) -> None:
        betas.check_session_file(path, grid, n_trials)

    @override
    def prefetch(
        self, path: Path, voxels: NDArray[np.int64], grid: tuple[int, int, int], n_trials: int
    ) -> bool:
        return False

    @override
    def read_voxels(
        self, path: Path, voxels: NDArray[np.int64], grid: tuple[int, int, int], n_trials: int
    ) -> NDArray[np.int16]:
        return betas.read_voxels(path, voxels, grid, n_trials)

    @override
    def images(
        self, path: Path, nsd_ids: NDArray[np.int64]
    ) -> Path | Callable[[int], NDArray[np.uint8]]:
        return path

    @override
    def fetch_files(self, paths: Sequence[Path]) -> None:
        pass

    @override
    def look_up(self, paths: Sequence[Path]) -> None:
        pass

    @override
    def close(self) -> None:
        pass


class Recorder:
    """A source that keeps the SHA-256 of every small file that is read through it.

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
            path=where, bytes=len(content), sha256=sha256_of_bytes(content)
        )
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def open_source(
    root: str | Path, mirror_folder: Path, *, accept_nsd_terms: bool | None = None
) -> Source:
    """Return the source that a dataset's root means; nothing is requested of a server yet.

    A folder, ``s3://BUCKET[/PREFIX]`` or ``http(s)://HOST[/PREFIX]``. Copies of a remote dataset's
    small files go into the mirror's folder.

    Raises
    ------
    ParameterError
        The URL is of another kind, or NSD's terms were not accepted.
    """
    if "://" not in str(root):
        return FolderSource(Path(root).expanduser().absolute())
    # What reads a folder needs nothing of what reads a bucket.
    from nsd_prep.remote.bucket import BucketSource

    return BucketSource(str(root), mirror_folder, accept_nsd_terms=accept_nsd_terms)
