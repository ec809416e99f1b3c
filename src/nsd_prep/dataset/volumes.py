"""NIfTI volumes, with their axes in the order of the betas."""

import gzip
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from nsd_prep.core.digests import read_whole
from nsd_prep.core.errors import InputFileError
from nsd_prep.core.parameters import SpaceName
from nsd_prep.dataset.space import FUNC1PT8MM, VolumeSpace

#: A label volume's value outside the cortex.
OUTSIDE_CORTEX = -1
#: Above it a noise ceiling would be 99.99 %: no voxel's, but a damaged file's.
LARGEST_NCSNR = 100.0
Read = Callable[[Path], bytes]
#: What nibabel raises at damaged files.
_UNREADABLE = (
    ImageFileError,
    HeaderDataError,
    EOFError,
    zlib.error,
    ValueError,
    TypeError,
    OverflowError,
    OSError,
    WrapStructError,
)


class Volume(NamedTuple):
    """A volume with its axes fully reversed, and where it lies.

    Attributes
    ----------
    values : ndarray, shape (Z, Y, X)
        In the order of the axes of the betas' HDF5 files.
    space : VolumeSpace
        Of its voxels.
    """

    values: NDArray[Any]
    space: VolumeSpace


def read_volume(path: Path, read: Read = read_whole, space: SpaceName = FUNC1PT8MM) -> Volume:
    """Read a three-dimensional NIfTI volume of real numbers, its axes fully reversed.

    Parameters
    ----------
    path : Path
        A ``.nii.gz`` or ``.nii`` file with axes (X, Y, Z).
    read : callable
        Returns the content of the file.
    space : {"func1pt8mm", "func1mm"}
        What its space is called.

    Returns
    -------
    Volume
        With values as they are stored, scaled where the header says so.

    Raises
    ------
    OSError
        There is no such file, or the disk fails.
    InputFileError
        The file cannot be read as NIfTI, has not three dimensions, or no real numbers.
    """
    content = read(path)
    try:
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        is_second = content[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c")  # 540, a NIfTI-2 header
        kind = nibabel.Nifti2Image if is_second else nibabel.Nifti1Image
        image = kind.from_bytes(content)
        values = np.asanyarray(image.dataobj)
        affine = np.asarray(image.affine, dtype=np.float64)
    except _UNREADABLE as error:
        raise InputFileError(
            f"{path} cannot be read as a NIfTI volume ({_first_line(error)}): it is truncated or "
            "of another kind; download it again."
        ) from error
    if values.ndim != 3 or 0 in values.shape:
        raise InputFileError(
            f"{path} has the shape {values.shape}: expected three dimensions (X, Y, Z); "
            "download it again."
        )
    if values.dtype.kind not in "iuf":
        raise InputFileError(
            f"{path} has values of the type {values.dtype}: expected real numbers; "
            "download it again."
        )
    x, y, z = values.shape
    return Volume(values.transpose(2, 1, 0), VolumeSpace((z, y, x), affine, space))


def read_label_volume(path: Path, read: Read = read_whole, space: SpaceName = FUNC1PT8MM) -> Volume:
    """Read a volume of region labels, its axes fully reversed.

    Parameters
    ----------
    path : Path
        A NIfTI file with axes (X, Y, Z): -1 outside the cortex (in MTL and thalamus 0), 0 without
        a label, 1 and up the labels.
    read, space
        As `read_volume`.

    Returns
    -------
    Volume
        Labels, int16.

    Raises
    ------
    OSError, InputFileError
        As `read_volume`; InputFileError also where the values are not labels.
    """
    values, affine = read_volume(path, read, space)
    with np.errstate(invalid="ignore"):
        labels = values.astype(np.int16)
    wrong = values != labels
    if wrong.any() or labels.min() < OUTSIDE_CORTEX:
        value = values[wrong | (labels < OUTSIDE_CORTEX)].flat[0]
        raise InputFileError(
            f"{path} is not a volume of labels: expected whole numbers from -1 up, found "
            f"{value:g}; give the label volume that NSD distributes."
        )
    return Volume(labels, affine)


def read_ncsnr(path: Path, read: Read = read_whole, space: SpaceName = FUNC1PT8MM) -> Volume:
    """Read a volume of noise ceiling SNRs, its axes fully reversed.

    Parameters
    ----------
    path : Path
        ``ncsnr.nii.gz``, with axes (X, Y, Z).
    read, space
        As `read_volume`.

    Returns
    -------
    Volume
        ncsnr, float32: at least 0; NaN where a voxel has no data in any session.

    Raises
    ------
    OSError, InputFileError
        As `read_volume`; InputFileError also where the values cannot be ncsnr.
    """
    values, affine = read_volume(path, read, space)
    wrong = (values < 0) | (values > LARGEST_NCSNR)
    if wrong.any():
        raise InputFileError(
            f"{path} does not hold ncsnr: expected NaN or values from 0 to {LARGEST_NCSNR:g}, "
            f"found {values[wrong].flat[0]:g}; download it again."
        )
    return Volume(values.astype(np.float32, copy=False), affine)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def read_label_table(path: Path, read: Callable[[Path], bytes] = read_whole) -> dict[str, int]:
    """Read the names of a volume's labels.

    Parameters
    ----------
    path : Path
        A table with lines "number name", split on any white space; what follows is passed over.
    read : callable
        Returns the content of the file.

    Returns
    -------
    dict of str to int
        The number of each name.

    Raises
    ------
    OSError
        There is no such file, or the disk fails.
    InputFileError
        A line is not of that form.
    """
    numbers: dict[str, int] = {}
    for line_number, line in enumerate(read(path).decode(errors="replace").splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) < 2 or not re.fullmatch("-?[0-9]+", fields[0]):
            raise InputFileError(
                f"{path}, line {line_number}: expected a label's number and name, found "
                f"{line.strip()!r}; download the file again."
            )
        numbers[fields[1]] = int(fields[0])
    return numbers
