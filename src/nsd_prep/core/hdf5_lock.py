"""One lock for HDF5: neither it nor netCDF is safe when several threads use it."""

import sys
import threading
from typing import Any, Final

#: Of the process. xarray's, h5py's and netCDF4's own locks do not know of each other.
_LOCK: Final = threading.RLock()


class HDF5Lock:
    """A lock that `h5py`, `netCDF4` and `xarray` are used under; reentrant, of the whole process.

    xarray takes it as the argument ``lock`` of what opens a file, and reads values under it later.
    It can be pickled: in another process it is that process's.
    """

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Do as `threading.RLock.acquire`."""
        return _LOCK.acquire(blocking, timeout)

    def release(self) -> None:
        """Do as `threading.RLock.release`."""
        _LOCK.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class NetCDFLock(HDF5Lock):
    """The same, with xarray's own lock of netCDF: a file that it opened is not closed meanwhile.

    xarray closes what someone opened and never closed when it is collected as garbage, in whichever
    thread that happens, unless its own lock is held; HDF5 would crash if another thread used it at
    that moment. For values that are read or written beside other threads. xarray's lock is not
    reentrant: while this one is held, nothing is called that takes it.
    """

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Do as `threading.RLock.acquire`; the timeout is that for this lock alone."""
        if not super().acquire(blocking, timeout):
            return False
        # Where it is not imported, it has opened no file.
        module = sys.modules.get("xarray.backends.netCDF4_")
        whole = getattr(module, "NETCDF4_PYTHON_LOCK", None)
        taken: list[Any] = []
        # One after the other: xarray would keep the first where it does not get the second.
        for lock in getattr(whole, "locks", ()):
            if not lock.acquire(blocking):
                _release(taken)
                super().release()
                return False
            taken.append(lock)
        _HELD.append(taken)
        return True

    def release(self) -> None:
        """Do as `threading.RLock.release`."""
        _release(_HELD.pop())
        super().release()


def _release(locks: list[Any]) -> None:
    for lock in reversed(locks):
        lock.release()


#: What was taken of xarray's lock, by the thread that holds `_LOCK`.
_HELD: Final[list[list[Any]]] = []

HDF5_LOCK: Final = HDF5Lock()
NETCDF_LOCK: Final = NetCDFLock()
