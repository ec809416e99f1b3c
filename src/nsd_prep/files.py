"""Files: written whole or not at all, and told apart by what is in them."""

import errno
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from nsd_prep.errors import InputFileError, OutputError


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


class FileRecord(BaseModel):
    """What a small file held when it was read.

    Attributes
    ----------
    path : str
        Where it was; no part of the digest.
    bytes : int
        Size.
    sha256 : str
        Of the content.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    bytes: int
    sha256: str

    @property
    def digest(self) -> str:
        """What stands for the file in a cache key: its content alone."""
        return self.sha256


class Sealed(BaseModel):
    """A record that is kept as JSON, and does not load where it was altered.

    Attributes
    ----------
    seal : str or None
        SHA-256 of the other fields; set when the record is made.
    """

    model_config = ConfigDict(frozen=True)

    seal: str | None = None

    @model_validator(mode="after")
    def _check_seal(self) -> Self:
        expected = sha256_of_json(self.model_dump(mode="json", exclude={"seal"}))
        if self.seal is None:
            object.__setattr__(self, "seal", expected)
        elif self.seal != expected:
            raise ValueError("the record was altered since it was written")
        return self


class Folder(BaseModel):
    """A folder that a step writes into; a cache key does not depend on where it is.

    Attributes
    ----------
    path : Path
        Absolute.
    """

    model_config = ConfigDict(frozen=True)

    path: Path

    @property
    def digest(self) -> str:
        """The same for every folder."""
        return "folder"

    def digest_of(self, name: str) -> str:
        """Return the SHA-256 of a file of the folder."""
        return sha256_of_file(self.path / name)

    def holds(self, files: Mapping[str, str]) -> bool:
        """Return whether all files, by their names in the folder, have their SHA-256."""
        try:
            return all(self.digest_of(name) == sha256 for name, sha256 in files.items())
        except OSError:
            return False


_PARTIAL = re.compile(r"^\..+\.(?P<host>[^.]+)-(?P<process>\d+)-[0-9a-f]{8}\.partial$")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", socket.gethostname()) or "host"


def partial_path(path: Path) -> Path:
    """Return a name beside `path` for what is not whole yet, which tells whose it is.

    `remove_stale_partials` removes what lies under such a name when its process is gone.
    """
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.partial")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`, and move it into place at the end.

    The temporary file replaces `path` in one step when the block ends; when the block raises, it
    is removed and `path` stays as it was. The folder is made where it is missing. Verify what was
    written before the block ends.

    Raises
    ------
    OutputError
        There is no space or no permission.
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
def explained_write_errors(path: Path) -> Iterator[None]:
    """Turn the errors of a disk on which a path cannot be written into one sentence.

    Raises
    ------
    OutputError
        In place of an OSError that a second try would not mend.
    """
    try:
        yield
    except OSError as error:
        reason = {
            errno.ENOSPC: "the disk is full; free some space",
            errno.EDQUOT: "the quota is used up; free some space",
            errno.EACCES: "permission is denied; choose a folder that you may write to",
            errno.EPERM: "permission is denied; choose a folder that you may write to",
            errno.EROFS: "the disk is read-only; choose another folder",
            errno.ENOTDIR: "a part of its path is a file; choose another folder",
            errno.EISDIR: "a folder stands in its place; remove it, or choose another folder",
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
    directly in the folder. What belongs to living processes, and to other machines, stays.
    """
    found = folder.rglob(".*.partial") if name is None else folder.glob(".*.partial")
    removed = []
    for path in sorted(found):
        match = _PARTIAL.match(path.name)
        if not match or match["host"] != _host() or _is_alive(int(match["process"])):
            continue
        if name is not None and not path.name.startswith(f".{name}.{match['host']}-"):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
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
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV with Unix line ends and without its index, whole or not at all."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON-able values as an indented JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_whole(path: Path) -> bytes:
    """Read a file, and see that it does not seem to end before it does.

    Raises
    ------
    OSError
        There is no such file, the disk fails, or it gives fewer bytes than the file has.
    InputFileError
        It is not a regular file: a pipe or a device would never end.
    """
    check_regular(path)
    with path.open("rb") as file:
        content = file.read()
        _check_ended(file, len(content))
    return content


def check_regular(path: Path) -> None:
    """Raise where a path is no regular file.

    Raises
    ------
    FileNotFoundError
        There is nothing.
    InputFileError
        It is something else than a file, such as a pipe, a device or a folder.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise InputFileError(f"{path} is {kind}: expected a file; put the file in its place.")


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that was written as CSV, whole or not at all; errors as `read_whole`."""
    return pd.read_csv(io.BytesIO(read_whole(path)))


def _check_ended(file: BinaryIO, n_bytes: int) -> None:
    size = os.fstat(file.fileno()).st_size
    if n_bytes != size:
        raise OSError(errno.EIO, f"The disk gave {n_bytes} of {size} bytes", file.name)


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits.

    Raises
    ------
    OSError
        There is no such file, the disk fails, or it gives fewer bytes than the file has.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        _check_ended(file, file.tell())
    return digest


def digest_of_array(values: NDArray[Any]) -> str:
    """Return the SHA-256 of an array's dtype, shape and values, in hexadecimal digits."""
    digest = hashlib.sha256(f"{values.dtype.str}{values.shape}".encode())
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def digest_of_table(table: pd.DataFrame) -> str:
    """Return the SHA-256 of a table's columns and values, in hexadecimal digits."""
    digests = [
        (name, digest_of_array(column.to_numpy()))
        if column.dtype.kind in "biuf"
        else (name, sha256_of_bytes("\0".join(column.astype(str)).encode()))
        for name, column in table.items()
    ]
    return sha256_of_json(digests)


def sha256_of_bytes(content: bytes | memoryview) -> str:
    """Return the SHA-256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def has_sha256(path: Path | str, sha256: str) -> bool:
    """Return whether a file is there and has a digest."""
    try:
        return sha256_of_file(Path(path)) == sha256
    except OSError:
        return False


def sha256_of_json(value: object) -> str:
    """Return the SHA-256 of a JSON-able value's canonical text, in hexadecimal digits.

    The order of a mapping's keys plays no part.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256_of_bytes(text.encode())


def writable_folder(path: Path) -> None:
    """Make a folder where it is missing; OutputError where files cannot be written in it."""
    with explained_write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
