"""What checks take from single trials: these are not kept, and read again where they are needed."""

import gc
import weakref

import numpy as np
import pytest
from library_stages import Library, prepare
from small_nsd import write_small_nsd

from nsd_prep.checks.trial_agreement import agreement_of_trials, agreement_with_other_trials
from nsd_prep.checks.trials import SingleTrials
from nsd_prep.pipeline.steps.evidence import gather_evidence


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder = tmp_path_factory.mktemp("evidence")
    small = write_small_nsd(folder / "nsd")
    return prepare(small.root, folder / "out", regions=["V1"], subjects=[1])


def single_trials(library: Library) -> SingleTrials:
    prepared = library.prepared
    session, trial = prepared.places_of_images[1]
    return SingleTrials(
        prepared.repetitions(1, "V1"),
        prepared.regions_of_subjects[1, "V1"].ncsnr,
        session,
        trial,
        prepared.trials_per_session,
        np.array(list(prepared.parts(1, "V1"))),
        prepared.without_data(1, "V1"),
    )


def test_responses_are_not_kept_and_agree_with_other_trials_as_those_in_memory(
    library: Library,
) -> None:
    responses = library.prepared.repetitions(1, "V1")
    evidence = gather_evidence(library.prepared, 1, "V1", responses)
    kept = weakref.ref(responses)
    del responses
    gc.collect()
    assert kept() is None
    found = evidence.region.trials.with_other_trials()
    known = agreement_with_other_trials(single_trials(library))
    assert np.isfinite(known).any()
    assert np.array_equal(found, known, equal_nan=True)


def test_trials_are_not_read_again_before_they_are_asked_for(library: Library) -> None:
    trials, read = single_trials(library), []

    def again() -> SingleTrials:
        read.append("again")
        return trials

    agreement = agreement_of_trials(trials, again)
    assert read == []
    found = agreement.with_other_trials()
    assert read == ["again"]
    known = agreement_of_trials(trials).with_other_trials()
    assert np.array_equal(found, known, equal_nan=True)
