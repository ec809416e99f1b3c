"""Looking at the data themselves: single trials, placement, agreement between subjects."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.analysis.image_features import image_features
from nsd_prep.analysis.rdm import from_upper_triangle
from nsd_prep.assemblies.assembly import SubjectVoxels
from nsd_prep.assemblies.stimulus_sets import pictures_of, read_picture
from nsd_prep.checks import (
    RegionEvidence,
    Scope,
    SingleTrials,
    check_colours,
    check_hemispheres,
    check_images,
    check_placement,
    check_placement_on_surface,
    check_published_gaps,
    check_published_region,
    check_published_repetitions,
    check_run,
    check_session_records,
    check_transform,
)
from nsd_prep.checks.assembly import check_form, check_split
from nsd_prep.checks.assembly_values import check_coverage, check_signal
from nsd_prep.checks.rdms import rdm_reliability
from nsd_prep.checks.sessions import session_agreement
from nsd_prep.checks.tables import (
    SplitHalfSample,
    check_noise_ceilings_table,
    check_reliability_table,
    check_sessions_table,
    check_trials_table,
    check_voxels_table,
)
from nsd_prep.checks.trial_agreement import agreement_of_trials
from nsd_prep.core.atomic import write_table
from nsd_prep.core.check import Check
from nsd_prep.core.digests import read_table
from nsd_prep.core.progress import current_stage
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.core.threads import each_in_threads
from nsd_prep.dataset.published import PREPARATION_FOLDERS
from nsd_prep.dataset.space import VolumeSpace, noun_of
from nsd_prep.extraction.sessions import SessionRecord
from nsd_prep.extraction.statistics import sessions_table
from nsd_prep.pipeline import outputs
from nsd_prep.pipeline.inputs import Masks, NoiseCeilings
from nsd_prep.pipeline.prepared import Prepared
from nsd_prep.pipeline.repeated_images import RepeatedImages
from nsd_prep.pipeline.steps.assemblies import Representations
from nsd_prep.pipeline.steps.evidence import evidence_of

#: So many images tell whether they belong to the responses.
_IMAGES_CHECKED: Final = 256


def examine(
    prepared: Prepared, repeated: RepeatedImages, representations: Representations, folder: Folder
) -> StepOutput:
    """Check what shapes cannot tell: that trials, sessions and subjects are in their places.

    Writes ``sessions.csv`` and ``reliability.csv``. Failed checks are the caller's to act on.
    """
    stage = current_stage()

    def look_at(key: tuple[int, str]) -> tuple[RegionEvidence, SplitHalfSample]:
        gathered = evidence_of(prepared, *key)
        repeated_trials = repeated.read(*key)
        stage.advance()
        if repeated_trials is None:
            return gathered.region, gathered.split_half
        # The trials themselves are not kept.
        agreement = agreement_of_trials(
            repeated_trials, lambda: cast(SingleTrials, repeated.read(*key))
        )
        return replace(gathered.region, repeated=agreement), gathered.split_half

    voxels_of_regions = prepared.regions_of_subjects
    everything = [
        (subject, region)
        for subject in prepared.subjects
        for region in prepared.regions
        if (subject, region) in voxels_of_regions
    ]
    stage.total = len(everything)
    looked_at = each_in_threads(look_at, everything)
    evidence = [region_evidence for region_evidence, _ in looked_at]
    checks = [check for region_evidence in evidence for check in region_evidence.checks]
    rdms = {geometry.region: geometry.rdms for geometry in representations.geometry.all_voxels}
    scope = _scope(prepared)
    if scope is not None:
        counts, n_images = prepared.repetition_counts, len(prepared.nsd_ids)
        checks += check_published_repetitions(counts, n_images, scope)
        for region in prepared.regions:
            voxels = prepared.voxels[prepared.voxels["region"] == region]
            checks += check_published_region(region, voxels, scope)
    checks += check_run(
        evidence,
        rdms,
        lambda subject, region: rdm_reliability(prepared.repetitions_without_gaps(subject, region)),
        scope=scope,
    )
    write_table(folder.path / outputs.SESSIONS, _sessions(prepared, evidence))
    split_half = {
        (region_evidence.subject, region_evidence.region): region_evidence.reliability.correlation
        for region_evidence in evidence
    }
    reliability = reliability_table(prepared.voxels, split_half, voxels_of_regions)
    write_table(folder.path / outputs.RELIABILITY, reliability)
    sampled = pd.concat(
        [
            _sampled_rows(prepared, region_key, sample)
            for region_key, (_, sample) in zip(everything, looked_at, strict=True)
        ]
    )
    checks += [
        check_sessions_table(read_table(folder.path / outputs.SESSIONS), prepared.voxels),
        check_reliability_table(read_table(folder.path / outputs.RELIABILITY), sampled),
    ]
    return StepOutput.in_folder(folder, [outputs.SESSIONS, outputs.RELIABILITY], checks)


def _scope(prepared: Prepared) -> Scope | None:
    """Return what of NSD a run read; None of another dataset."""
    if not prepared.is_nsd:
        return None
    preparation = prepared.attributes["preparation"]
    known = preparation if preparation in PREPARATION_FOLDERS.values() else ""
    return Scope(str(known), prepared.dataset_sessions, prepared.space)


def check_subjects(
    masks: Mapping[int, Masks],
    noise_ceilings: Mapping[int, NoiseCeilings],
    sessions: Sequence[SessionRecord],
) -> StepOutput:
    """Check that each subject's masks lie in the brain, and that its sessions hold data.

    Parameters
    ----------
    masks, noise_ceilings : mapping of int
        Of each subject (1-based).
    sessions : sequence of SessionRecord
        Every session that was extracted, whatever for.
    """
    checks: list[Check] = []
    for subject, own in masks.items():
        selection, (ncsnr, space) = own.selection, noise_ceilings[subject].ncsnr
        regions = {name: voxels for name, voxels in selection.regions.items() if len(voxels)}
        records = {
            record.session: {
                region: part.beta_statistics
                for region, part in (record.parts or record.all_trials).items()
            }
            for record in sessions
            if record.subject == subject
        }
        if isinstance(space, VolumeSpace):
            checks += check_placement(subject, regions, space, ncsnr, own.brain)
        else:
            checks += check_placement_on_surface(subject, regions, ncsnr)
            if own.native is not None:
                checks += check_transform(subject, space, ncsnr, own.native.ncsnr)
        checks += check_session_records(subject, records, noun_of(space.name))
        if selection.hemispheres is not None and isinstance(space, VolumeSpace):
            checks.append(check_hemispheres(subject, space, *selection.hemispheres))
    return StepOutput(checks=tuple(checks))


def _sampled_rows(
    prepared: Prepared, key: tuple[int, str], sample: SplitHalfSample
) -> pd.DataFrame:
    """Return the sampled voxels that are neuroids, with the columns of ``reliability.csv``."""
    kept = prepared.kept(*key)[sample.voxels]
    voxels, correlation = sample.voxels[kept], sample.correlation[kept]
    return _correlation_table(*key, prepared.regions_of_subjects[key], voxels, correlation)


def _correlation_table(
    subject: int,
    region: str,
    of_region: SubjectVoxels,
    voxels: NDArray[np.int64] | slice,
    correlation: NDArray[np.float64],
) -> pd.DataFrame:
    """Return a row for each of some voxels: subject, region, its coordinates, its correlation."""
    space = of_region.space
    coordinates = space.table(of_region.voxels[voxels])
    columns: dict[str, Any] = {"subject": f"subj{subject:02d}", "region": region}
    columns |= {name: coordinates[name] for name in space.coordinates}
    return pd.DataFrame(columns | {"split_half_correlation": correlation})


def _sessions(prepared: Prepared, evidence: Sequence[RegionEvidence]) -> pd.DataFrame:
    """Return a row for each subject, session and region, with the session's agreement."""
    agreement = [
        session_agreement(
            [
                region_evidence.trials
                for region_evidence in evidence
                if region_evidence.subject == subject
            ]
        )
        .reset_index()
        .assign(subject=f"subj{subject:02d}")
        for subject in prepared.subjects
        if any(region_evidence.subject == subject for region_evidence in evidence)
    ]
    table = sessions_table(prepared.session_records)
    keys = ["subject", "session"]
    return table.merge(pd.concat(agreement), how="left", on=keys, validate="many_to_one")


