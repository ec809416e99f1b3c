"""What checks take from a subject's single trials in a region, while these are in memory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsd_prep.checks import RegionEvidence, SingleTrials, check_single_trials
from nsd_prep.checks.tables import SplitHalfSample, sample_split_half
from nsd_prep.dataset.space import noun_of
from nsd_prep.pipeline.prepared import Prepared


@dataclass(frozen=True)
class Evidence:
    """What a subject's single trials in a region say, and what checks of tables take from them."""

    region: RegionEvidence
    split_half: SplitHalfSample


def evidence_of(prepared: Prepared, subject: int, region: str) -> Evidence:
    """Return what was gathered while a region was assembled; else read its trials for that."""
    gathered = prepared.evidence.pop((subject, region), None)
    if gathered is None:  # the assembly is that of an earlier run
        gathered = gather_evidence(prepared, subject, region, prepared.repetitions(subject, region))
    return gathered


def gather_evidence(
    prepared: Prepared, subject: int, region: str, responses: NDArray[np.float32]
) -> Evidence:
    """Check a subject's (1-based) single trials in a region.

    Parameters
    ----------
    prepared : Prepared
        Where they were measured.
    subject : int
        1-based.
    region : str
        Its name.
    responses : ndarray of float32, shape (n_images, 3, n_voxels)
        As `Prepared.repetitions` gives them; NaN is replaced by 0.
    """
    prepared.fill_gaps(subject, region, responses)
    trials = _single_trials(prepared, subject, region, responses)

    def again() -> SingleTrials:
        responses = prepared.repetitions_without_gaps(subject, region)
        return _single_trials(prepared, subject, region, responses)

    noun = noun_of(prepared.space)
    checked = check_single_trials(region, subject, trials, noun=noun, again=again)
    return Evidence(checked, sample_split_half(trials))


def _single_trials(
    prepared: Prepared, subject: int, region: str, responses: NDArray[np.float32]
) -> SingleTrials:
    """Say where responses without gaps were measured; arguments as for `gather_evidence`."""
    session, trial = prepared.places_of_images[subject]
    return SingleTrials(
        responses=responses,
        ncsnr=prepared.regions_of_subjects[subject, region].ncsnr,
        session=session,
        trial=trial,
        trials_per_session=prepared.trials_per_session,
        sessions=np.array(list(prepared.parts(subject, region))),
        without_data=prepared.without_data(subject, region),
    )
