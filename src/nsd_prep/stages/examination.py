"""Looking at the data themselves: single trials, placement, agreement between subjects."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from nsd_prep.analysis.geometry import Geometry, analyse
from nsd_prep.analysis.rdm import from_upper_triangle
from nsd_prep.assembly import SubjectVoxels, read_assembly, voxel_table
from nsd_prep.checks import Check
from nsd_prep.data_checks import (
    RegionEvidence,
    Scope,
    SingleTrials,
    check_placement,
    check_published_region,
    check_run,
    check_single_trials,
    places_of_images,
)
from nsd_prep.files import read_table
from nsd_prep.run import Extracted, Run
from nsd_prep.stages.responses import repetitions_of_subject, voxels_of_region
from nsd_prep.threads import each_in_threads
from nsd_prep.trials import usable_nsd_ids
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
    trials = read_table(extracted.trials.file)
    nsd_ids = usable_nsd_ids(trials)
    places = {
        subject: places_of_images(trials[trials["subject"] == subject], nsd_ids)
        for subject in run.subjects
    }
    voxels = {region: voxels_of_region(extracted, region) for region in run.regions}

    def look_at(of_region: tuple[str, SubjectVoxels]) -> RegionEvidence:
        region, of = of_region
        records = sorted(extracted.sessions_of(of.subject), key=lambda one: one.session)
        without_data = np.zeros((len(records), len(of.voxels)), dtype=np.bool_)
        for row, record in enumerate(records):
            without_data[row, list(record.parts[region].constant_voxels)] = True
        own = SingleTrials(
            responses=repetitions_of_subject(extracted, trials, of.subject, region),
            ncsnr=of.ncsnr,
            session=places[of.subject][0],
            trial=places[of.subject][1],
            trials_per_session=dataset.trials_per_session,
            sessions=np.array([record.session for record in records]),
            without_data=without_data,
        )
        return check_single_trials(region, of.subject, own)

    everything = [
        (region, voxels[region][position])
        for position in range(len(run.subjects))
        for region in run.regions
    ]
    evidence = each_in_threads(look_at, everything)
    found = [check for one in evidence for check in one.checks]
    for position, subject in enumerate(run.subjects):
        masks = {region: voxels[region][position].voxels for region in run.regions}
        found += check_placement(subject, masks, read_ncsnr(dataset.ncsnr_file(subject)))
    rdms = {
        of.region: np.stack([from_upper_triangle(pairs) for pairs in of.rdms])
        for of in analyse_run(run).all_voxels
    }
    scope = None
    if dataset.is_nsd:
        known = dataset.preparation if dataset.layout == "official" else ""
        scope = Scope(known, {subject: dataset.sessions[subject] for subject in run.subjects})
        for region in run.regions:
            found += check_published_region(region, voxel_table(region, voxels[region]), scope)
    found += check_run(evidence, rdms, scope=scope)
    return found


def analyse_run(run: Run) -> Geometry:
    """Compute the RDMs of a run's assemblies, one assembly in memory at a time.

    Parameters
    ----------
    run : Run
        A run whose assemblies are written.

    Returns
    -------
    Geometry
        For the report, and for checks of agreement.
    """

    def assemblies() -> Iterator[tuple[str, xr.DataArray]]:
        for region in run.regions:
            yield region, read_assembly(run.assembly_file(region))

    return analyse(assemblies())
