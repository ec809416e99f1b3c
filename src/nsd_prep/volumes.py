"""NIfTI volumes, with their axes in the order of the betas."""

import errno
import zlib
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from nsd_prep.errors import InputFileError

#: A label volume's value outside the cortex.
OUTSIDE_CORTEX = -1

#: What nibabel raises at damaged files.
_UNREADABLE = (
    ImageFileError,
    HeaderDataError,
    EOFError,
    zlib.error,
    ValueError,
    OverflowError,
    OSError,
)


def read_volume(path: Path) -> NDArray[np.floating]:
    """Read a three-dimensional NIfTI volume, its axes fully reversed.

    Parameters
    ----------
    path : Path
        A ``.nii.gz`` or ``.nii`` file with axes (X, Y, Z).

    Returns
    -------
    ndarray of float, shape (Z, Y, X)
        The order of the axes in the betas' HDF5 files.

    Raises
    ------
    OSError
        There is no such file, or the disk fails.
    InputFileError
        The file cannot be read as NIfTI, or has not three dimensions.
    """
    try:
        image = nibabel.load(path)
        values = np.asanyarray(image.dataobj)  # type: ignore[attr-defined]
    except _UNREADABLE as error:
        # nibabel raises FileNotFoundError without an errno.
        if isinstance(error, FileNotFoundError):
            number = error.errno or errno.ENOENT
            raise FileNotFoundError(number, "No such file, or no access", str(path)) from error
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputFileError(
            f"{path} cannot be read as a NIfTI volume ({_first_line(error)}): it is truncated or "
            "of another kind; download it again."
        ) from error
    if values.ndim != 3:
        raise InputFileError(
            f"{path} has the shape {values.shape}: expected three dimensions (X, Y, Z); "
            "download it again."
        )
    return values.transpose(2, 1, 0)


def read_label_volume(path: Path) -> NDArray[np.int16]:
    """Read a volume of region labels, its axes fully reversed.

    Parameters
    ----------
    path : Path
        A NIfTI file with axes (X, Y, Z): -1 outside the cortex, 0 without a label, 1 and up
        the labels.

    Returns
    -------
    ndarray of int16, shape (Z, Y, X)
        The labels.

    Raises
    ------
    OSError
        There is no such file, or the disk fails.
    InputFileError
        The file cannot be read, or its values are not labels.
    """
    values = read_volume(path)
    with np.errstate(invalid="ignore"):
        labels = values.astype(np.int16)
    wrong = values != labels
    if wrong.any() or labels.min() < OUTSIDE_CORTEX:
        found = values[wrong | (labels < OUTSIDE_CORTEX)].flat[0]
        raise InputFileError(
            f"{path} is not a volume of labels: expected whole numbers from -1 up, found "
            f"{found:g}; give the label volume that NSD distributes."
        )
    return labels


def read_ncsnr(path: Path) -> NDArray[np.float32]:
    """Read a volume of noise ceiling SNRs, its axes fully reversed.

    Parameters
    ----------
    path : Path
        ``ncsnr.nii.gz``, with axes (X, Y, Z).

    Returns
    -------
    ndarray of float32, shape (Z, Y, X)
        At least 0; NaN where a voxel has no data in any session.

    Raises
    ------
    OSError
        There is no such file, or the disk fails.
    InputFileError
        The file cannot be read, or its values cannot be ncsnr.
    """
    values = read_volume(path)
    wrong = (values < 0) | np.isinf(values)
    if wrong.any():
        raise InputFileError(
            f"{path} does not hold ncsnr: expected values from 0 up or NaN, found "
            f"{values[wrong].flat[0]:g}; download it again."
        )
    return values.astype(np.float32, copy=False)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
