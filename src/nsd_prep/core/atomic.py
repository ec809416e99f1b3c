"""Files written whole: under a temporary name in their own folder, flushed and moved."""

import errno
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pandas as pd

from nsd_prep.core.errors import OutputError

#: What is not whole yet, and what stood in its place while it is exchanged.
_BESIDE = re.compile(
    r"^\.(?P<name>.+)\.(?P<host>[^.]+)-(?P<process>\d+)-[0-9a-f]{8}\.(?P<kind>partial|replaced)$"
)
#: The same, as versions up to 0.4 named it of Zarr stores.
_BESIDE_BEFORE = re.compile(r"^\.(?P<name>.+\.zarr)\.(?P<kind>partial-folder|old)$")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", socket.gethostname()) or "host"


def partial_path(path: Path, kind: Literal["partial", "replaced"] = "partial") -> Path:
    """Return a name beside `path` for what is not whole yet, which tells whose it is.

    `remove_stale_partials` removes what lies under such a name when its process is gone.
    """
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.{kind}")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`, and move it into place at the end.

    When the block raises, the temporary file is removed and `path` stays as it was. The folder is
    made where it is missing. Verify what was written before the block ends. Errors are those of
    `explained_write_errors`.
    """
    with explained_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_path(path)
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Do as `replaced`, and see that the bytes are on the disk before the file has its name."""
    with replaced(path) as partial:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary folder beside `path`, and exchange the two whole at the end.

    When the block raises, the temporary folder is removed and `path` stays as it was. Nothing of
    what stood at `path` is in the new folder. The folder above it is made where it is missing.

    Raises
    ------
    OutputError
        There is no space or no permission.
    """
    partial, old = partial_path(path), partial_path(path, "replaced")
    with explained_write_errors(path):
        partial.mkdir(parents=True)
    try:
        yield partial
        with explained_write_errors(path):
            for file in sorted(partial.rglob("*")):
                if file.is_file():
                    with file.open("rb+") as opened:
                        os.fsync(opened.fileno())
            if os.path.lexists(path):
                path.rename(old)
            partial.rename(path)
    finally:
        _put_back_or_remove(old, path)
        _remove(partial)


def _put_back_or_remove(old: Path, path: Path) -> None:
    """Undo an exchange that was left half done, or end it."""
    if os.path.lexists(old) and not os.path.lexists(path):
        old.rename(path)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def explained_write_errors(path: Path) -> Iterator[None]:
    """Raise OutputError, with what to do, for errors of a disk that a second try would not mend."""
    try:
        yield
    except OSError as error:
        reason = {
            errno.ENOSPC: "the disk is full; free some space",
            errno.EDQUOT: "the quota is used up; free some space",
            errno.EACCES: "permission is denied; choose a folder that you may write to",
            errno.EPERM: "permission is denied; choose a folder that you may write to",
            errno.EROFS: "the disk is read-only; choose another folder",
            errno.ENOLCK: "the disk has no locks for files; choose a folder on another disk",
            errno.ENOSYS: "the disk has no locks for files; choose a folder on another disk",
            errno.EOPNOTSUPP: "the disk has no locks for files; choose a folder on another disk",
            errno.EFBIG: "files may not be so large there; choose another folder",
            errno.ENOTDIR: "a part of its path is a file; choose another folder",
            errno.EISDIR: "a folder stands in its place; remove it, or choose another folder",
            errno.ENAMETOOLONG: "its name is too long for the disk; choose a shorter one",
            errno.ELOOP: "a link stands in its place; remove it, or choose another folder",
            errno.EEXIST: "a file stands where a folder is needed; choose another folder",
        }.get(error.errno or 0)
        if reason is None or isinstance(error, OutputError):
            raise
        raise OutputError(
            f"{path} cannot be written: {reason} and run the same command again."
        ) from error


def remove_stale_partials(folder: Path, name: str | None = None) -> list[Path]:
    """Remove the temporary files and folders that killed processes left; list them.

    Of this machine, in the folder and its subfolders; with a name only what was to have this name,
    directly in the folder. What belongs to living processes, and to other machines, stays. What a
    process that was killed had moved away, and not replaced, gets its name back.
    """
    stale = []
    for path in sorted(folder.rglob(".*") if name is None else folder.glob(".*")):
        match = _BESIDE.match(path.name)
        if match and match["host"] == _host() and not _is_alive(int(match["process"])):
            stale.append((path, match))
        elif before := _BESIDE_BEFORE.match(path.name):
            stale.append((path, before))
    removed = []
    for path, match in stale:
        if name in (None, match["name"]):
            if match["kind"] in ("replaced", "old"):
                _put_back_or_remove(path, path.with_name(match["name"]))
            else:
                _remove(path)
            removed.append(path)
    return removed


def _is_alive(process: int) -> bool:
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file with Unix line ends, whole or not at all."""
    with written_whole(path) as partial:
        partial.write_bytes(text.encode("utf-8"))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV with Unix line ends and without its index, whole or not at all."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON-able values as an indented JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _check_ended(file: BinaryIO, n_bytes: int) -> None:
    size = os.fstat(file.fileno()).st_size
    if n_bytes != size:
        raise OSError(errno.EIO, f"The disk gave {n_bytes} of {size} bytes", file.name)


def make_folder(path: Path) -> None:
    """Make a folder where it is missing; OutputError where none can be made, as below /proc."""
    with explained_write_errors(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:
            raise OutputError(
                f"The folder {path} cannot be made: nothing can be written there; choose another."
            ) from error


def writable_folder(path: Path, parameter: str) -> None:
    """Make a folder where it is missing; OutputError where files cannot be written in it.

    The error names the parameter that says which folder it is.
    """
    try:
        with explained_write_errors(path):
            make_folder(path)
            with tempfile.TemporaryFile(dir=path):
                pass
    except OutputError as error:
        raise OutputError(f"{error} ({parameter}= names the folder.)") from error
