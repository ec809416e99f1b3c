"""The design, the splits and the RDMs of NSD must be those that are published."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.checks import published_statistics as statistics
from nsd_prep.checks.published_kinds import (
    PUBLISHED_IMAGE_COUNT,
    PUBLISHED_RDM_DEVIATION,
    PUBLISHED_REGION_CORRELATION,
    PUBLISHED_REPETITIONS,
    PUBLISHED_SPLITS,
    PUBLISHED_SUBJECT_CORRELATION,
    PUBLISHED_WEAKEST_SUBJECT,
    Scope,
    compared,
)
from nsd_prep.checks.region_order import ORDER_OF_REGION_PAIRS, RegionOrder
from nsd_prep.checks.subject_agreement import SubjectAgreement
from nsd_prep.core.check import Check, Kind
from nsd_prep.dataset import published
from nsd_prep.dataset.space import FUNC1PT8MM
from nsd_prep.dataset.splits import TEST, TRAIN


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
        checks.append(compared(PUBLISHED_IMAGE_COUNT, n_images, fewest, 0, True))
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
                compared(kind, value, expected, tolerance, scope.is_published, region=where)
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
