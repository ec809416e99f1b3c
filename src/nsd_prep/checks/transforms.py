"""Does a subject's transform to fsaverage lead where it should? The ncsnr of both surfaces tell."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.check import Check, Kind, Threshold, Verdict
from nsd_prep.dataset.space import HEMISPHERES, SurfaceSpace

#: Correlation of the ncsnr of both surfaces above which they are the same, and below which not.
SAME: Final = 0.9
OTHER: Final = 0.5
#: Vertices with an ncsnr in both below which nothing is decided.
FEWEST_VERTICES: Final = 50

TRANSFORM: Final = Kind(
    name="transform to fsaverage",
    scope="subject, hemisphere, on fsaverage from the native surface",
    measures="correlation over vertices of fsaverage's ncsnr with the native surface's, taken "
    "through the transform",
    conditions={
        "failed": f"below {OTHER:g}",
        "suspicious": f"below {SAME:g}",
        "not decidable": f"fewer than {FEWEST_VERTICES} vertices, or no ncsnr of the native "
        "surface",
        "passed": f"at least {SAME:g}",
    },
    value="r = {measured:.3f} over {n_vertices} vertices",
    expectation=f"r of at least {SAME:g}",
    lower=SAME,
    unit="r",
    meanings={
        "passed": "Fsaverage's vertices are those of the subject's surface that the transform "
        "names.",
        "failed": "The transform is of another hemisphere or subject, or is not counted from 1: "
        "download both transforms again.",
        "suspicious": "The transform or one of the two ncsnr files is of another release.",
        "not decidable": "The ncsnr of the native surface is missing, or covers too few vertices.",
    },
    thresholds=(
        Threshold("r of the same vertices", SAME, "nearest neighbours are equal"),
        Threshold("r of others", OTHER, "others are unrelated"),
        Threshold("fewest vertices", FEWEST_VERTICES, "fewer may agree by chance"),
    ),
)


def check_transform(
    subject: int,
    space: SurfaceSpace,
    ncsnr: NDArray[np.float32],
    through: NDArray[np.float32] | None,
) -> list[Check]:
    """Check that a subject's transforms lead to the vertices that fsaverage's values come from.

    Parameters
    ----------
    subject : int
        1-based.
    space : SurfaceSpace
        Of fsaverage.
    ncsnr : ndarray of float32, shape (n_sites,)
        Of fsaverage's own file.
    through : ndarray of float32, shape (n_sites,), or None
        Of the native surface, through the transforms; None where it is not there.

    Returns
    -------
    list of Check
        One for each hemisphere.
    """
    checks = []
    for hemisphere in HEMISPHERES:
        first, stop = space.hemisphere_sites(hemisphere)
        own = ncsnr[first:stop].astype(np.float64)
        other = np.full_like(own, np.nan) if through is None else through[first:stop]
        used = np.isfinite(own) & np.isfinite(other)
        n_vertices = int(np.count_nonzero(used))
        r = float("nan")
        if n_vertices >= FEWEST_VERTICES and own[used].std() > 0 and other[used].std() > 0:
            r = float(np.corrcoef(own[used], other[used])[0, 1])
        verdict: Verdict = "not decidable"
        if np.isfinite(r):
            verdict = "passed" if r >= SAME else "suspicious" if r >= OTHER else "failed"
        checks.append(
            TRANSFORM.check(
                verdict,
                subject=f"subj{subject:02d}",
                data=hemisphere,
                measured=r,
                n_vertices=n_vertices,
            )
        )
    return checks
