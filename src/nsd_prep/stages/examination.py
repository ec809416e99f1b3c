"""Looking at the data themselves: single trials, placement, agreement between subjects."""

import numpy as np

from nsd_prep.analysis.rdm import from_upper_triangle
from nsd_prep.assembly import voxel_table
from nsd_prep.checks import Check
from nsd_prep.data_checks import (
    check_placement,
    check_published_noise_ceilings,
    check_run,
    check_single_trials,
    sessions_of_images,
)
from nsd_prep.files import read_table
from nsd_prep.report.stage import analyse_run
from nsd_prep.run import Extracted, Run
from nsd_prep.stages.inputs import usable_nsd_ids
from nsd_prep.stages.responses import repetitions_of_subject, voxels_of_region
from nsd_prep.volumes import read_ncsnr


def examine(run: Run, extracted: Extracted) -> list[Check]:
    """Check what shapes cannot tell: that trials, sessions, masks and subjects are in their places.

    Parameters
    ----------
    run : Run
        A run whose assemblies are written.
    extracted : Extracted
        What was extracted.

    Returns
    -------
    list of Check
        Failed ones among them; it is the caller's to act on them.
    """
    dataset = run.dataset()
    nsd_ids = usable_nsd_ids(extracted.trials)
    trials = read_table(extracted.trials.file)
    voxels = {region: voxels_of_region(extracted, region) for region in run.regions}
    found: list[Check] = []
    evidence = []
    for position, subject in enumerate(run.subjects):
        session = sessions_of_images(trials[trials["subject"] == subject], nsd_ids)
        of_subject = {region: voxels[region][position] for region in run.regions}
        for region, of in of_subject.items():
            responses = repetitions_of_subject(extracted, subject, region)
            one = check_single_trials(region, of, responses, session, dataset.trials_per_session)
            evidence.append(one)
            found += one.checks
        places = {region: of.voxels for region, of in of_subject.items()}
        found += check_placement(subject, places, read_ncsnr(dataset.ncsnr_file(subject)))
    rdms = {
        of.region: np.stack([from_upper_triangle(pairs) for pairs in of.rdms])
        for of in analyse_run(run).all_voxels
    }
    found += check_run(evidence, rdms, is_nsd=dataset.is_nsd)
    if dataset.is_nsd:
        for region in run.regions:
            found += check_published_noise_ceilings(region, voxel_table(region, voxels[region]))
    return found
