"""Looking at the data themselves: single trials, placement, agreement between subjects."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsd_prep.analysis.rdm import from_upper_triangle
from nsd_prep.checks import Check
from nsd_prep.data_checks import (
    RegionEvidence,
    Scope,
    SingleTrials,
    check_placement,
    check_published_region,
    check_run,
    check_session_records,
    check_single_trials,
    places_of_images,
)
from nsd_prep.dataset import PREPARATION_FOLDERS
from nsd_prep.files import digest_of_array, sha256_of_json
from nsd_prep.inputs import Inputs
from nsd_prep.made import Made
from nsd_prep.prepared import Prepared
from nsd_prep.session_record import PartStatistics
from nsd_prep.stages.assemblies import Representations
from nsd_prep.threads import each_in_threads


class Volumes:
    """The volumes around the regions of a run's subjects.

    Attributes
    ----------
    ncsnr, brain, anatomy : dict of int to ndarray, shape (Z, Y, X)
        By subject (1-based); brain masks and T1s where the dataset has them.
    affines : dict of int to ndarray of float64, shape (4, 4)
        From NIfTI indices to millimetres, by subject.
    digest : str
        Of their content.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.ncsnr = {subject: one.volume.values for subject, one in inputs.noise_ceilings.items()}
        self.affines = {
            subject: one.volume.affine for subject, one in inputs.noise_ceilings.items()
        }
        self.brain: dict[int, NDArray[Any]] = _given(
            {subject: masks.brain for subject, masks in inputs.masks.items()}
        )
        self.anatomy = _given({subject: masks.anatomy for subject, masks in inputs.masks.items()})
        self.digest = sha256_of_json(
            [
                [[subject, digest_of_array(volume)] for subject, volume in kind.items()]
                for kind in (self.ncsnr, self.affines, self.brain, self.anatomy)
            ]
        )


def _given(volumes: Mapping[int, NDArray[Any] | None]) -> dict[int, NDArray[Any]]:
    return {subject: volume for subject, volume in volumes.items() if volume is not None}


def _check_records(prepared: Prepared, subject: int, regions: list[str]) -> list[Check]:
    """Check the records of a subject's sessions, where the parts have them."""
    records: dict[int, dict[str, PartStatistics]] = {}
    for region in regions:
        for session, part in prepared.parts(subject, region).items():
            if not part.statistics:
                return []
            statistics = PartStatistics.model_validate(part.statistics)
            records.setdefault(session, {})[region] = statistics
    return check_session_records(subject, records) if records else []


def examine(prepared: Prepared, representations: Representations, volumes: Volumes) -> Made:
    """Check what shapes cannot tell: that trials, sessions, masks and subjects are in their places.

    Parameters
    ----------
    prepared : Prepared
        What was extracted.
    representations : Representations
        The RDMs of the assemblies.
    volumes : Volumes
        Around the regions.

    Returns
    -------
    Made
        Checks alone; failed ones among them are the caller's to act on.
    """
    trial_places = {
        subject: places_of_images(
            prepared.trials[prepared.trials["subject"] == subject], prepared.nsd_ids
        )
        for subject in prepared.subjects
    }

    def look_at(place: tuple[int, str]) -> RegionEvidence:
        subject, region = place
        session, trial = trial_places[subject]
        trials = SingleTrials(
            responses=prepared.repetitions(subject, region),
            ncsnr=prepared.regions_of_subjects[place].ncsnr,
            session=session,
            trial=trial,
            trials_per_session=prepared.trials_per_session,
            sessions=np.array(list(prepared.parts(subject, region))),
            without_data=prepared.without_data(subject, region),
        )
        return check_single_trials(region, subject, trials)

    places = prepared.regions_of_subjects
    everything = [
        (subject, region)
        for subject in prepared.subjects
        for region in prepared.regions
        if (subject, region) in places
    ]
    evidence = each_in_threads(look_at, everything)
    found = [check for one in evidence for check in one.checks]
    for subject in prepared.subjects:
        regions = {
            region: places[subject, region].voxels
            for region in prepared.regions
            if (subject, region) in places
        }
        ncsnr, brain = volumes.ncsnr[subject], volumes.brain.get(subject)
        found += check_placement(subject, regions, ncsnr, brain)
        found += _check_records(prepared, subject, list(regions))
    rdms = {
        region.region: np.stack([from_upper_triangle(pairs) for pairs in region.rdms])
        for region in representations.geometry.all_voxels
    }
    scope = None
    if prepared.is_nsd:
        preparation = prepared.attributes["preparation"]
        known = preparation if preparation in PREPARATION_FOLDERS.values() else ""
        scope = Scope(str(known), prepared.dataset_sessions)
        for region in prepared.regions:
            voxels = prepared.voxels[prepared.voxels["region"] == region]
            found += check_published_region(region, voxels, scope)
    found += check_run(evidence, rdms, scope=scope)
    return Made(checks=tuple(found))
