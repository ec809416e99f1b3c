"""What lies in a folder, and where folders of the user's are."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from nsd_prep.core.errors import OutputError, ParameterError

#: In a cache, the copies of small files of a remote dataset.
MIRROR: Final = "mirror"


def visible(folder: Path, pattern: str = "*") -> list[Path]:
    """Return what a folder holds by a pattern, in the order of names, but for hidden files.

    Their names begin with a dot: systems and copying programs leave ``.DS_Store`` and ``._NAME``.
    """
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def kind_of(path: Path) -> str:
    """Return what stands at a path, in words: a link, a folder, a file, or a pipe or a device."""
    if path.is_symlink():
        return "a link"
    if path.is_dir():
        return "a folder"
    return "a file" if path.is_file() else "a pipe or a device"


def require_folder(path: Path, writer: str, otherwise: str) -> None:
    """Raise a ParameterError where anything but a folder stands where `writer` writes one.

    Through a link it would write into a folder elsewhere.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ParameterError(
            f"{path} is {kind_of(path)}, where {writer} writes a folder: move it away, or "
            f"{otherwise}."
        )


def user_cache_folder() -> Path:
    """Return ``XDG_CACHE_HOME``, or else ``~/.cache``.

    Raises
    ------
    OutputError
        The user has no home folder, as a number in a container without a name.
    """
    named = os.environ.get("XDG_CACHE_HOME", "")
    if named and Path(named).is_absolute():
        return Path(named)
    try:
        return Path.home() / ".cache"
    except RuntimeError as error:
        raise OutputError(
            "This user has no home folder for a cache: give a folder with cache_dir=, or set "
            "XDG_CACHE_HOME or HOME to one that can be written."
        ) from error


def user_cache() -> Path:
    """Return this user's own cache of the library; errors as `user_cache_folder`."""
    return user_cache_folder() / "nsd-prep"


def absolute(path: str | Path) -> Path:
    """Return a path as it is written into records: absolute, in UTF-8.

    Raises
    ------
    ParameterError
        It names no user of this machine after ~, is not UTF-8, or is too long.
    """
    try:
        absolute_path = Path(path).expanduser().absolute()
        str(absolute_path).encode()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            absolute_path.stat()
    except (RuntimeError, ValueError) as error:
        raise ParameterError(
            f"The path {str(path)!r} cannot be used ({str(error).rstrip('.')}): expected a name in "
            "UTF-8, and after ~ a user of this machine; give another."
        ) from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            return absolute_path
        raise ParameterError(
            f"The path {str(path)[:40]!r}... cannot be used: it, or a name in it, is too long for "
            "the disk; give a shorter one."
        ) from error
    return absolute_path
