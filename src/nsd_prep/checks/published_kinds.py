"""Kinds of checks against published numbers, what of NSD these hold for, and the comparison."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nsd_prep.checks import published_statistics as statistics
from nsd_prep.core.check import Check, Kind, Threshold, Verdict
from nsd_prep.dataset import published
from nsd_prep.dataset.published import DEFAULT_PREPARATION, PREPARATION_FOLDERS
from nsd_prep.dataset.space import FUNC1PT8MM

_AS_PUBLISHED: Final = "As published for the real dataset."
_SOURCE: Final = "`published_statistics.py`"
#: Reason of what differs in a region whose labels are not those that are distributed now.
OLDER_RELEASE: Final = "older release"


def _kind(
    name: str,
    scope: str,
    measures: str,
    unit: str,
    tolerance: float = 0,
    *,
    of_any_betas: bool = False,
    relative: bool = False,
    with_it: bool = False,
    older_release: bool = False,
    value: str = "{measured:.4g}",
) -> Kind:
    """Return a kind of check that compares a number with the one published."""
    number = f"{tolerance:.1%}" if relative else f"{tolerance:g}"
    outside = f"differs by more than {number}" if tolerance else "differs"
    conditions: dict[Verdict, str] = {"failed": f"{outside} (b3)"}
    if of_any_betas:
        conditions = {"failed": outside}
        if older_release:
            conditions["suspicious"] = "that of an older release of the labels"
    else:
        conditions["not decidable"] = f"{outside}, where the preparation is unknown"
        if with_it:
            conditions["not decidable"] += "; always where IT is involved"
    return Kind(
        name=name,
        scope=scope,
        measures=f"{measures}; NSD only",
        conditions={**conditions, "passed": "as published"},
        value=value,
        expectation="{expected}",
        unit=unit,
        meanings={
            "passed": _AS_PUBLISHED,
            "failed": "The mask, ncsnr or release of the data is not the published one.",
            "not decidable": "The flat layout does not name its preparation; this number is "
            "published for b3.",
            OLDER_RELEASE: "The labels are those of an older release (2020-21): they are sound, "
            "but the published numbers rest on newer ones; download the labels "
            "again to reproduce them.",
            "another IT": "The published number most likely rests on nine parcels of HCP_MMP1 as "
            "IT.",
        },
        thresholds=(Threshold("tolerance", tolerance, _SOURCE),) if tolerance else (),
    )


PUBLISHED_VOXEL_COUNT: Final = _kind(
    "published voxel count",
    "subject, region",
    "voxels of the mask",
    "{sites}",
    of_any_betas=True,
    older_release=True,
    value="{measured:.0f}",
)
PUBLISHED_MEDIAN_NOISE_CEILING: Final = _kind(
    "published median noise ceiling",
    "subject, region",
    "median noise ceiling",
    "%",
    statistics.NOISE_CEILING_TOLERANCE,
)
PUBLISHED_MEAN_NOISE_CEILING: Final = _kind(
    "published mean noise ceiling",
    "region",
    "mean of the eight subjects' median noise ceilings",
    "%",
    published.MEAN_MEDIAN_NOISE_CEILING_TOLERANCE,
)
PUBLISHED_POOLED_NOISE_CEILING: Final = _kind(
    "published pooled noise ceiling",
    "region",
    "median noise ceiling over all subjects' voxels",
    "%",
    statistics.NOISE_CEILING_TOLERANCE,
)
PUBLISHED_RELIABLE_VOXELS: Final = _kind(
    "published reliable voxels",
    "region",
    f"voxels with a noise ceiling above {published.RELIABLE_NOISE_CEILING:g} %",
    "{sites}",
    statistics.RELIABLE_VOXELS_TOLERANCE,
    relative=True,
)
PUBLISHED_HIGHEST_NOISE_CEILING: Final = _kind(
    "published highest noise ceiling",
    "region",
    "highest noise ceiling",
    "%",
    statistics.NOISE_CEILING_TOLERANCE,
)
PUBLISHED_IMAGE_COUNT: Final = _kind(
    "published image count",
    "run",
    "images that all subjects saw three times",
    "images",
    of_any_betas=True,
    value="{measured:.0f}",
)
PUBLISHED_RDM_DEVIATION: Final = _kind(
    "published RDM deviation",
    "region",
    "standard deviation of the mean RDM",
    "1 - r",
    statistics.RDM_TOLERANCE,
    with_it=True,
)
PUBLISHED_SUBJECT_CORRELATION: Final = _kind(
    "published correlation between subjects",
    "region",
    "mean r of two subjects' RDMs",
    "r",
    statistics.RDM_TOLERANCE,
    with_it=True,
)
PUBLISHED_REGION_CORRELATION: Final = _kind(
    "published correlation between regions",
    "two regions",
    "r of their mean RDMs",
    "r",
    statistics.RDM_TOLERANCE,
    with_it=True,
)
PUBLISHED_CELLS_WITHOUT_DATA: Final = _kind(
    "published cells without data",
    "region",
    "responses to an image that are NaN, on fsaverage, of all subjects and 515 images",
    "cells",
    value="{measured:.0f}",
)
PUBLISHED_REPETITIONS: Final = Kind(
    name="published repetitions",
    scope="subject",
    measures="shared images seen 3, 2, 1 and 0 times; NSD only, of subjects whose sessions are all "
    "there",
    conditions={"failed": "differs", "passed": "as published"},
    value="{counts}",
    expectation="{expected} shared images seen 3, 2, 1, 0 times",
    unit="images seen 3 times",
    meanings={"passed": _AS_PUBLISHED, "failed": "The design is not the published one."},
)
PUBLISHED_SPLITS: Final = Kind(
    name="published sizes of splits",
    scope="subject, split",
    measures="images for training and testing in `shared1000_37` and `algonauts2023`; NSD only, of "
    "subjects whose sessions are all there",
    conditions={"failed": "differs", "passed": "as published"},
    value="{split}: {counts}",
    expectation="{expected} images for training and for testing",
    unit="images for testing",
    meanings={"passed": _AS_PUBLISHED, "failed": "The design is not the published one."},
)
PUBLISHED_WEAKEST_SUBJECT: Final = Kind(
    name="published weakest subject",
    scope="region",
    measures="the subject whose RDM agrees least with the others'; NSD only",
    conditions={"not decidable": "always: it is shown without a verdict"},
    value="{weakest}",
    expectation=f"subj{statistics.WEAKEST_SUBJECT:02d} over all regions; shown without a verdict",
    meanings={
        "not decidable": "The subject whose RDM agrees least with the others'; one other than the "
        "published is no fault."
    },
)


@dataclass(frozen=True)
class Scope:
    """What of NSD a run read: published numbers hold for some of it.

    Attributes
    ----------
    preparation : str
        Folder of the betas, as `Dataset.preparation`; empty where it is unknown (flat layout).
    sessions : mapping of int to int
        For each of the run's subjects (1-based, in the order of the neuroids), how many sessions.
    space : str
        Where responses lie; of func1pt8mm and fsaverage there are published numbers.
    """

    preparation: str
    sessions: Mapping[int, int]
    space: str = FUNC1PT8MM

    @property
    def is_published(self) -> bool | None:
        """Whether the betas are b3, of which noise ceilings are published; None if unknown."""
        if not self.preparation:
            return None
        return self.preparation == PREPARATION_FOLDERS[DEFAULT_PREPARATION]

    @property
    def has_all_sessions(self) -> bool:
        """Whether every subject's released sessions were read, all of them."""
        return all(
            number == published.SESSION_COUNTS[subject] for subject, number in self.sessions.items()
        )

    @property
    def has_all_subjects(self) -> bool:
        """Whether these are the eight subjects."""
        return set(self.sessions) == set(published.SUBJECTS)


def compared(
    kind: Kind,
    value: float,
    expected: float,
    tolerance: float,
    applies: bool | None,
    *,
    region: str = "",
    subject: str = "",
    data: str = "",
) -> Check:
    """Compare a number; where it is not known whether it applies, a difference says nothing."""
    # Rounding of the decimal numbers must not decide at the tolerance's edge.
    same = bool(abs(value - expected) <= tolerance + 1e-9)
    return kind.check(
        True if same else False if applies else None,
        region=region,
        subject=subject,
        data=data,
        measured=value,
        lower=expected - tolerance,
        upper=expected + tolerance,
        expected=f"{expected:g}" + (f" within {tolerance:.3g}" if tolerance else ""),
    )
