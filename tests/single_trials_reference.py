"""Single trials written plainly: loops over the files of a `small_nsd.SmallNSD`.

It shares nothing with the library: whole volumes, then masks, and one trial after the other.
"""

from typing import Any

import numpy as np
from small_nsd import SmallNSD

#: ROI volume and labels of the regions that the tests use.
REGIONS = {
    "V1": ("prf-visualrois", (1, 2)),
    "IT": ("streams", (5,)),
    "nsdgeneral": ("nsdgeneral", (1,)),
}


def voxels(small: SmallNSD, subject: int) -> list[dict[str, Any]]:
    """Return a row for each voxel of the union, in the C order of the reversed volume."""
    rows = []
    n_i, n_j, n_k = small.ncsnr[subject].shape
    for k in range(n_k):
        for j in range(n_j):
            for i in range(n_i):
                member = {
                    name: small.labels[subject, volume][i, j, k] in labels
                    for name, (volume, labels) in REGIONS.items()
                }
                if any(member.values()):
                    ncsnr = float(small.ncsnr[subject][i, j, k])
                    rows.append({"ijk": (i, j, k), "ncsnr": ncsnr, "in": member})
    return rows


def trials(small: SmallNSD, subject: int) -> list[dict[str, Any]]:
    """Return a row for each trial, by looking at one trial after the other."""
    seen: dict[int, int] = {}
    rows = []
    for trial in range(small.sessions[subject] * small.trials_per_session):
        id_73k = small.subjectim[subject - 1][small.masterordering[trial] - 1]
        rows.append(
            {
                "trial": trial,
                "nsd_id": id_73k - 1,
                "coco_id": 1000 + id_73k - 1,
                "session": trial // small.trials_per_session + 1,
                "trial_in_session": trial % small.trials_per_session,
                "repetition": seen.get(id_73k, 0),
                "is_shared": id_73k in small.sharedix,
            }
        )
        seen[id_73k] = seen.get(id_73k, 0) + 1
    return rows


def seen_three_times(small: SmallNSD, subjects: list[int]) -> list[int]:
    """Return the nsd_ids of shared images that each of some subjects saw exactly three times."""
    times = {
        subject: [row["nsd_id"] for row in trials(small, subject) if row["is_shared"]]
        for subject in subjects
    }
    return [
        id_73k - 1
        for id_73k in small.sharedix
        if all(times[subject].count(id_73k - 1) == 3 for subject in subjects)
    ]


def responses(
    small: SmallNSD, subject: int, normalisation: str, training_ids: set[int] | None = None
) -> np.ndarray:
    """Return the responses (n_trials, n_voxels), voxel by voxel and session by session."""
    places = [row["ijk"] for row in voxels(small, subject)]
    table = trials(small, subject)
    n = small.trials_per_session
    filled = np.full((len(table), len(places)), np.nan, dtype=np.float32)
    for session in range(1, small.sessions[subject] + 1):
        first = (session - 1) * n
        training = [row["nsd_id"] in (training_ids or set()) for row in table[first : first + n]]
        for column, (i, j, k) in enumerate(places):
            x = small.betas[subject, session][:, i, j, k].astype(np.float32) / np.float32(300)
            if normalisation == "none":
                filled[first : first + n, column] = x
                continue
            base = x if normalisation == "session" else x[training]
            if (base == base[0]).all():
                filled[first : first + n, column] = 0
            else:
                filled[first : first + n, column] = (x - base.mean()) / base.std()
    assert not np.isnan(filled).any()
    return filled
