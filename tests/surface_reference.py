"""The reference on surfaces: whole files, then the vertices, and plain loops over trials.

Written from the definitions of the formats and of the published processing alone; it uses nothing
of the library.
"""

import warnings
from collections.abc import Sequence

import h5py
import nibabel
import numpy as np
import reference
from small_surfaces import SIDES, SmallSurfaces

#: Atlas and labels of regions in each space.
REGIONS = {
    "fsaverage": {
        "V1": ("Kastner2015", (1, 2)),
        "V2": ("Kastner2015", (3, 4)),
        "V4": ("Kastner2015", (7,)),
        "IT": ("streams", (5,)),
    },
    "nativesurface": {
        "V1": ("prf-visualrois", (1, 2)),
        "V2": ("prf-visualrois", (3, 4)),
        "V4": ("prf-visualrois", (7,)),
        "IT": ("streams", (5,)),
    },
}


def vertices(
    surfaces: SmallSurfaces, space: str, subject: int, region: str
) -> list[tuple[str, int]]:
    """Return hemisphere and vertex (0-based) of a region's neuroids, in order."""
    atlas, labels = REGIONS[space][region]
    found = []
    for side in SIDES:
        file = surfaces.label_file(0 if space == "fsaverage" else subject, atlas, side)
        values = np.asarray(nibabel.load(file).dataobj).ravel()
        found += [(side, int(vertex)) for vertex in np.flatnonzero(np.isin(values, labels))]
    return found


def session_betas(
    surfaces: SmallSurfaces, space: str, files: str, subject: int, session: int, side: str
) -> np.ndarray:
    """Return all betas of a hemisphere, float64 percent signal change, (n_trials, V)."""
    if files == "mgh":
        image = nibabel.load(surfaces.mgh_file(subject, session, side))
        return np.asarray(image.dataobj)[:, 0, 0, :].T.astype(np.float64)
    with h5py.File(surfaces.native_file(subject, session, side)) as file:
        stored = file["betas"][:]
    values = stored / 300
    values[:, ~stored.any(axis=0)] = np.nan
    if space == "nativesurface":
        return values
    image = nibabel.load(surfaces.transform(subject, "white-to-fsaverage", side))
    return values[:, np.asarray(image.dataobj).ravel().astype(int) - 1]


def zscores(values: np.ndarray) -> np.ndarray:
    """Z-score (n_trials, n) over trials in float64, as float32; a constant vertex gives 0."""
    # The last bits of the sums depend on it: each vertex's trials lie side by side.
    assert values.flags.f_contiguous
    deviation = values.std(axis=0)
    constant = (values == values[0]).all(axis=0)
    deviation[constant | (deviation == 0)] = 1
    z = (values - values.mean(axis=0)) / deviation
    z[:, constant] = 0
    return z.astype(np.float32)


def responses(
    surfaces: SmallSurfaces,
    space: str,
    files: str,
    subject: int,
    region: str,
    nsd_ids: Sequence[int],
) -> np.ndarray:
    """Return a region's z-scores, float32 (n_images, 3, n_vertices); NaN without data."""
    small = surfaces.small
    rows = reference.shared_trials(
        *reference.design(small.design_path),
        subject,
        small.sessions[subject],
        small.trials_per_session,
    )
    places = vertices(surfaces, space, subject, region)
    filled = np.full((len(nsd_ids), 3, len(places)), np.inf, dtype=np.float32)
    for session in range(1, small.sessions[subject] + 1):
        z = np.concatenate(
            [
                zscores(
                    session_betas(surfaces, space, files, subject, session, side)[
                        :, [vertex for own, vertex in places if own == side]
                    ]
                )
                for side in SIDES
            ],
            axis=1,
        )
        for row in rows:
            if row["session"] == session and row["nsd_id"] in nsd_ids:
                image = list(nsd_ids).index(row["nsd_id"])
                filled[image, row["repetition"]] = z[row["trial_in_session"]]
    assert not np.isinf(filled).any()
    return filled


def averages(filled: np.ndarray) -> np.ndarray:
    """Average repetitions (n_images, 3, n) in float32; those without data are left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(filled, axis=1)


def packaged(filled: np.ndarray, is_train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return train rows and test rows of a region, z-scored over all images; 0 without data."""
    mean_rows = averages(filled)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mean, deviation = np.nanmean(mean_rows, axis=0), np.nanstd(mean_rows, axis=0)
    deviation[deviation == 0] = 1
    train = (mean_rows[is_train] - mean) / deviation
    test = np.array([(row - mean) / deviation for image in filled[~is_train] for row in image])
    return np.nan_to_num(train, nan=0.0), np.nan_to_num(test, nan=0.0)
