"""One lock for HDF5: neither it nor netCDF is safe when several threads use it."""

import threading
from typing import Final

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


HDF5_LOCK: Final = HDF5Lock()
