"""The experiment's design: which image a subject saw in which trial."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.digests import read_whole
from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.matlab import load_mat

#: No count or id of a design is larger; larger ones could not be held exactly by every type.
_LARGEST_NUMBER: Final = 2**31 - 1


@dataclass(frozen=True)
class Design:
    """Which image each trial shows.

    Attributes
    ----------
    image_of_trial : ndarray of int64, shape (n_planned_trials,)
        Index (0-based) into the subject's images; the same for all subjects.
    nsd_id_of_image : ndarray of int64, shape (n_subjects, n_images_of_a_subject)
        nsd_id (0-based) of each subject's images; row 0 is subject 1.
    shared_nsd_ids : ndarray of int64, shape (n_shared_images,)
        nsd_id (0-based) of the images that are planned for every subject.
    """

    image_of_trial: NDArray[np.int64]
    nsd_id_of_image: NDArray[np.int64]
    shared_nsd_ids: NDArray[np.int64]

    def nsd_id_of_trial(self, subject: int, n_trials: int) -> NDArray[np.int64]:
        """Return the nsd_id (0-based) of a subject's (1-based) first trials, int64 (n_trials,)."""
        return self.nsd_id_of_image[subject - 1, self.image_of_trial[:n_trials]]


def read_design(path: Path, read: Callable[[Path], bytes] = read_whole) -> Design:
    """Read the experiment design, which counts everything from 1.

    Parameters
    ----------
    path : Path
        ``nsd_expdesign.mat`` (MAT v5) with masterordering, subjectim and sharedix.
    read : callable
        Returns the content of the file.

    Returns
    -------
    Design
        Counted from 0.

    Raises
    ------
    OSError
        There is no such file, or the disk fails.
    InputFileError
        The file cannot be read, or contradicts itself.
    """
    names = ("masterordering", "subjectim", "sharedix")
    content = read(path)
    try:
        variables = load_mat(content, names)
    except Exception as error:
        raise InputFileError(
            f"The design {path} cannot be read as a MAT v5 file "
            f"({type(error).__name__}: {error}): download it again."
        ) from error
    missing = [name for name in names if name not in variables]
    if missing:
        raise InputFileError(
            f"The design {path} has no variable {', '.join(missing)}: expected {', '.join(names)}; "
            "download it again."
        )
    # loadmat gives unsigned integers, which would wrap around below zero.
    ordering, subject_images, shared = (
        _whole_numbers(path, name, variables[name]) - 1 for name in names
    )
    design = Design(ordering.ravel(), subject_images, shared.ravel())
    _check_design(path, design)
    return design


def _whole_numbers(path: Path, name: str, values: Any) -> NDArray[np.int64]:
    """Return a matrix of whole numbers, as a MAT v5 file holds every array of them."""
    is_matrix = isinstance(values, np.ndarray) and values.dtype.kind in "iuf" and values.ndim == 2
    if not is_matrix or values.size == 0:
        actual = f"{getattr(values, 'dtype', type(values).__name__)} {getattr(values, 'shape', '')}"
        raise InputFileError(
            f"The design {path} has in {name} an array of {actual}: expected a matrix of whole "
            f"numbers up to {_LARGEST_NUMBER}; download it again."
        )
    # Not by np.abs, which leaves the lowest int64 below zero.
    sound = (
        (values >= -_LARGEST_NUMBER) & (values <= _LARGEST_NUMBER) & (values == np.floor(values))
    )
    if not sound.all():
        raise InputFileError(
            f"The design {path} has in {name} the value {values[~sound][0]:g}: expected a matrix "
            f"of whole numbers up to {_LARGEST_NUMBER}; download it again."
        )
    return values.astype(np.int64)


def _check_design(path: Path, design: Design) -> None:
    n_images = design.nsd_id_of_image.shape[1]
    n_shared = len(design.shared_nsd_ids)
    lowest, highest = design.image_of_trial.min() + 1, design.image_of_trial.max() + 1
    if lowest < 1 or highest > n_images:
        raise InputFileError(
            f"The design {path} has in masterordering image numbers from {lowest} to {highest}: "
            f"expected 1 to {n_images}, the columns of subjectim; download it again."
        )
    if design.nsd_id_of_image.min() < 0 or design.shared_nsd_ids.min() < 0:
        raise InputFileError(
            f"The design {path} holds an image id below 1 in subjectim or sharedix: expected ids "
            "from 1 up; download it again."
        )
    if len(np.unique(design.shared_nsd_ids)) < n_shared:
        raise InputFileError(
            f"The design {path} has the id {_first_double(design.shared_nsd_ids) + 1} twice in "
            f"sharedix: expected {n_shared} different ids; download it again."
        )
    in_order = np.sort(design.nsd_id_of_image, axis=1)
    rows, columns = np.nonzero(in_order[:, 1:] == in_order[:, :-1])
    if len(rows):
        raise InputFileError(
            f"The design {path} has the id {in_order[rows[0], columns[0]] + 1} twice in subjectim, "
            f"for subject {rows[0] + 1}: expected {n_images} different ids; download it again."
        )
    if n_shared > n_images or (design.nsd_id_of_image[:, :n_shared] != design.shared_nsd_ids).any():
        raise InputFileError(
            f"The design {path} contradicts itself: the first {n_shared} columns of subjectim are "
            "expected to equal sharedix for every subject; download it again."
        )


def _first_double(ids: NDArray[np.int64]) -> int:
    unique, times = np.unique(ids, return_counts=True)
    return int(unique[times > 1][0])
