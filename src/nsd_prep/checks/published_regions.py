"""Regions of NSD must have the voxels and the noise ceilings that are published of them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd

from nsd_prep.checks import published_statistics as statistics
from nsd_prep.checks.published_kinds import (
    OLDER_RELEASE,
    PUBLISHED_CELLS_WITHOUT_DATA,
    PUBLISHED_HIGHEST_NOISE_CEILING,
    PUBLISHED_MEAN_NOISE_CEILING,
    PUBLISHED_MEDIAN_NOISE_CEILING,
    PUBLISHED_POOLED_NOISE_CEILING,
    PUBLISHED_RELIABLE_VOXELS,
    PUBLISHED_VOXEL_COUNT,
    Scope,
    compared,
)
from nsd_prep.core.check import Check, Kind
from nsd_prep.dataset import published
from nsd_prep.dataset.space import FSAVERAGE, FUNC1PT8MM, HEMISPHERES

_UNKNOWN_COUNT: Final = "another number in the labels that are distributed now"


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
                    compared(
                        PUBLISHED_VOXEL_COUNT, number, expected, 0, True, region=named, subject=name
                    )
                )
        if region in statistics.MEDIAN_NOISE_CEILING and name in by_subject.groups:
            median = float(by_subject.get_group(name).median())
            expected_median = statistics.MEDIAN_NOISE_CEILING[region][position]
            checks.append(
                compared(
                    PUBLISHED_MEDIAN_NOISE_CEILING,
                    median,
                    expected_median,
                    statistics.NOISE_CEILING_TOLERANCE,
                    scope.is_published,
                    region=named,
                    subject=name,
                )
            )
    checks += [
        compared(kind, value, numbers[region], tolerance, scope.is_published, region=named)
        for kind, numbers, value, tolerance in _over_subjects(region, voxels, scope)
        if region in numbers
    ]
    if scope.has_all_subjects and len(voxels) and region in statistics.VOXELS_OF_ALL:
        in_all = statistics.VOXELS_OF_ALL[region]
        checks.append(compared(PUBLISHED_VOXEL_COUNT, len(voxels), in_all, 0, True, region=named))
    return [
        replace(check, verdict="suspicious", reason=OLDER_RELEASE)
        if is_older and check.verdict == "failed"
        else check
        for check in checks
        if scope.is_published is not False or check.name == PUBLISHED_VOXEL_COUNT.name
    ]


def _over_subjects(
    region: str, voxels: pd.DataFrame, scope: Scope
) -> list[tuple[Kind, Mapping[str, float], float, float]]:
    """Return kind, numbers by region, value and tolerance of what is published over subjects."""
    ceilings = voxels["noise_ceiling"]
    if ceilings.empty:
        return []
    tolerance = statistics.NOISE_CEILING_TOLERANCE
    pooled = float(np.median(ceilings))
    if set(scope.sessions) == set(statistics.FOUR_SUBJECTS):
        published_median = statistics.POOLED_MEDIAN_NOISE_CEILING_OF_FOUR
        return [(PUBLISHED_POOLED_NOISE_CEILING, published_median, pooled, tolerance)]
    if not scope.has_all_subjects:
        return []
    return [
        (
            PUBLISHED_MEAN_NOISE_CEILING,
            published.MEAN_MEDIAN_NOISE_CEILING,
            float(voxels.groupby("subject", sort=False)["noise_ceiling"].median().mean()),
            published.MEAN_MEDIAN_NOISE_CEILING_TOLERANCE,
        ),
        (
            PUBLISHED_POOLED_NOISE_CEILING,
            statistics.POOLED_MEDIAN_NOISE_CEILING,
            pooled,
            tolerance,
        ),
        (
            PUBLISHED_RELIABLE_VOXELS,
            statistics.RELIABLE_VOXELS,
            float(np.count_nonzero(ceilings > published.RELIABLE_NOISE_CEILING)),
            statistics.RELIABLE_VOXELS_TOLERANCE * statistics.RELIABLE_VOXELS.get(region, 0),
        ),
        (
            PUBLISHED_HIGHEST_NOISE_CEILING,
            statistics.HIGHEST_NOISE_CEILING,
            float(ceilings.max()),
            tolerance,
        ),
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
            compared(
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
        compared(
            PUBLISHED_POOLED_NOISE_CEILING,
            float(ceilings.median()),
            medians[region],
            statistics.NOISE_CEILING_TOLERANCE,
            scope.is_published,
            region=named,
        ),
        compared(
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
        compared(
            PUBLISHED_CELLS_WITHOUT_DATA, n_gaps, expected, 0, scope.is_published, region=region
        )
    ]
