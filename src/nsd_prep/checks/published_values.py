"""NSD itself must reproduce what is published of it: of the preparation, sessions and subjects."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.checks import published_statistics as statistics
from nsd_prep.checks.region_order import ORDER_OF_REGION_PAIRS, RegionOrder
from nsd_prep.checks.subject_agreement import SubjectAgreement
from nsd_prep.core.check import Check, check
from nsd_prep.dataset import published
from nsd_prep.dataset.published import DEFAULT_PREPARATION, PREPARATION_FOLDERS

_DIFFERENT = "Another mask, ncsnr or release of the data than what is published."
_AS_PUBLISHED = "As published of the real dataset."
_OLDER_RELEASE = (
    "The labels are those of an older release (2020-21): they are sound, and not those of which "
    "numbers are published; download the labels again to reproduce these."
)
#: Name of a check.
VOXEL_COUNT = "published voxel count"
_UNKNOWN_COUNT = "another number in the labels that are distributed now"
_UNKNOWN = "The flat layout does not name its preparation; this number is published of b3."


@dataclass(frozen=True)
class Scope:
    """What of NSD a run read: published numbers hold for some of it.

    Attributes
    ----------
    preparation : str
        Folder of the betas, as `Dataset.preparation`; empty where it is unknown (flat layout).
    sessions : mapping of int to int
        For each of the run's subjects (1-based, in the order of the neuroids), how many sessions.
    """

    preparation: str
    sessions: Mapping[int, int]

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
            number == published.SESSIONS[subject] for subject, number in self.sessions.items()
        )

    @property
    def has_all_subjects(self) -> bool:
        """Whether these are the eight subjects."""
        return set(self.sessions) == set(published.SUBJECTS)


def check_published_region(region: str, voxels: pd.DataFrame, scope: Scope) -> list[Check]:
    """Compare voxel counts and noise ceilings of a region of NSD with those published.

    Parameters
    ----------
    region : str
        Its name; regions about which nothing is published give no checks.
    voxels : DataFrame
        The region's rows of the voxel table, before any voxel was dropped: subject ("subj01") and
        noise_ceiling (percent).
    scope : Scope
        What was read.

    Returns
    -------
    list of Check
        Voxel counts of each subject, whatever the betas; where one is that of an older release of
        the labels, what differs in the region is suspicious. Noise ceilings where the betas are b3
        (without a verdict that they are wrong where the preparation is unknown): the median of
        each subject; with all eight also the mean of their medians, the pooled median, the number
        of reliable voxels and the highest.
    """
    by_subject = voxels.groupby("subject", sort=False)["noise_ceiling"]
    named, region = region, statistics.PUBLISHED_AS.get(region, region)
    found = []
    is_older = False
    for position, subject in enumerate(published.SUBJECTS):
        name = f"subj{subject:02d}"
        number = int((voxels["subject"] == name).sum())
        if subject in scope.sessions:
            expected = statistics.voxel_count(region, subject)
            older = statistics.is_older_release(region, subject, number)
            is_older |= older
            if older and expected is None:
                where = f"{named}, {name}"
                found.append(check(VOXEL_COUNT, where, number, _UNKNOWN_COUNT, False, ""))
            elif expected is not None:
                where = f"{named}, {name}"
                found.append(_compared(VOXEL_COUNT, where, number, expected, 0, True))
        if region in statistics.MEDIAN_NOISE_CEILING and name in by_subject.groups:
            median = float(by_subject.get_group(name).median())
            expected_median = statistics.MEDIAN_NOISE_CEILING[region][position]
            found.append(
                _compared(
                    "published median noise ceiling",
                    f"{named}, {name}",
                    median,
                    expected_median,
                    statistics.NOISE_CEILING_TOLERANCE,
                    scope.is_published,
                )
            )
    ceilings = voxels["noise_ceiling"].to_numpy()
    if set(scope.sessions) == set(statistics.FOUR_SUBJECTS) and len(ceilings):
        expected_pooled = statistics.POOLED_MEDIAN_NOISE_CEILING_OF_FOUR.get(region)
        if expected_pooled is not None:
            found.append(
                _compared(
                    "published pooled noise ceiling",
                    named,
                    float(np.median(ceilings)),
                    expected_pooled,
                    statistics.NOISE_CEILING_TOLERANCE,
                    scope.is_published,
                )
            )
    if scope.has_all_subjects and len(ceilings):
        reliable = float(np.count_nonzero(ceilings > published.RELIABLE_NOISE_CEILING))
        of_voxels = statistics.NOISE_CEILING_TOLERANCE
        table: tuple[tuple[str, Mapping[str, float], float, float], ...] = (
            (
                "published mean noise ceiling",
                published.MEAN_MEDIAN_NOISE_CEILING,
                float(by_subject.median().mean()),
                published.MEAN_MEDIAN_NOISE_CEILING_TOLERANCE,
            ),
            (
                "published pooled noise ceiling",
                statistics.POOLED_MEDIAN_NOISE_CEILING,
                float(np.median(ceilings)),
                of_voxels,
            ),
            (
                "published reliable voxels",
                statistics.RELIABLE_VOXELS,
                reliable,
                statistics.RELIABLE_VOXELS_TOLERANCE * statistics.RELIABLE_VOXELS.get(region, 0),
            ),
            (
                "published highest noise ceiling",
                statistics.HIGHEST_NOISE_CEILING,
                float(ceilings.max()),
                of_voxels,
            ),
        )
        found += [
            _compared(name, named, value, numbers[region], tolerance, scope.is_published)
            for name, numbers, value, tolerance in table
            if region in numbers
        ]
        if region in statistics.VOXELS_OF_ALL:
            in_all = statistics.VOXELS_OF_ALL[region]
            found.append(_compared(VOXEL_COUNT, named, len(voxels), in_all, 0, True))
    return [
        replace(one, verdict="suspicious", meaning=_OLDER_RELEASE)
        if is_older and one.verdict == "failed"
        else one
        for one in found
        if scope.is_published is not False or one.name == VOXEL_COUNT
    ]


def check_published_repetitions(counts: pd.DataFrame, n_images: int, scope: Scope) -> list[Check]:
    """Compare the repetitions of NSD itself with those published.

    Parameters
    ----------
    counts : DataFrame
        As `nsd_prep.dataset.trials.repetition_counts` gives it.
    n_images : int
        Usable images of the run.
    scope : Scope
        What was read.

    Returns
    -------
    list of Check
        One for each subject whose sessions are all there, and one for the images where all
        subjects' are.
    """
    found = []
    for subject, sessions in scope.sessions.items():
        if sessions != published.SESSIONS[subject]:
            continue
        number = tuple(int(count) for count in counts.loc[subject])
        expected = published.REPETITION_COUNTS[subject]
        same = number == expected
        found.append(
            check(
                "published repetitions",
                f"subj{subject:02d}",
                number,
                f"{expected} shared images seen 3, 2, 1, 0 times",
                same,
                _AS_PUBLISHED if same else "The design is not the published one.",
            )
        )
    if scope.has_all_sessions and scope.sessions:
        # Subjects 4 and 8 saw fewest, and the same sessions: with either, all share 515 images.
        fewest = min(published.REPETITION_COUNTS[subject][0] for subject in scope.sessions)
        found.append(_compared("published image count", "", n_images, fewest, 0, True))
    return found


def check_published_rdms(
    mean_rdms: Mapping[str, NDArray[np.floating]],
    agreements: Mapping[str, SubjectAgreement],
    order: RegionOrder | None,
    scope: Scope,
) -> list[Check]:
    """Compare the RDMs of NSD with what is published.

    Parameters
    ----------
    mean_rdms : mapping of str to ndarray of float, shape (n_images, n_images)
        Mean over subjects, by region.
    agreements : mapping of str to SubjectAgreement
        By region, of all eight subjects in order.
    order : RegionOrder, optional
        Of the four regions, where all are there.
    scope : Scope
        What was read.

    Returns
    -------
    list of Check
        None unless all eight subjects' sessions of b3 (or of an unknown preparation) were read, in
        order, and the images are the 515. Those that involve IT have no verdict.
    """
    n_images = {len(rdm) for rdm in mean_rdms.values()}
    if (
        scope.is_published is False
        or tuple(scope.sessions) != published.SUBJECTS
        or not scope.has_all_sessions
        or n_images != {statistics.RDM_IMAGES}
    ):
        return []
    numbers: list[tuple[str, Iterable[str], float, float]] = [
        (
            "published RDM deviation",
            [region],
            float(np.asarray(rdm, np.float64)[np.triu_indices(len(rdm), 1)].std()),
            statistics.RDM_DEVIATION[region],
        )
        for region, rdm in mean_rdms.items()
        if region in statistics.RDM_DEVIATION
    ]
    numbers += [
        (
            "published correlation between subjects",
            [region],
            agreement.mean,
            statistics.SUBJECT_CORRELATION[region],
        )
        for region, agreement in agreements.items()
        if region in statistics.SUBJECT_CORRELATION
    ]
    if order is not None:
        numbers += [
            (
                "published correlation between regions",
                pair,
                float(value),
                statistics.REGION_CORRELATION[pair],
            )
            for pair, value in zip(ORDER_OF_REGION_PAIRS, order.correlations, strict=True)
        ]
    found = []
    for name, regions, value, expected in numbers:
        where = "-".join(regions)
        if statistics.REGIONS_WITHOUT_VERDICT.isdisjoint(regions):
            tolerance = statistics.RDM_TOLERANCE
            found.append(_compared(name, where, value, expected, tolerance, scope.is_published))
        else:
            found.append(
                check(
                    name,
                    where,
                    value,
                    f"{expected:g} with another definition of IT; shown without a verdict",
                    None,
                    "The published number was most likely made with nine parcels of HCP_MMP1 as "
                    "IT.",
                )
            )
    for region, agreement in agreements.items():
        if region in statistics.SUBJECT_CORRELATION:
            weakest = published.SUBJECTS[int(np.argmin(agreement.with_others))]
            found.append(
                check(
                    "published weakest subject",
                    region,
                    f"subj{weakest:02d}",
                    f"subj{statistics.WEAKEST_SUBJECT:02d} over all regions; shown without a "
                    "verdict",
                    None,
                    "The subject whose RDM agrees least with the others'.",
                )
            )
    return found


def _compared(
    name: str,
    where: str,
    value: float,
    expected: float,
    tolerance: float,
    applies: bool | None,
) -> Check:
    """Compare a number; where it is not known whether it applies, a difference says nothing."""
    # Rounding of the decimal numbers must not decide at the tolerance's edge.
    same = bool(abs(value - expected) <= tolerance + 1e-9)
    return check(
        name,
        where,
        value,
        f"{expected:g}" + (f" within {tolerance:.3g}" if tolerance else ""),
        True if same else False if applies else None,
        _AS_PUBLISHED if same else _DIFFERENT if applies else _UNKNOWN,
    )