def reliability_table(
    voxels: pd.DataFrame,
    split_half: Mapping[tuple[int, str], NDArray[np.float64]],
    regions: Mapping[tuple[int, str], SubjectVoxels],
) -> pd.DataFrame:
    """Return the split-half correlation of each neuroid, in the order of ``voxels.csv``.

    Columns neuroid_id, subject, region, the coordinates of its site, and split_half_correlation.

    Parameters
    ----------
    voxels : DataFrame
        As `nsd_prep.assemblies.assembly.voxel_table` gives them, in any order.
    split_half : mapping of (int, str) to ndarray of float64, shape (n_voxels,)
        The correlations of each subject (1-based) and region, in the order of its voxels.
    regions : mapping of (int, str) to SubjectVoxels
        Where these voxels lie.
    """
    keys = ["subject", "region", *next(iter(regions.values())).space.coordinates]
    correlations = pd.concat(
        [
            _correlation_table(*key, regions[key], slice(None), correlation)
            for key, correlation in split_half.items()
        ]
    )
    kept = voxels.loc[voxels["kept"], ["neuroid_id", *keys]]
    return kept.merge(correlations, how="left", on=keys, validate="one_to_one")


def check_stimuli(
    prepared: Prepared,
    representations: Representations,
    stimuli: StepOutput,
    folder: Folder,
    *,
    photographs: bool,
) -> StepOutput:
    """Check that the images of the stimulus sets are those that V1 responded to.

    There are no checks without V1 or without images. `photographs` is whether the images are
    photographs, or synthetic ones, which are like photographs in contrast energy and colours.
    """
    rdms = {geometry.region: geometry.rdms for geometry in representations.geometry.all_voxels}
    files = pictures_of(stimuli, folder)
    nsd_ids = [nsd_id for nsd_id in prepared.nsd_ids.tolist() if nsd_id in files][:_IMAGES_CHECKED]
    if "V1" not in rdms or not nsd_ids:
        return StepOutput()
    pictures = [read_picture(files[nsd_id]) for nsd_id in nsd_ids]
    features = np.concatenate(
        each_in_threads(lambda picture: image_features(picture[np.newaxis]), pictures)
    )
    rows = np.searchsorted(prepared.nsd_ids, nsd_ids)
    v1 = np.mean([from_upper_triangle(pairs) for pairs in rdms["V1"]], axis=0)[np.ix_(rows, rows)]
    means = np.array([picture.mean(axis=(0, 1)) for picture in pictures])
    checks = [check_images(features, v1, natural=photographs)]
    if photographs:
        checks.append(check_colours(means))
    return StepOutput(checks=tuple(checks))


