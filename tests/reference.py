"""The reference: the whole volume, then the mask, and plain loops over trials.

Written from the definitions of the data's formats and of the published processing alone; it uses
nothing of the library.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import scipy.io


def region_mask(label_file: Path, labels: Sequence[int]) -> np.ndarray:
    """Return the mask (Z, Y, X) of a region: the label volume with all its axes reversed."""
    volume = np.asarray(nibabel.load(label_file).dataobj)
    mask = np.zeros(volume.shape[::-1], dtype=bool)
    for i in range(volume.shape[0]):
        for j in range(volume.shape[1]):
            for k in range(volume.shape[2]):
                mask[k, j, i] = volume[i, j, k] in labels
    return mask


def zscores(x: np.ndarray) -> np.ndarray:
    """Z-score (n_trials, n_voxels) over trials in x's own type; a constant voxel gives 0."""
    deviation = x.std(axis=0)
    deviation[deviation == 0] = 1
    z = (x - x.mean(axis=0)) / deviation
    z[:, (x == x[0]).all(axis=0)] = 0
    return z


def session_zscores(
    betas_file: Path, mask: np.ndarray, dtype: type[np.floating] = np.float32
) -> np.ndarray:
    """Return the z-scores (n_trials, n_voxels) of a session: whole volume, then mask."""
    with h5py.File(betas_file, "r") as file:
        x = file["betas"][:].astype(dtype) / dtype(300)
    of_region = x[:, mask]
    # The bits of the sums depend on it: each voxel's trials lie side by side.
    assert of_region.flags.f_contiguous
    return zscores(of_region)


def design(design_file: Path) -> tuple[list[int], list[list[int]], list[int]]:
    """Return masterordering, subjectim and sharedix with the file's own counting from 1."""
    variables = scipy.io.loadmat(design_file)
    ordering = [int(number) for number in variables["masterordering"][0]]
    subject_images = [[int(number) for number in row] for row in variables["subjectim"]]
    return ordering, subject_images, [int(number) for number in variables["sharedix"][0]]


def shared_trials(
    masterordering: Sequence[int],
    subjectim: Sequence[Sequence[int]],
    sharedix: Sequence[int],
    subject: int,
    n_sessions: int,
    trials_per_session: int,
) -> list[dict[str, int]]:
    """Return a subject's trials of shared images, by looking at one trial after the other."""
    seen: dict[int, int] = {}
    rows = []
    global_trial = 0
    for session in range(1, n_sessions + 1):
        for trial_in_session in range(trials_per_session):
            id_73k = subjectim[subject - 1][masterordering[global_trial] - 1]
            if id_73k in sharedix:
                rows.append(
                    {
                        "subject": subject,
                        "nsd_id": id_73k - 1,
                        "repetition": seen.get(id_73k, 0),
                        "session": session,
                        "trial_in_session": trial_in_session,
                        "global_trial": global_trial,
                    }
                )
            seen[id_73k] = seen.get(id_73k, 0) + 1
            global_trial += 1
    return rows


def usable_images(rows: Sequence[dict[str, int]], subjects: Sequence[int]) -> list[int]:
    """Return the nsd_ids (0-based) that every subject saw three times, ascending."""
    usable = []
    for nsd_id in sorted({row["nsd_id"] for row in rows}):
        times = [
            sum(row["nsd_id"] == nsd_id and row["subject"] == subject for row in rows)
            for subject in subjects
        ]
        if times == [3] * len(subjects):
            usable.append(nsd_id)
    return usable


def responses(
    small: Any,
    subject: int,
    volume: str,
    labels: Sequence[int],
    nsd_ids: Sequence[int],
    dtype: type[np.floating] = np.float32,
) -> np.ndarray:
    """Return a region's responses (n_images, 3, n_voxels) of a `small_nsd.SmallNSD`."""
    mask = region_mask(small.roi_path(subject, volume), labels)
    rows = shared_trials(
        *design(small.design_path),
        subject,
        small.sessions[subject],
        small.trials_per_session,
    )
    filled = np.full((len(nsd_ids), 3, int(mask.sum())), np.nan, dtype=dtype)
    for session in range(1, small.sessions[subject] + 1):
        z = session_zscores(small.betas_path(subject, session), mask, dtype)
        for row in rows:
            if row["session"] == session and row["nsd_id"] in nsd_ids:
                image = list(nsd_ids).index(row["nsd_id"])
                filled[image, row["repetition"]] = z[row["trial_in_session"]]
    assert not np.isnan(filled).any()
    return filled
