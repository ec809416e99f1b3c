"""Libraries that a run would import late: imported before anything is computed."""

import os
import sys
from contextlib import suppress
from importlib import import_module

from nsd_prep.core.errors import ParameterError


def import_report() -> None:
    """Import what draws and writes reports.

    Raises
    ------
    ParameterError
        It cannot be imported.
    """
    try:
        _import_matplotlib()
        import_module("matplotlib.backends.backend_pdf")  # which the first PDF would import
        import_module("nsd_prep.pipeline.steps.report")
    except ImportError as error:
        raise ParameterError(
            f"The report needs a library that cannot be imported ({error}): install it again, or "
            "leave the report out with report=False."
        ) from error


def import_array_libraries() -> None:
    """Import what xarray imports with its first array: Dask, where it is installed."""
    import xarray as xr

    xr.DataArray(0.0)


def _import_matplotlib() -> None:
    """Import matplotlib with the backend that the environment names, if it is there.

    A notebook's shell commands inherit the notebook's backend, and matplotlib cannot be imported
    without it. Figures here are drawn without a backend.
    """
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    import matplotlib

    with suppress(ValueError):
        if backend:
            matplotlib.rcParams["backend"] = backend  # as matplotlib does
            os.environ["MPLBACKEND"] = backend
