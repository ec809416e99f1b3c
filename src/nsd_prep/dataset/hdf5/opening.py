"""HDF5 files that are only read."""

import errno
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import h5py

from nsd_prep.core.hdf5_lock import HDF5_LOCK

#: What a disk without locks answers, as some that hang on a network, are read-only or exFAT do.
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EROFS)


def opened_to_read(path: Path | str) -> h5py.File:
    """Open a file for reading, and without a lock where the disk has none.

    Elsewhere with one: HDF5 refuses to open a file in two ways at once, and one being written.
    """
    with HDF5_LOCK:
        try:
            return h5py.File(path, "r")
        except OSError as error:
            if "unable to lock file" not in str(error) or errno_of(error) not in _NO_LOCKS:
                raise
            return h5py.File(path, "r", locking=False)


def errno_of(error: Exception) -> int | None:
    """Return the errno that h5py gives, or only its text holds; None where the file is at fault."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    match = re.search(r"errno = ([1-9][0-9]*)", str(error))
    return int(match[1]) if match else None


def files_elsewhere(dataset: h5py.Dataset, file: h5py.File) -> list[str]:
    """Return the other files, if any, in which the values of an open file's dataset lie.

    It may be mapped from them (virtual), name them (external), or be behind a link. Where the
    first two are missing HDF5 gives the fill value, without an error; and nobody would see that
    they were changed, since they are not the file that is known to have been read.
    """
    if dataset.is_virtual:
        return _names(source.file_name for source in dataset.virtual_sources())
    if dataset.external:
        return _names(name for name, *_ in dataset.external)
    there = dataset.file.filename
    return [] if there == file.filename else [str(there)]


def _names(files: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(map(str, files))) or ["no file"]
