"""What netCDF's errors mean, which speak of HDF5 or of permissions whatever went wrong."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nsd_prep.core.atomic import explained_write_errors
from nsd_prep.core.errors import OutputError

_PROBE = bytes(1_000_000)


@contextmanager
def netcdf_errors(path: Path) -> Iterator[None]:
    """Turn what a library says of a path that it cannot write into one sentence.

    Of a full disk netCDF says "HDF error" or "permission denied", as it happens, and the same where
    two libraries of HDF5 do not fit together: so the disk itself is asked.

    Raises
    ------
    OutputError
        In place of the RuntimeError or OSError. It names the disk only where the disk fails.
    """
    try:
        yield
    except OutputError:
        raise
    except (RuntimeError, OSError) as error:
        with explained_write_errors(path):
            _write_probe(path.parent)
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise
        raise OutputError(
            f'{path} cannot be written: the library says "{error}", while the disk takes other '
            f"files in this folder; see whether {_hdf5_versions()} fit together by installing the "
            "newest of both, and run the same command again."
        ) from error


def _write_probe(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(_PROBE)
        file.flush()
        os.fsync(file.fileno())


def _hdf5_versions() -> str:
    import h5py
    import netCDF4

    return (
        f"netCDF4 {netCDF4.__version__} (HDF5 {netCDF4.__hdf5libversion__}) and "
        f"h5py {h5py.version.version} (HDF5 {h5py.version.hdf5_version})"
    )
