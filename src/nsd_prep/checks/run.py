"""The checks of a run: for each subject and region, for each subject, and for all together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.checks.alignment import Alignment, AlignmentOfBlocks, check_alignment
from nsd_prep.checks.published_kinds import Scope
from nsd_prep.checks.published_values import check_published_rdms
from nsd_prep.checks.rdms import square_rdms
from nsd_prep.checks.region_identity import check_region_identity
from nsd_prep.checks.region_order import REGIONS_IN_ORDER, check_region_order, region_order
from nsd_prep.checks.reliability import Reliability, ReliabilityOfBlocks, check_reliability
from nsd_prep.checks.sessions import check_sessions
from nsd_prep.checks.subject_agreement import (
    PERMUTATIONS,
    SubjectAgreement,
    check_subject_agreement,
    subject_agreement,
)
from nsd_prep.checks.trial_agreement import (
    AgreementOfBlocks,
    TrialAgreement,
    agreement_of_trials,
)
from nsd_prep.checks.trials import SingleTrials, add_blocks
from nsd_prep.core.check import Check, Kind, Threshold
from nsd_prep.core.nouns import VOXEL, Noun
from nsd_prep.core.threads import each_in_threads
from nsd_prep.dataset.published import WEAK_SESSIONS

#: Images and voxels from which something about a subject can be decided.
ENOUGH_IMAGES: Final = 50
ENOUGH_VOXELS: Final = 100

SUBJECT_CAN_BE_JUDGED: Final = Kind(
    name="subject can be judged",
    scope="subject",
    measures="checks of single trials that decided something",
    conditions={
        "suspicious": f"none, although there are {ENOUGH_IMAGES} images and {ENOUGH_VOXELS} "
        "voxels, with signal or without",
        "not decidable": "none, of fewer images or voxels",
        "passed": "at least one",
    },
    value="{measured:.0f} of {n_checks} checks decided, by {n_images} images and {n_telling} of "
    "{n_voxels} {sites} with signal",
    expectation="at least one",
    lower=1,
    unit="checks",
    meanings={
        "passed": "The subject's trials and {sites} could be judged.",
        "not decidable": "So few images or {sites} do not allow a judgement of this subject.",
        "suspicious": "This subject could not be judged, although there are enough images and "
        "{sites}: look at its sessions and its ncsnr.",
    },
    thresholds=(
        Threshold("enough images", ENOUGH_IMAGES, "chosen"),
        Threshold("enough voxels", ENOUGH_VOXELS, "chosen"),
    ),
)


@dataclass(frozen=True)
class RegionEvidence:
    """What a subject's single trials in a region say.

    Attributes
    ----------
    subject : int
        1-based.
    region : str
        Its name.
    checks : tuple of Check
        Of this subject and region.
    alignment : Alignment
        Recomputed ncsnr against the stored one.
    reliability : Reliability
        Split-half reliability of the voxels.
    trials : TrialAgreement
        For the check of the subject's sessions.
    repeated : TrialAgreement or None
        For the check of their runs: of every image seen three times, in the region's probes.
    n_images, n_voxels, n_telling : int
        Images, voxels, and those with signal by the stored ncsnr.
    """

    subject: int
    region: str
    checks: tuple[Check, ...]
    alignment: Alignment
    reliability: Reliability
    trials: TrialAgreement
    n_images: int
    n_voxels: int
    n_telling: int
    repeated: TrialAgreement | None = None


def check_single_trials(
    region: str,
    subject: int,
    trials: SingleTrials,
    repeated: SingleTrials | None = None,
    noun: Noun = VOXEL,
    again: Callable[[], SingleTrials] | None = None,
) -> RegionEvidence:
    """Check a subject's single trials in a region.

    Beside the responses, little memory is needed: they are looked at in blocks of voxels.

    Parameters
    ----------
    region : str
        Its name.
    subject : int
        1-based.
    trials : SingleTrials
        The responses, and where they were measured.
    repeated : SingleTrials, optional
        The same of every image seen three times, in the region's probes.
    noun : Noun
        What its voxels are called.
    again : callable, optional
        Reads the same trials again, so that what is returned need not keep them.

    Returns
    -------
    RegionEvidence
        With its checks.
    """
    name = f"subj{subject:02d}"
    alignment_of, reliability_of = AlignmentOfBlocks(trials), ReliabilityOfBlocks(trials)
    agreement_of = AgreementOfBlocks(trials)
    add_blocks(trials, alignment_of, reliability_of, agreement_of)
    alignment, reliability = alignment_of.result(), reliability_of.result()
    return RegionEvidence(
        subject,
        region,
        (
            *check_alignment(region, name, alignment, noun),
            check_reliability(region, name, reliability, trials.ncsnr),
        ),
        alignment,
        reliability,
        agreement_of.result(again),
        len(trials.responses),
        trials.responses.shape[2],
        trials.n_telling,
        None if repeated is None else agreement_of_trials(repeated),
    )


def check_run(
    evidence: Sequence[RegionEvidence],
    rdms: Mapping[str, NDArray[np.floating]],
    rdm_reliability: Callable[[int, str], float],
    *,
    scope: Scope | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[Check]:
    """Check a whole run: sessions, subjects against each other, regions against each other.

    Parameters
    ----------
    evidence : sequence of RegionEvidence
        Of every subject and region; subjects in the order of the RDMs.
    rdms : mapping of str to ndarray of float, shape (n_subjects, n_pairs)
        The RDMs of each region's averaged responses, 1 - Pearson r: upper triangles, row by
        row, as SciPy condenses them.
    rdm_reliability : callable
        Gives the reliability of a subject's (1-based) RDM in a region, as
        `nsd_prep.checks.rdms.rdm_reliability`. Called from two threads, where subjects
        agree at chance and there are images enough to tell what that means.
    scope : Scope, optional
        What of NSD itself was read, for what is published of it; None of other datasets.
    permutations : int
        Of the images, to see what agreement between subjects chance gives; at least 200, or no
        agreement counts.
    seed : int
        Of the permutations.

    Returns
    -------
    list of Check
        Without those that `evidence` holds already.
    """
    subjects = list(dict.fromkeys(region_evidence.subject for region_evidence in evidence))
    checks = []
    for subject in subjects:
        own = [
            region_evidence for region_evidence in evidence if region_evidence.subject == subject
        ]
        sessions = check_sessions(
            f"subj{subject:02d}",
            {region_evidence.region: region_evidence.trials for region_evidence in own},
            known=WEAK_SESSIONS.get(subject, ()) if scope is not None else (),
            repeated=[
                region_evidence.repeated
                for region_evidence in own
                if region_evidence.repeated is not None
            ],
        )
        checks += [*sessions, _check_decided(subject, own, sessions)]
    regions = [region for region, of_subjects in rdms.items() if len(of_subjects) >= 2]

    def agreement_in(region: str) -> SubjectAgreement:
        return subject_agreement(square_rdms(rdms[region]), permutations=permutations, seed=seed)

    agreements = dict(zip(regions, each_in_threads(agreement_in, regions), strict=True))
    for region, agreement in agreements.items():
        own = [region_evidence for region_evidence in evidence if region_evidence.region == region]
        with_region = [region_evidence.subject for region_evidence in own]
        reliability = partial(_reliability, rdm_reliability, region, with_region)
        checks += check_subject_agreement(region, with_region, agreement, reliability)
    # A subject may lack a region: what compares regions takes those that all have.
    complete = {region: rows for region, rows in rdms.items() if len(rows) == len(subjects)}
    order = None
    if all(region in complete for region in REGIONS_IN_ORDER):
        squares = {region: square_rdms(complete[region]) for region in REGIONS_IN_ORDER}
        order = region_order(squares)
        checks.append(check_region_order(order, squares[REGIONS_IN_ORDER[0]].shape[1]))
        del squares
    checks += check_region_identity(subjects, complete)
    if scope is not None:
        means = {
            region: square_rdms(rows.mean(axis=0)[np.newaxis])[0]
            for region, rows in complete.items()
        }
        checks += check_published_rdms(means, agreements, order, scope)
    return checks


def _reliability(
    rdm_reliability: Callable[[int, str], float], region: str, subjects: Sequence[int]
) -> NDArray[np.float64]:
    """Return the reliability of each subject's RDM in a region."""
    return np.array(each_in_threads(lambda subject: rdm_reliability(subject, region), subjects))


def _check_decided(
    subject: int, evidence: Sequence[RegionEvidence], sessions: Sequence[Check]
) -> Check:
    """Check that something was decided about a subject: silence must not pass for soundness."""
    checks = [check for region in evidence for check in region.checks] + list(sessions)
    decided = sum(check.verdict != "not decidable" for check in checks)
    n_images = max(region.n_images for region in evidence)
    n_voxels = sum(region.n_voxels for region in evidence)
    n_telling = sum(region.n_telling for region in evidence)
    enough = n_images >= ENOUGH_IMAGES and n_voxels >= ENOUGH_VOXELS
    return SUBJECT_CAN_BE_JUDGED.check(
        True if decided else "suspicious" if enough else None,
        subject=f"subj{subject:02d}",
        measured=decided,
        n_checks=len(checks),
        n_images=n_images,
        n_telling=n_telling,
        n_voxels=n_voxels,
    )
