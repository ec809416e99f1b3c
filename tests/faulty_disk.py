"""A disk that fails when it is told to: every reading and writing below a folder is counted.

What Python itself opens, reads and writes is intercepted at `io.FileIO`, names and folders at `os`,
and what HDF5 and netCDF do in C at the calls of h5py, netCDF4 and xarray.
"""

import builtins
import errno
import io
import os
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import h5py
import netCDF4
import pytest
import xarray as xr

from nsd_prep.assemblies import assembly_file
from nsd_prep.dataset import betas

#: What can go wrong in each operation. "error": the disk fails. "short": fewer bytes than were
#: asked for, as POSIX allows. "cut": half of the bytes, then the file seems to end. "full": half
#: of the bytes are written, and no more from then on. "HDF error": half is written, and the C
#: library says just that.
FAULTS = {
    "stat": ("error",),
    "make folder": ("error", "full"),
    "rename": ("error",),
    "remove": ("error",),
    "flush": ("error",),
    "open": ("error",),
    "create": ("error", "full"),
    "read": ("error", "short", "cut"),
    "write": ("error", "short", "full"),
    "open HDF5": ("error",),
    "read dataset": ("error",),
    "open netCDF": ("error", "HDF error"),
    "write netCDF": ("full", "HDF error", "cut"),
}
_ERRNO = {"error": errno.EIO, "full": errno.ENOSPC}


@dataclass
class FaultyDisk:
    """Counts the calls that touch a folder, and lets one of them fail.

    `calls` lists (operation, file), and `origins` the library's functions that led to each; `at` is
    the index of the one that fails, by `fault`.
    """

    folder: Path
    at: int | None = None
    fault: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    origins: list[tuple[CodeType, ...]] = field(default_factory=list)
    is_full: bool = False

    def next(self, operation: str, path: object) -> str:
        """Note a call, raise its error, or return the fault that the caller is to show."""
        if not isinstance(path, str | os.PathLike) or not self._holds(path):
            return ""
        index = len(self.calls)
        name = re.sub(r"\.[^.]+\.partial$", "", os.fspath(path).removeprefix(str(self.folder)))
        self.calls.append((operation, name))
        self.origins.append(_origin())
        if index == self.at:
            if self.fault == "full":
                self.is_full = True
            if self.fault in _ERRNO and operation not in ("write", "write netCDF"):
                raise failure(self.fault, path)
            return self.fault
        if self.is_full and operation in ("create", "write", "write netCDF"):
            raise failure("full", path)
        return ""

    def _holds(self, path: str | os.PathLike[str]) -> bool:
        return os.fspath(path).startswith(f"{self.folder}{os.sep}")


def _origin() -> tuple[CodeType, ...]:
    """Return the library's functions on the stack."""
    functions = (frame.f_code for frame, _ in traceback.walk_stack(None))
    return tuple(code for code in functions if f"{os.sep}nsd_prep{os.sep}" in code.co_filename)


def failure(fault: str, path: object) -> OSError:
    """Return the error of a fault."""
    number = _ERRNO[fault]
    return OSError(number, os.strerror(number), str(path))


