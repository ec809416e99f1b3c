"""A dataset in a folder of this machine."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from nsd_prep.core.counts import counted
from nsd_prep.core.digests import digest_of_bytes, read_whole
from nsd_prep.core.errors import InputFileError, MissingFilesError
from nsd_prep.core.file_states import FileStates
from nsd_prep.core.records import FileIdentity
from nsd_prep.dataset import betas
from nsd_prep.dataset.source import Identity, Source


class FolderSource(Source):
    """A dataset in a folder; it notes what its files were when they were looked at.

    Parameters
    ----------
    root : Path
        Absolute.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.consent = None
        self.states = FileStates()

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        """Pickle without what was noted: that belongs to the process of the run."""
        return type(self), (self.root,)

    @property
    @override
    def transfer(self) -> None:
        return None

    @override
    def where(self, path: Path) -> str:
        return str(path)

    @override
    def exists(self, path: Path) -> bool:
        exists = path.exists()
        self.states.note_existence(path, exists)
        if exists:
            return True
        for part in (path, *path.parents):
            if part.is_symlink() and not part.exists():
                raise InputFileError(
                    f"{part} is a broken link: correct it, or remove it if "
                    f"{'the file' if part == path else 'what lies behind it'} is not to be used."
                )
        return False

    @override
    def read(self, path: Path) -> bytes:
        content = read_whole(path)
        self.states.note_content(path, digest_of_bytes(content))
        return content

    @override
    def identity(self, path: Path) -> FileIdentity:
        self.states.note_version(path)
        return FileIdentity.from_path(path)

    @override
    def identities(self, paths: Sequence[Path]) -> dict[Path, Identity]:
        missing = [path for path in paths if not path.exists()]
        if missing:
            listed = "".join(f"\n  - {path}" for path in missing)
            found = counted(len(missing), "file is", "files are")
            raise MissingFilesError(f"{found} missing and must be downloaded:{listed}")
        return {path: self.identity(path) for path in paths}

    @override
    def check_session(self, path: Path, shape: tuple[int, ...], n_trials: int) -> None:
        betas.check_session_file(path, shape, n_trials)

    @override
    def prefetch(
        self, path: Path, voxels: NDArray[np.int64], shape: tuple[int, ...], n_trials: int
    ) -> bool:
        return False

    @override
    def read_voxels(
        self, path: Path, voxels: NDArray[np.int64], shape: tuple[int, ...], n_trials: int
    ) -> NDArray[Any]:
        return betas.read_voxels(path, voxels, shape, n_trials)

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