def validate(
    prepared: Prepared,
    tables: StepOutput,  # noqa: ARG001 (part of the key)
    representations: Representations,
    folder: Folder,
) -> StepOutput:
    """Check the assemblies and tables as they were written.

    RDMs of the assemblies are computed meanwhile. Failed checks are the caller's to act on.
    """
    nsd_ids = prepared.nsd_ids
    checks = check_split(nsd_ids, read_table(folder.path / outputs.SPLIT))
    n_sessions = {
        f"subj{subject:02d}": sum(record.subject == subject for record in prepared.sessions)
        for subject in prepared.subjects
    }
    labels = {}
    for region in representations.assemblies:
        voxels = prepared.voxels[prepared.voxels["region"] == region]
        kept = voxels[voxels["kept"]]
        labels[region], values = representations.summarise(region)
        subjects = prepared.subjects_with(region)
        checks += check_form(region, labels[region], subjects, nsd_ids, kept, values)
        checks += check_signal(region, values, kept)
        checks += check_coverage(region, voxels, n_sessions)
        if (scope := _scope(prepared)) is not None:
            n_gaps = int(values.n_nan.sum())
            checks += check_published_gaps(region, n_gaps, len(nsd_ids), scope)
    files = {
        name: read_table(folder.path / name)
        for name in (outputs.VOXELS, outputs.NOISE_CEILINGS, outputs.TRIALS)
    }
    checks += [
        check_voxels_table(files[outputs.VOXELS], labels, prepared.coordinates),
        check_noise_ceilings_table(files[outputs.NOISE_CEILINGS], labels),
        check_trials_table(files[outputs.TRIALS], nsd_ids, prepared.subjects),
    ]
    return StepOutput(checks=tuple(checks))
