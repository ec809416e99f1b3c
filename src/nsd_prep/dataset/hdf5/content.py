"""What gives the bytes of a file of betas: a local file, or what was fetched of a remote one."""

import errno
import io
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeVar

from nsd_prep.core.digests import check_regular
from nsd_prep.dataset.hdf5.ranges import Ranges

_Result = TypeVar("_Result")


class OutsideError(ValueError):
    """Bytes were requested that lie outside of the file: what names them is damaged."""


class Content(Protocol):
    """The bytes of a file, which both HDF5 and `nsd_prep.dataset.hdf5.gather` read.

    Attributes
    ----------
    size : int
        Bytes of the whole file.
    gap : int
        Bytes between two ranges that are read rather than skipped.
    bytes_at_once : int
        Of ranges that are in memory together.
    is_local : bool
        Whether any byte can be read without being fetched.
    """

    size: int
    gap: int
    bytes_at_once: int
    is_local: bool

    @property
    def hdf5_file(self) -> Path | io.RawIOBase:
        """What h5py opens."""

    def complete(self, action: Callable[[], _Result], *, keep: bool = True) -> _Result:
        """Return what an action gives that lets HDF5 read the file.

        Where it meets bytes that were not fetched, they are, and it is called again; they are kept
        for later actions where that is said.
        """

    def will_need(self, ranges: Ranges) -> None:
        """Take note of all that is going to be read."""

    def fetch(self, ranges: Ranges) -> list[int]:
        """Fetch what of some ranges was not, and return the keys to `remove` it by."""

    def remove(self, keys: list[int]) -> None:
        """Let go of what was fetched."""

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill a buffer with the bytes from `start` on, all of which are in the file."""


class LocalContent:
    """A file of this machine, open while the context lasts.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    OSError
        It is not there, or cannot be read.
    InputFileError
        It is not a regular file.
    """

    gap: int = 8192
    bytes_at_once: int = 8_000_000
    is_local: bool = True
    #: Bytes between two ranges that a disk reads as fast as it skips them.
    bridged: Final = 16_384

    def __init__(self, path: Path) -> None:
        check_regular(path)  # one would wait for what a pipe never gives
        self.hdf5_file = path
        self._file: Any = path.open("rb", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def complete(self, action: Callable[[], _Result], *, keep: bool = True) -> _Result:  # noqa: ARG002
        """Return what an action gives."""
        return action()

    def will_need(self, ranges: Ranges) -> None:
        """Let the system read ahead; that changes when something is read, never what."""
        with suppress(OSError, AttributeError):  # where there is no such call
            for start, stop in ranges:
                os.posix_fadvise(self._file.fileno(), start, stop - start, os.POSIX_FADV_WILLNEED)

    def fetch(self, ranges: Ranges) -> list[int]:  # noqa: ARG002
        """Do nothing: all is there."""
        return []

    def remove(self, keys: list[int]) -> None:
        """Do nothing."""

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Read from the file; OSError where it gives less than it held when it was opened."""
        try:
            self._file.seek(start)
            while len(buffer):
                if not (n_read := self._file.readinto(buffer)):
                    raise OSError(errno.EIO, "Only part of it could be read")
                buffer = buffer[n_read:]
        except OSError as error:  # which has no name of the file
            number = error.errno or errno.EIO
            raise OSError(number, os.strerror(number), str(self.hdf5_file)) from error
