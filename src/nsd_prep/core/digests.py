"""Content known by its digest: of files, arrays, tables and JSON.

Digests are BLAKE3. Keys and seals in stores, identifiers of runs and samples of large files are
SHA-256, of few bytes each: with another, what versions up to 0.4 stored would not be found.
"""

import hashlib
import io
import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from blake3 import blake3
from numpy.typing import NDArray

from nsd_prep.core.atomic import _check_ended
from nsd_prep.core.errors import InputFileError

#: One block of a large file is read for each stretch: a part of a download that is missing is as
#: large as two of these, at least.
_BLOCK_BYTES: Final = 4096
_STRETCH_BYTES: Final = 4 << 20
#: Before the digest of a file that a version up to 0.4 recorded.
_SHA256: Final = "sha256:"


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


def read_table(path: Path, **options: Any) -> pd.DataFrame:
    """Read a table that was written as CSV, whole or not at all; errors as `read_whole`.

    Options are those of `pandas.read_csv`.
    """
    return pd.read_csv(io.BytesIO(read_whole(path)), **options)


def digest_of_file(path: Path, like: str = "") -> str:
    """Return the digest of a file's bytes, as `digest_of_bytes`; errors as `read_whole`."""
    check_regular(path)
    prefix, algorithm = _algorithm(like)
    with path.open("rb", buffering=0) as file:  # never mapped: the file may be cut meanwhile
        digest = hashlib.file_digest(file, algorithm).hexdigest()
        _check_ended(file, file.tell())
    return prefix + digest


def digest_of_bytes(content: bytes | memoryview, like: str = "") -> str:
    """Return the digest of bytes, in hexadecimal digits: by BLAKE3, or as another digest was made.

    Parameters
    ----------
    content : bytes or memoryview
        Bytes.
    like : str, optional
        A digest that `recorded_digest` gives.
    """
    prefix, algorithm = _algorithm(like)
    return prefix + algorithm(content).hexdigest()


def _algorithm(like: str) -> tuple[str, Callable[..., Any]]:
    return (_SHA256, hashlib.sha256) if like.startswith(_SHA256) else ("", blake3)


def recorded_digest(record: Mapping[str, Any]) -> str:
    """Return the digest that a record states of a file, for `has_digest`; "" where it has none.

    It is stated as ``blake3``; versions up to 0.4 wrote ``sha256``, which is marked as such.
    """
    for name, prefix in (("blake3", ""), ("sha256", _SHA256)):
        if isinstance(digest := record.get(name), str):
            return prefix + digest
    return ""


def as_recorded(digest: str) -> dict[str, str]:
    """Return how a record states a digest, for `recorded_digest`."""
    if digest.startswith(_SHA256):
        return {"sha256": digest.removeprefix(_SHA256)}
    return {"blake3": digest}


def is_sha256(digest: str) -> bool:
    """Return whether a digest of a file was recorded by a version up to 0.4."""
    return digest.startswith(_SHA256)


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
    """Return the digest of an array's dtype, shape and values, in hexadecimal digits."""
    return _of_array(blake3(), values)


def sha256_of_array(values: NDArray[Any]) -> str:
    """Return the SHA-256 of an array's dtype, shape and values, in hexadecimal digits."""
    return _of_array(hashlib.sha256(), values)


def _of_array(digest: Any, values: NDArray[Any]) -> str:
    digest.update(f"{values.dtype.str}{values.shape}".encode())
    digest.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return str(digest.hexdigest())


def digest_of_table(table: pd.DataFrame) -> str:
    """Return the digest of a table's columns and values, in hexadecimal digits."""
    digests = [
        (name, digest_of_array(column.to_numpy()))
        if column.dtype.kind in "biuf"
        else (name, digest_of_bytes("\0".join(column.astype(str).tolist()).encode()))
        for name, column in table.items()
    ]
    return digest_of_json(digests)


def sha256_of_bytes(content: bytes | memoryview) -> str:
    """Return the SHA-256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def has_digest(path: Path, digest: str) -> bool:
    """Return whether a file is there and has a digest, as `recorded_digest` gives it."""
    try:
        return digest_of_file(path, digest) == digest
    except (OSError, InputFileError):
        return False


def digest_of_json(value: object) -> str:
    """Return the digest of a JSON-able value's canonical text, in hexadecimal digits.

    The order of a mapping's keys plays no part.
    """
    return digest_of_bytes(_canonical(value))


def sha256_of_json(value: object) -> str:
    """Return the SHA-256 of a JSON-able value's canonical text, as `digest_of_json`."""
    return sha256_of_bytes(_canonical(value))


def _canonical(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()
