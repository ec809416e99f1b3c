"""Values of the vertices of a hemisphere, in MGH files: labels, noise ceilings, transforms."""

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from nsd_prep.core.digests import read_whole
from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.space import SurfaceSpace
from nsd_prep.dataset.volumes import LARGEST_NCSNR

Read = Callable[[Path], bytes]
#: What transforms from volumes have where a vertex has no counterpart.
NO_COUNTERPART: Final = 9999
#: What nibabel and gzip raise at damaged files.
_UNREADABLE = (
    HeaderDataError,
    EOFError,
    KeyError,
    zlib.error,
    ValueError,
    TypeError,
    OverflowError,
    OSError,
    WrapStructError,
)


class SurfaceMap(NamedTuple):
    """A value for each site of a pair of surfaces.

    Attributes
    ----------
    values : ndarray, shape (n_sites,)
        Of the left hemisphere's vertices, then of the right's.
    space : SurfaceSpace
        Whose sites these are.
    """

    values: NDArray[Any]
    space: SurfaceSpace


def read_vertices(path: Path, read: Read = read_whole) -> NDArray[Any]:
    """Read a value, or several, for each vertex of a hemisphere.

    Parameters
    ----------
    path : Path
        An ``.mgh`` or ``.mgz`` file of the shape (V, 1, 1) or (V, n, 1).
    read : callable
        Returns the content of the file.

    Returns
    -------
    ndarray, shape (V,) or (V, n)
        As they are stored, in the byte order of this machine.

    Raises
    ------
    OSError
        There is no such file, or the disk fails.
    InputFileError
        The file cannot be read as MGH, or holds no values of vertices.
    """
    content = read(path)
    try:
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        values = np.asarray(nibabel.MGHImage.from_bytes(content).dataobj)
    except _UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputFileError(
            f"{path} cannot be read as an MGH file ({reason}): it is truncated or of another kind; "
            "download it again."
        ) from error
    if values.ndim != 3 or values.shape[2] != 1 or 0 in values.shape:
        raise InputFileError(
            f"{path} has the shape {values.shape}: expected (V, 1, 1), a value for each vertex of "
            "a hemisphere; download it again."
        )
    values = values.astype(values.dtype.newbyteorder("="), copy=False)[:, :, 0]
    return values[:, 0] if values.shape[1] == 1 else values


def read_vertex_labels(path: Path, read: Read = read_whole) -> NDArray[np.int16]:
    """Read the region labels of a hemisphere's vertices.

    Arguments are those of `read_vertices`.

    Returns
    -------
    ndarray of int16, shape (V,)
        0 without a label, 1 and up the labels.

    Raises
    ------
    OSError, InputFileError
        As `read_vertices`; InputFileError also where the values are not labels.
    """
    values = _one_each(path, read)
    with np.errstate(invalid="ignore"):
        labels = values.astype(np.int16)
    wrong = (values != labels) | (labels < 0)
    if wrong.any():
        raise InputFileError(
            f"{path} does not hold labels of vertices: expected whole numbers from 0 up, found "
            f"{values[wrong][0]:g}; give the labels that NSD distributes."
        )
    return labels


def read_vertex_ncsnr(path: Path, read: Read = read_whole) -> NDArray[np.float32]:
    """Read the noise ceiling SNR of a hemisphere's vertices.

    Arguments are those of `read_vertices`.

    Returns
    -------
    ndarray of float32, shape (V,)
        At least 0; NaN where a vertex has no data in any session.

    Raises
    ------
    OSError, InputFileError
        As `read_vertices`; InputFileError also where the values cannot be ncsnr.
    """
    values = _one_each(path, read)
    wrong = (values < 0) | (values > LARGEST_NCSNR)
    if wrong.any():
        raise InputFileError(
            f"{path} does not hold ncsnr: expected NaN or values from 0 to {LARGEST_NCSNR:g}, "
            f"found {values[wrong][0]:g}; download it again."
        )
    return values.astype(np.float32, copy=False)


def read_vertex_index(
    path: Path, n_vertices: int, n_counterparts: int, read: Read = read_whole
) -> NDArray[np.int64]:
    """Read which vertex of one surface is the counterpart of each vertex of another.

    Parameters
    ----------
    path : Path
        A transform between surfaces, such as ``lh.white-to-fsaverage.mgz``, which counts from 1.
    n_vertices : int
        Vertices of the surface that has a counterpart for each: 163842 of fsaverage.
    n_counterparts : int
        Vertices of the surface on which the counterparts lie.
    read : callable
        Returns the content of the file.

    Returns
    -------
    ndarray of int64, shape (n_vertices,)
        0-based.

    Raises
    ------
    OSError, InputFileError
        As `read_vertices`; InputFileError also where there are not as many values, or they are not
        whole numbers from 1 to `n_counterparts`, or stand for no counterpart.
    """
    values = _one_each(path, read)
    what = f"expected {n_vertices} whole numbers from 1 to {n_counterparts}"
    advice = "see that the transform is of the same subject and hemisphere, or download it again."
    if len(values) != n_vertices:
        raise InputFileError(
            f"{path} is no transform to the surface of the region labels: {what}, found "
            f"{len(values)} values; see that the transform and the labels are of the same subject "
            "and hemisphere, or download both again."
        )
    with np.errstate(invalid="ignore"):
        index = values.astype(np.int64)
    wrong = (index != values) | (index < 1) | (index > n_counterparts)
    if wrong.any():
        raise InputFileError(
            f"{path} points outside of the surface: {what}, found {values[wrong][0]:g} at the "
            f"vertex {np.flatnonzero(wrong)[0]} (0-based); {advice}"
        )
    if (n_none := _n_without_counterpart(index)) > 0:
        raise InputFileError(
            f"{path} has the value {NO_COUNTERPART}, which stands for none, at {n_none} vertices: "
            f"{what}, a counterpart for each vertex; {advice}"
        )
    return index - 1


def _n_without_counterpart(index: NDArray[np.int64]) -> int:
    """Return at how many vertices an index stands for none, although there is a vertex 9999.

    A vertex is the counterpart of a few others, so that one which is that of far more than any
    other is none.
    """
    counts = np.bincount(index)
    if len(counts) <= NO_COUNTERPART:
        return 0
    n_none = int(counts[NO_COUNTERPART])
    counts[NO_COUNTERPART] = 0
    return n_none if n_none > 2 * counts.max() + 1 else 0


def _one_each(path: Path, read: Read) -> NDArray[Any]:
    values = read_vertices(path, read)
    if values.ndim != 1:
        raise InputFileError(
            f"{path} has {values.shape[1]} values for each vertex: expected one; download it again."
        )
    return values
