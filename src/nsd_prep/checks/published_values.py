"""NSD itself must reproduce what is published of it: of the preparation, sessions and subjects."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.checks import published_statistics as statistics
from nsd_prep.checks.region_order import ORDER_OF_REGION_PAIRS, RegionOrder
from nsd_prep.checks.subject_agreement import SubjectAgreement
from nsd_prep.core.check import Check, Kind, Threshold, Verdict
from nsd_prep.dataset import published
from nsd_prep.dataset.published import DEFAULT_PREPARATION, PREPARATION_FOLDERS
from nsd_prep.dataset.space import FSAVERAGE, FUNC1PT8MM, HEMISPHERES
from nsd_prep.dataset.splits import TEST, TRAIN

_AS_PUBLISHED: Final = "As published for the real dataset."
_SOURCE: Final = "`published_statistics.py`"
#: Reason of what differs in a region whose labels are not those that are distributed now.
_OLDER_RELEASE: Final = "older release"
_UNKNOWN_COUNT: Final = "another number in the labels that are distributed now"


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
            _OLDER_RELEASE: "The labels are those of an older release (2020-21): they are sound, "
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
    "voxels",
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
    "voxels",
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
    meanings={"not decidable": "The subject whose RDM agrees least with the others'."},
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
    if scope.space == FSAVERAGE:
        return _check_region_of_fsaverage(region, voxels, scope)
    if scope.space != FUNC1PT8MM:
        return []
    by_subject = voxels.groupby("subject", sort=False)["noise_ceiling"]
    named, region = region, statistics.PUBLISHED_AS.get(region, region)
    checks = []
    is_older = False
    for position, subject in enumerate(published.SUBJECTS):
        name = f"subj{subject:02d}"
        if subject in scope.sessions:
            number = int((voxels["subject"] == name).sum())
            expected = statistics.voxel_count(region, subject)
            older = statistics.is_older_release(region, subject, number)
            is_older |= older
            if older and expected is None:
                checks.append(
                    PUBLISHED_VOXEL_COUNT.check(
                        False, region=named, subject=name, measured=number, expected=_UNKNOWN_COUNT
                    )
                )
            elif expected is not None:
                checks.append(
                    _compared(
                        PUBLISHED_VOXEL_COUNT, number, expected, 0, True, region=named, subject=name
                    )
                )
        if region in statistics.MEDIAN_NOISE_CEILING and name in by_subject.groups:
            median = float(by_subject.get_group(name).median())
            expected_median = statistics.MEDIAN_NOISE_CEILING[region][position]
            checks.append(
                _compared(
                    PUBLISHED_MEDIAN_NOISE_CEILING,
                    median,
                    expected_median,
                    statistics.NOISE_CEILING_TOLERANCE,
                    scope.is_published,
                    region=named,
                    subject=name,
                )
            )
    ceilings = voxels["noise_ceiling"].to_numpy()
    if set(scope.sessions) == set(statistics.FOUR_SUBJECTS) and len(ceilings):
        expected_pooled = statistics.POOLED_MEDIAN_NOISE_CEILING_OF_FOUR.get(region)
        if expected_pooled is not None:
            checks.append(
                _compared(
                    PUBLISHED_POOLED_NOISE_CEILING,
                    float(np.median(ceilings)),
                    expected_pooled,
                    statistics.NOISE_CEILING_TOLERANCE,
                    scope.is_published,
                    region=named,
                )
            )
    if scope.has_all_subjects and len(ceilings):
        reliable = float(np.count_nonzero(ceilings > published.RELIABLE_NOISE_CEILING))
        of_voxels = statistics.NOISE_CEILING_TOLERANCE
        table: tuple[tuple[Kind, Mapping[str, float], float, float], ...] = (
            (
                PUBLISHED_MEAN_NOISE_CEILING,
                published.MEAN_MEDIAN_NOISE_CEILING,
                float(by_subject.median().mean()),
                published.MEAN_MEDIAN_NOISE_CEILING_TOLERANCE,
            ),
            (
                PUBLISHED_POOLED_NOISE_CEILING,
                statistics.POOLED_MEDIAN_NOISE_CEILING,
                float(np.median(ceilings)),
                of_voxels,
            ),
            (
                PUBLISHED_RELIABLE_VOXELS,
                statistics.RELIABLE_VOXELS,
                reliable,
                statistics.RELIABLE_VOXELS_TOLERANCE * statistics.RELIABLE_VOXELS.get(region, 0),
            ),
            (
                PUBLISHED_HIGHEST_NOISE_CEILING,
                statistics.HIGHEST_NOISE_CEILING,
                float(ceilings.max()),
                of_voxels,
            ),
        )
        checks += [
            _compared(kind, value, numbers[region], tolerance, scope.is_published, region=named)
            for kind, numbers, value, tolerance in table
            if region in numbers
        ]
        if region in statistics.VOXELS_OF_ALL:
            in_all = statistics.VOXELS_OF_ALL[region]
            checks.append(
                _compared(PUBLISHED_VOXEL_COUNT, len(voxels), in_all, 0, True, region=named)
            )
    return [
        replace(check, verdict="suspicious", reason=_OLDER_RELEASE)
        if is_older and check.verdict == "failed"
        else check
        for check in checks
        if scope.is_published is not False or check.name == PUBLISHED_VOXEL_COUNT.name
    ]


def _check_region_of_fsaverage(region: str, voxels: pd.DataFrame, scope: Scope) -> list[Check]:
    """Compare vertices and noise ceilings with the published assemblies on fsaverage.

    Vertices of each subject, whatever the betas; where the betas are b3, and the subjects all eight
    or those who saw all shared images three times, the pooled median and the number of reliable
    ones.
    """
    named, region = region, statistics.PUBLISHED_AS.get(region, region)
    checks = []
    for subject in scope.sessions:
        name = f"subj{subject:02d}"
        own = voxels.loc[voxels["subject"] == name, "hemisphere"]
        sizes = {"": published.FSAVERAGE_REGION_SIZES.get(region)}
        sides = published.FSAVERAGE_REGION_VERTICES.get(region, (None, None))
        sizes |= dict(zip(HEMISPHERES, sides, strict=True))
        checks += [
            _compared(
                PUBLISHED_VOXEL_COUNT,
                int((own == side).sum()) if side else len(own),
                expected,
                0,
                True,
                region=named,
                subject=name,
                data=side,
            )
            for side, expected in sizes.items()
            if expected is not None
        ]
    medians, reliable = {
        published.SUBJECTS: (
            statistics.SURFACE_MEDIAN_NOISE_CEILING,
            statistics.SURFACE_RELIABLE_VERTICES,
        ),
        statistics.FOUR_SUBJECTS: (
            statistics.SURFACE_MEDIAN_NOISE_CEILING_OF_FOUR,
            statistics.SURFACE_RELIABLE_VERTICES_OF_FOUR,
        ),
    }.get(tuple(sorted(scope.sessions)), ({}, {}))
    if scope.is_published is False or region not in medians:
        return checks
    ceilings = voxels["noise_ceiling"].where(voxels["ncsnr"].notna())
    n_reliable = int((ceilings > published.RELIABLE_NOISE_CEILING).sum())
    tolerance = statistics.RELIABLE_VOXELS_TOLERANCE * reliable[region]
    return [
        *checks,
        _compared(
            PUBLISHED_POOLED_NOISE_CEILING,
            float(ceilings.median()),
            medians[region],
            statistics.NOISE_CEILING_TOLERANCE,
            scope.is_published,
            region=named,
        ),
        _compared(
            PUBLISHED_RELIABLE_VOXELS,
            n_reliable,
            reliable[region],
            tolerance,
            scope.is_published,
            region=named,
        ),
    ]


def check_published_gaps(region: str, n_gaps: int, n_images: int, scope: Scope) -> list[Check]:
    """Compare how many responses of a region on fsaverage are NaN with the published assemblies.

    None but of all eight subjects, their 515 images and b3 (or an unknown preparation).
    """
    expected = statistics.SURFACE_CELLS_WITHOUT_DATA.get(region)
    applies = scope.space == FSAVERAGE and scope.has_all_subjects and scope.has_all_sessions
    if expected is None or not applies or scope.is_published is False:
        return []
    if n_images != statistics.RDM_IMAGES:
        return []
    return [
        _compared(
            PUBLISHED_CELLS_WITHOUT_DATA, n_gaps, expected, 0, scope.is_published, region=region
        )
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
    checks = []
    for subject, sessions in scope.sessions.items():
        if sessions != published.SESSION_COUNTS[subject]:
            continue
        number = tuple(int(count) for count in counts.loc[subject])
        expected = published.REPETITION_COUNTS[subject]
        checks.append(
            PUBLISHED_REPETITIONS.check(
                number == expected,
                subject=f"subj{subject:02d}",
                measured=number[0],
                lower=expected[0],
                upper=expected[0],
                counts=number,
                expected=expected,
            )
        )
    if scope.has_all_sessions and scope.sessions:
        # Subjects 4 and 8 saw fewest, and the same sessions: with either, all share 515 images.
        fewest = min(published.REPETITION_COUNTS[subject][0] for subject in scope.sessions)
        checks.append(_compared(PUBLISHED_IMAGE_COUNT, n_images, fewest, 0, True))
    return checks


def check_published_splits(subject: int, trials: pd.DataFrame) -> list[Check]:
    """Compare the sizes of NSD's splits by name with those published.

    Parameters
    ----------
    subject : int
        1-based.
    trials : DataFrame
        All of the subject's trials, as `nsd_prep.dataset.trials.trial_table` gives them.

    Returns
    -------
    list of Check
        One for each split; none where sessions of the subject are missing.
    """
    if trials["session"].max() != published.SESSION_COUNTS[subject]:
        return []
    checks = []
    for split, sizes in published.SPLIT_SIZES.items():
        number = tuple(
            int(trials.loc[trials[split] == part, "nsd_id"].nunique()) for part in (TRAIN, TEST)
        )
        checks.append(
            PUBLISHED_SPLITS.check(
                number == sizes[subject],
                subject=f"subj{subject:02d}",
                data="single trials",
                measured=number[1],
                lower=sizes[subject][1],
                upper=sizes[subject][1],
                split=split,
                counts=number,
                expected=sizes[subject],
            )
        )
    return checks


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
        or scope.space != FUNC1PT8MM
        or tuple(scope.sessions) != published.SUBJECTS
        or not scope.has_all_sessions
        or n_images != {statistics.RDM_IMAGES}
    ):
        return []
    numbers: list[tuple[Kind, Iterable[str], float, float]] = [
        (
            PUBLISHED_RDM_DEVIATION,
            [region],
            float(np.asarray(rdm, np.float64)[np.triu_indices(len(rdm), 1)].std()),
            statistics.RDM_DEVIATION[region],
        )
        for region, rdm in mean_rdms.items()
        if region in statistics.RDM_DEVIATION
    ]
    numbers += [
        (
            PUBLISHED_SUBJECT_CORRELATION,
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
                PUBLISHED_REGION_CORRELATION,
                pair,
                float(value),
                statistics.REGION_CORRELATION[pair],
            )
            for pair, value in zip(ORDER_OF_REGION_PAIRS, order.correlations, strict=True)
        ]
    checks = []
    for kind, regions, value, expected in numbers:
        where = "-".join(regions)
        if statistics.REGIONS_WITHOUT_VERDICT.isdisjoint(regions):
            tolerance = statistics.RDM_TOLERANCE
            checks.append(
                _compared(kind, value, expected, tolerance, scope.is_published, region=where)
            )
        else:
            checks.append(
                kind.check(
                    None,
                    region=where,
                    measured=value,
                    reason="another IT",
                    expected=f"{expected:g} with another definition of IT; shown without a verdict",
                )
            )
    for region, agreement in agreements.items():
        if region in statistics.SUBJECT_CORRELATION:
            weakest = published.SUBJECTS[int(np.argmin(agreement.with_others))]
            checks.append(
                PUBLISHED_WEAKEST_SUBJECT.check(None, region=region, weakest=f"subj{weakest:02d}")
            )
    return checks


def _compared(
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
