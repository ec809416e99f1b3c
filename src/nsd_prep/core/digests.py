"""Content known by its digest: of files, arrays, tables and JSON."""

import hashlib
import io
import json
import os
import stat
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.atomic import _check_ended
from nsd_prep.core.errors import InputFileError

#: One block of a large file is read for each stretch: a part of a download that is missing is as
#: large as two of these, at least.
_BLOCK_BYTES: Final = 4096
_STRETCH_BYTES: Final = 4 << 20


def read_whole(path: Path) -> bytes:
    """Read a regular file; OSError where it seems to end before it does."""
    check_regular(path)
    with path.open("rb") as file:
        content = file.read()
        _check_ended(file, len(content))
    return content


def check_regular(path: Path) -> None:
    """Raise InputFileError where a path is a folder, a pipe or a device: one would never end."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise InputFileError(f"{path} is {kind}: expected a file; put the file in its place.")


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that was written as CSV, whole or not at all; errors as `read_whole`."""
    return pd.read_csv(io.BytesIO(read_whole(path)))


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits; errors as `read_whole`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        _check_ended(file, file.tell())
    return digest


def sampled_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's size and of blocks spread evenly over it.

    It takes milliseconds for a gigabyte, and differs where 4 MiB in a row do, or most of the file;
    of a change to a few bytes it seldom tells.

    Raises
    ------
    OSError
        There is no such file, or the disk fails.
    """
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(f"{size}".encode())
        n_blocks = 2 + size // _STRETCH_BYTES
        offsets = np.linspace(0, max(0, size - _BLOCK_BYTES), n_blocks).astype(np.int64).tolist()
        if hasattr(os, "posix_fadvise"):  # all at once, and nothing beside them
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            for offset in offsets:
                os.posix_fadvise(file.fileno(), offset, _BLOCK_BYTES, os.POSIX_FADV_WILLNEED)
        for offset in offsets:
            digest.update(os.pread(file.fileno(), _BLOCK_BYTES, offset))
    return digest.hexdigest()


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
