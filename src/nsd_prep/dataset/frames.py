"""A session's betas in an MGH file: a frame for each trial, of all vertices of a hemisphere.

The bytes of a frame lie together, those of a vertex do not: all frames are passed through, a few
at a time, and of each what the wanted vertices need is kept.
"""

import io
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.hdf5.content import Content
from nsd_prep.dataset.hdf5.ranges import Ranges, merged
from nsd_prep.dataset.mgh import MGH_HEADER_BYTES

_VALUE: Final = np.dtype(">f4")
#: Percent signal change beyond any response; bytes that are no betas give such numbers. Sums of
#: squares of what lies below are finite.
_LARGEST: Final = 1e6
#: The first bytes of a compressed file.
_GZIP: Final = b"\x1f\x8b"


class FramePart(NamedTuple):
    """Frames that are read together.

    Attributes
    ----------
    trials : slice
        Which.
    ranges : Ranges
        The bytes of the file that hold what is wanted of them; of the first part, its header too.
    """

    trials: slice
    ranges: Ranges


def frames_bytes(n_vertices: int, n_trials: int) -> int:
    """Return the bytes of a file up to the end of its last frame; a trailer may follow."""
    return MGH_HEADER_BYTES + n_vertices * n_trials * _VALUE.itemsize


def frame_parts(
    vertices: NDArray[np.int64], n_vertices: int, n_trials: int, gap: int, n_bytes: int
) -> list[FramePart]:
    """Cut a file into frames that are read together.

    Parameters
    ----------
    vertices : ndarray of int64, shape (n_chosen,)
        0-based, ascending.
    n_vertices, n_trials : int
        As `read_frames`.
    gap : int
        Bytes between two ranges that are read rather than skipped.
    n_bytes : int
        Bytes of a part, or of one frame where it needs more.
    """
    header = np.array([0]), np.array([MGH_HEADER_BYTES])
    of_frame = _ranges_of_frame(vertices, gap)
    if not len(vertices):
        return [FramePart(slice(0, 0), merged(*header))]
    n_at_once = max(1, n_bytes // of_frame.n_bytes)
    parts = []
    for first in range(0, n_trials, n_at_once):
        trials = slice(first, min(first + n_at_once, n_trials))
        starts = (_offsets(trials, n_vertices)[:, np.newaxis] + of_frame.starts).ravel()
        lengths = np.tile(of_frame.stops - of_frame.starts, trials.stop - first)
        if first == 0:
            starts, lengths = np.r_[header[0], starts], np.r_[header[1], lengths]
        parts.append(FramePart(trials, merged(starts, lengths, gap)))
    return parts


def _ranges_of_frame(vertices: NDArray[np.int64], gap: int) -> Ranges:
    """Return the bytes, from a frame's first on, that hold some vertices."""
    starts = vertices * _VALUE.itemsize
    return merged(starts, np.full(len(starts), _VALUE.itemsize), gap)


def _offsets(trials: slice, n_vertices: int) -> NDArray[np.int64]:
    """Return the byte where each frame begins."""
    return MGH_HEADER_BYTES + np.arange(trials.start, trials.stop) * n_vertices * _VALUE.itemsize


def check_frames(path: Path | str, n_vertices: int, n_trials: int, content: Content) -> None:
    """Raise where a session's betas are not of the expected form.

    Arguments and errors are those of `read_frames`.
    """
    advice = "download the file again."
    head = bytearray(min(MGH_HEADER_BYTES, content.size))
    content.fetch(Ranges(np.array([0]), np.array([len(head)])))
    content.read_into(0, memoryview(head))
    if head[:2] == _GZIP:
        raise InputFileError(
            f"{path} is compressed: expected the frames of an MGH file as they are distributed; "
            "decompress it with gunzip."
        )
    try:
        if len(head) < MGH_HEADER_BYTES:
            raise EOFError(f"it has {len(head)} bytes")
        padded = io.BytesIO(bytes(head).ljust(2 * MGH_HEADER_BYTES, b"\0"))
        header = MGHHeader.from_fileobj(padded)  # type: ignore[no-untyped-call]
        shape, dtype = tuple(map(int, header["dims"])), header.get_data_dtype()
    except (HeaderDataError, WrapStructError, EOFError, KeyError, ValueError, OSError) as error:
        # A KeyError tells but a number, that of a type of values which there is not.
        reason = "its header is of another format" if isinstance(error, KeyError) else error
        raise InputFileError(
            f"{path} cannot be read as a session's betas ({reason}): it is truncated, empty or not "
            f"MGH; {advice}"
        ) from error
    if dtype != _VALUE:
        raise InputFileError(
            f"{path} has betas of the type {dtype.name}: expected float32 (percent signal "
            f"change); {advice}"
        )
    if shape != (n_vertices, 1, 1, n_trials):
        raise InputFileError(
            f"{path} has betas of the shape {shape}: expected ({n_vertices}, 1, 1, {n_trials}), "
            "the session's trials at the vertices of the region labels; download the file or the "
            "labels again."
        )
    expected = frames_bytes(n_vertices, n_trials)
    if content.size < expected:
        raise InputFileError(
            f"{path} is truncated: expected {expected} bytes or more, found {content.size}; "
            f"{advice}"
        )


def read_frames(
    path: Path | str,
    vertices: NDArray[np.int64],
    n_vertices: int,
    n_trials: int,
    content: Content,
) -> NDArray[np.float32]:
    """Read all trials of some vertices; no more than a few frames are in memory at once.

    Parameters
    ----------
    path : Path
        A session's MGH file of shape (n_vertices, 1, 1, n_trials), for messages.
    vertices : ndarray of int64, shape (n_chosen,)
        0-based, ascending.
    n_vertices : int
        Vertices of the hemisphere.
    n_trials : int
        750 in NSD.
    content : Content
        What gives the bytes.

    Returns
    -------
    ndarray of float32, shape (n_chosen, n_trials)
        Percent signal change; NaN where a vertex has no data.

    Raises
    ------
    OSError
        The disk or the network fails.
    InputFileError
        The file is truncated, not MGH, or holds something else.
    """
    check_frames(path, n_vertices, n_trials, content)
    values = np.empty((len(vertices), n_trials), dtype=np.float32)
    for part in frame_parts(vertices, n_vertices, n_trials, content.gap, content.bytes_at_once):
        keys = content.fetch(part.ranges)
        values[:, part.trials] = read_some_frames(part.trials, vertices, n_vertices, content)
        content.remove(keys)
    check_values(path, vertices, values)
    return values


def read_some_frames(
    trials: slice, vertices: NDArray[np.int64], n_vertices: int, content: Content
) -> NDArray[np.float32]:
    """Read vertices in some frames, whose bytes were fetched: (n_chosen, n_frames)."""
    ranges = _ranges_of_frame(vertices, content.gap)
    ends = np.cumsum(ranges.stops - ranges.starts)
    offsets = _offsets(trials, n_vertices)
    frames = np.empty((len(offsets), ranges.n_bytes // _VALUE.itemsize), dtype=_VALUE)
    for frame, offset in zip(frames, offsets.tolist(), strict=True):
        buffer = frame.view(np.uint8).data
        for (start, stop), end in zip(ranges, ends.tolist(), strict=True):
            content.read_into(offset + start, buffer[end - (stop - start) : end])
    starts = vertices * _VALUE.itemsize
    held_in = np.searchsorted(ranges.starts, starts, side="right") - 1
    columns = (starts - ranges.stops[held_in] + ends[held_in]) // _VALUE.itemsize
    return frames[:, columns].T


def check_values(
    path: Path | str, vertices: NDArray[np.int64], values: NDArray[np.float32]
) -> None:
    """Raise where a vertex has data in some trials only, or values that are no responses."""
    possible = (values > -_LARGEST) & (values < _LARGEST)
    wrong = np.flatnonzero(~possible.all(axis=1))
    wrong = wrong[~np.isnan(values[wrong]).all(axis=1)]
    if len(wrong):
        row = wrong[0]
        trial = int(np.flatnonzero(~possible[row])[0])
        raise InputFileError(
            f"{path} has the value {values[row, trial]} in trial {trial} (0-based) at the vertex "
            f"{vertices[row]} (0-based): expected percent signal change in all trials, or NaN in "
            "all where there are no data; download the file again."
        )
