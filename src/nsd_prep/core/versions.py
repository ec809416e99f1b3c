"""The versions that a result depends on, for the manifest and for a bug report."""

import platform
from importlib.metadata import version
from typing import Final

from nsd_prep import __version__

_LIBRARIES: Final = (
    "numpy",
    "pandas",
    "xarray",
    "h5py",
    "netCDF4",
    "nibabel",
    "scipy",
    "matplotlib",
    "prefect",
)


def software_versions() -> dict[str, str]:
    """Return the version of nsd-prep, of Python and of the libraries that matter, by name."""
    return {"nsd-prep": __version__, "python": platform.python_version()} | {
        library: version(library) for library in _LIBRARIES
    }