class _File(io.FileIO):
    """An open file of the faulty disk."""

    def __init__(self, disk: FaultyDisk, path: object, mode: str) -> None:
        super().__init__(path, mode)
        self._disk, self._path = disk, path
        self._ended = False

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer).cast("B")
        fault = self._disk.next("read", self._path)
        if self._ended:
            return 0
        self._ended = fault == "cut"
        if fault:
            # What a reader asks for is more than there is, as a rule.
            left = os.fstat(self.fileno()).st_size - self.tell()
            into = into[: min(len(into), left) // 2 if self._ended else max(1, left // 2)]
        return super().readinto(into)

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return self.readall()
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(buffer)])

    def readall(self) -> bytes:
        pieces = []
        while piece := self.read(max(1, os.fstat(self.fileno()).st_size - self.tell() + 1)):
            pieces.append(piece)
        return b"".join(pieces)

    def write(self, data: Any) -> int:
        content = memoryview(data).cast("B")
        fault = self._disk.next("write", self._path)
        if fault == "error":
            raise failure("error", self._path)
        if fault:
            content = content[: max(1, len(content) // 2)]
        return super().write(content)


class _Betas:
    """An HDF5 dataset of the faulty disk."""

    def __init__(self, disk: FaultyDisk, path: Path, dataset: h5py.Dataset) -> None:
        self._disk, self._path, self._dataset = disk, path, dataset
        self.id = self

    def __getattr__(self, name: str) -> Any:
        item = self._dataset if hasattr(self._dataset, name) else self._dataset.id
        return getattr(item, name)

    def __getitem__(self, selection: Any) -> Any:
        self._next("read dataset")
        return self._dataset[selection]

    def _next(self, operation: str) -> str:
        try:
            return self._disk.next(operation, self._path)
        except OSError as error:  # h5py gives no errno here
            raise OSError(
                f"Can't synchronously read data (file read failed: filename = '{self._path}', "
                f"errno = {error.errno}, error message = '{error.strerror}')"
            ) from error


def install(disk: FaultyDisk, patch: pytest.MonkeyPatch) -> None:
    """Put a disk in the way of all that is read and written below its folder."""
    _install_files(disk, patch)
    for name, operation in {
        "stat": "stat",
        "mkdir": "make folder",
        "replace": "rename",
        "unlink": "remove",
        "open": "create",
    }.items():
        patch.setattr(os, name, _noted(disk, operation, getattr(os, name)))
    flush = os.fsync

    def fsync(descriptor: int) -> None:
        disk.next("flush", Path(f"/proc/self/fd/{descriptor}").readlink())
        flush(descriptor)

    patch.setattr(os, "fsync", fsync)
    patch.setattr(h5py.File, "__init__", _noted(disk, "open HDF5", h5py.File.__init__, at=1))
    checked = betas._checked
    patch.setattr(betas, "_checked", lambda path, *rest: _Betas(disk, path, checked(path, *rest)))
    _install_netcdf(disk, patch)


def _noted(
    disk: FaultyDisk, operation: str, original: Callable[..., Any], at: int = 0
) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        disk.next(operation, arguments[at] if len(arguments) > at else None)
        return original(*arguments, **options)

    return call


def _install_files(disk: FaultyDisk, patch: pytest.MonkeyPatch) -> None:
    original = io.open

    def faulty_open(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        is_ours = isinstance(file, str | os.PathLike) and disk._holds(file)
        if not is_ours or opener:  # a temporary file without a name is opened by os.open
            return original(file, mode, buffering, encoding, errors, newline, closefd, opener)
        disk.next("create" if set(mode) & set("wxa") else "open", file)
        raw = _File(disk, file, mode.replace("b", "").replace("t", ""))
        if "+" in mode:
            binary: Any = io.BufferedRandom(raw)
        else:
            binary = io.BufferedReader(raw) if "r" in mode else io.BufferedWriter(raw)
        return binary if "b" in mode else io.TextIOWrapper(binary, encoding, errors, newline)

    patch.setattr(builtins, "open", faulty_open)
    patch.setattr(io, "open", faulty_open)


def _install_netcdf(disk: FaultyDisk, patch: pytest.MonkeyPatch) -> None:
    read = xr.open_dataarray

    def faulty_read(path: Path, **options: Any) -> Any:
        if disk.next("open netCDF", path):
            raise RuntimeError("NetCDF: HDF error")
        return read(path, **options)

    class FaultyDataset:
        """A file that is written, whose faults show when it is closed."""

        def __init__(self, path: Path, mode: str, **options: Any) -> None:
            self._path, self._fault = path, disk.next("write netCDF", path)
            self._file = netCDF4.Dataset(path, mode, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def close(self) -> None:
            self._file.close()
            if self._fault:
                os.truncate(self._path, os.path.getsize(self._path) // 2)  # noqa: PTH202
            if self._fault == "full":
                raise failure(self._fault, self._path)
            if self._fault == "HDF error":
                raise RuntimeError("NetCDF: HDF error")

    patch.setattr(xr, "open_dataarray", faulty_read)
    # xarray needs the class itself.
    patch.setattr(assembly_file, "netCDF4", SimpleNamespace(Dataset=FaultyDataset))
