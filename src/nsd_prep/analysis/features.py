"""Features of images: what an encoding model predicts responses from."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import netCDF4
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.core.counts import counted
from nsd_prep.core.digests import read_whole
from nsd_prep.core.errors import InputFileError, MissingFilesError
from nsd_prep.core.hdf5_lock import HDF5_LOCK, NETCDF_LOCK

_FORM: Final = (
    "expected netCDF with one variable, images by features, and a coordinate nsd_id or "
    "stimulus_id along its first dimension"
)


@dataclass(frozen=True)
class Features:
    """Features of images.

    Attributes
    ----------
    nsd_ids : ndarray of int64, shape (n_images,)
        0-based, each once.
    values : ndarray of float, shape (n_images, n_features)
        Finite.
    """

    nsd_ids: NDArray[np.int64]
    values: NDArray[np.floating]

    def select(self, nsd_ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the features (n, n_features) of images (0-based ids), in their order.

        InputFileError where an image has none.
        """
        absent = np.setdiff1d(nsd_ids, self.nsd_ids)
        if len(absent):
            advice = "compute the features of all of them."
            if np.isin(nsd_ids + 1, self.nsd_ids).all():
                advice = (
                    "every id is there plus 1, so the ids seem to count from 1; subtract 1 from "
                    "each."
                )
            raise InputFileError(
                f"{len(absent)} of {len(np.unique(nsd_ids))} images have no features, nsd_id "
                f"{absent[0]} (0-based) first: expected a row for each image of the assemblies; "
                f"{advice}"
            )
        order = np.argsort(self.nsd_ids)
        rows = order[np.searchsorted(self.nsd_ids, nsd_ids, sorter=order)]
        return self.values[rows].astype(np.float64)


def check_ids(nsd_ids: NDArray[np.int64], n_images: int, name: str) -> None:
    """Raise InputFileError where ids (0-based) in a file are not those of a dataset's images."""
    outside = nsd_ids[(nsd_ids < 0) | (nsd_ids >= n_images)]
    if not len(outside):
        return
    if nsd_ids.min() >= 1 and nsd_ids.max() == n_images:
        advice = "they seem to count from 1; subtract 1 from each."
    else:
        advice = "give the ids of the dataset's images."
    raise InputFileError(
        f"{name} names {counted(len(outside), 'image')} that the dataset does not have, nsd_id "
        f"{outside[0]} first: expected ids from 0 to {n_images - 1}, found {nsd_ids.min()} to "
        f"{nsd_ids.max()}; {advice}"
    )


def read_features(path: Path) -> Features:
    """Read a file of features of images; errors as `parse_features`, and where it is missing."""
    if not path.is_file():
        raise MissingFilesError(f"The features file {path} is missing: give the path of one.")
    return parse_features(read_whole(path), str(path))


def parse_features(content: bytes, name: str) -> Features:
    """Read features of images from the bytes of a file.

    Parameters
    ----------
    content : bytes
        netCDF with one variable, images by features, whose first dimension has a coordinate
        ``nsd_id`` (0-based) or ``stimulus_id``.
    name : str
        Of the file, for messages.

    Returns
    -------
    Features
        As in the file.

    Raises
    ------
    InputFileError
        It is not netCDF, or not of that form, or holds values that are not finite.
    """
    try:
        with NETCDF_LOCK:
            file = netCDF4.Dataset("features", memory=content)
        try:
            with HDF5_LOCK:
                store = xr.backends.NetCDF4DataStore(file, lock=NETCDF_LOCK)  # type: ignore[no-untyped-call]
                array = xr.open_dataarray(store).load()
        finally:
            with NETCDF_LOCK:
                file.close()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputFileError(
            f"The features file {name} cannot be read ({error}): {_FORM}."
        ) from error
    labels = [
        label
        for label in ("nsd_id", "stimulus_id")
        if label in array.coords and array.coords[label].dims == array.dims[:1]
    ]
    if array.ndim != 2 or not labels or array.dtype.kind not in "iuf" or array.size == 0:
        raise InputFileError(
            f"The features file {name} holds {array.dtype} of the sizes {dict(array.sizes)} with "
            f"the coordinates {', '.join(map(str, array.coords)) or 'none'}: {_FORM}."
        )
    features = Features(_nsd_ids(name, array.coords[labels[0]]), array.to_numpy())
    if wrong := int(np.count_nonzero(~np.isfinite(features.values))):
        found = counted(wrong, "value that is not finite", "values that are not finite")
        raise InputFileError(
            f"The features file {name} holds {found}: expected none; write the file again."
        )
    if repeated := len(features.nsd_ids) - len(np.unique(features.nsd_ids)):
        raise InputFileError(
            f"The features file {name} holds {counted(repeated, 'image')} more than once: "
            "expected each once; write the file again."
        )
    return features


def _nsd_ids(name: str, labels: xr.DataArray) -> NDArray[np.int64]:
    """Return the 0-based ids that a coordinate nsd_id or stimulus_id gives."""
    texts = [str(label) for label in labels.to_numpy().tolist()]
    pattern = re.compile(r"[0-9]{1,9}" if labels.name == "nsd_id" else r"nsd_[0-9]{5,9}")
    strange = [text for text in texts if not pattern.fullmatch(text)]
    if strange:
        raise InputFileError(
            f"The features file {name} names an image {strange[0]!r} in {labels.name}: expected "
            "0-based whole numbers in nsd_id, or nsd_ and five digits in stimulus_id."
        )
    return np.array([int(text.removeprefix("nsd_")) for text in texts], dtype=np.int64)
