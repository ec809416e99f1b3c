"""Preflight: load and check all inputs, and report all their problems together."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from nsd_prep.analysis.features import check_ids, parse_features
from nsd_prep.core.atomic import remove_stale_partials, writable_folder
from nsd_prep.core.digests import digest_of_bytes, read_whole
from nsd_prep.core.errors import NSDPrepError, PreflightError
from nsd_prep.core.problems import Problems
from nsd_prep.core.records import FileRecord
from nsd_prep.dataset.behaviour import behaviour_file
from nsd_prep.dataset.beta_files import NATIVE_TRANSFORMS
from nsd_prep.dataset.images import check_images_file
from nsd_prep.dataset.masks import labels_that_are_nowhere
from nsd_prep.dataset.regions import LABELS_OF_SPACES, VoxelSelection, built_in_regions
from nsd_prep.dataset.source import naming_addresses
from nsd_prep.dataset.space import HEMISPHERES, NATIVESURFACE
from nsd_prep.dataset.stimulus_table import count_images
from nsd_prep.pipeline import step_table
from nsd_prep.pipeline.cache import require_cache
from nsd_prep.pipeline.cortex import load_cortex
from nsd_prep.pipeline.earlier import require_folder_of_runs
from nsd_prep.pipeline.inputs import Inputs, NoiseCeilings, Trials
from nsd_prep.pipeline.loading import check_space, look_at_sessions
from nsd_prep.pipeline.run import Run, written_folders
from nsd_prep.pipeline.step import Execution, InThreads
from nsd_prep.single_trials.reliability import VoxelMinima
from nsd_prep.single_trials.voxels import trial_voxels
from nsd_prep.synthetic import read_truth

_Value = TypeVar("_Value")


def load_inputs(
    run: Run, execution: Execution | None = None, trials: Trials | None = None
) -> Inputs:
    """Look for, read and check everything that a run needs.

    Parameters
    ----------
    run : Run
        What is asked for.
    execution : Execution, optional
        What carries out the steps; threads where nothing is given.
    trials : Trials, optional
        Those of the run's subjects, mapped before with others. A label that no subject of the run
        has may then be another's, and is no error.

    Raises
    ------
    PreflightError
        All that is wrong, a sentence each.
    ParameterError
        The output folder holds something else than results of runs, or the cache folder something
        else than a cache; both stay as they are.
    """
    require_folder_of_runs(run.output_dir)
    require_cache(run.cache_dir)
    execution = execution or InThreads()
    problems = Problems()
    problems.collect(_fetch_small_files, run)
    if problems.found:  # nothing answers: to try each file in turn would take minutes
        raise PreflightError(problems.found)
    for name, folder in written_folders(run.output_dir, run.cache_dir).items():
        problems.collect(writable_folder, folder, name)
    problems.collect(remove_stale_partials, run.cache_dir)
    is_part = trials is not None
    if trials is None:
        trials = problems.collect(execution.call, step_table.MAP_TRIALS, run)
    subjects = [(run, subject) for subject in run.subjects]
    masks = _by_subject(run, problems, execution.map(step_table.LOAD_MASKS, subjects))
    loaded = execution.map(step_table.LOAD_NOISE_CEILINGS, subjects)
    noise_ceilings = _by_subject(run, problems, loaded)
    if len(masks) == len(run.subjects) and not is_part:
        selections = [mask.selection for mask in masks.values()]
        problems.found.extend(labels_that_are_nowhere(selections))
    known_minima = replace(run.minima, reliability=None) if run.single_trials else VoxelMinima()
    for subject in set(masks) & set(noise_ceilings):
        ncsnr = noise_ceilings[subject]
        selection = masks[subject].selection
        problems.collect(check_space, subject, ncsnr.files[0].path, ncsnr.ncsnr, selection)
        if known_minima.attributes():
            problems.collect(_check_minima, known_minima, subject, selection, ncsnr)
    features = None
    if run.features is not None and trials is not None:
        features = problems.collect(_check_features, run, trials)
    if _fits_synthetic_latents(run):
        problems.collect(read_truth, run.dataset().source.root)
    cortex = problems.collect(load_cortex, run, masks)
    betas = {}
    if trials is not None:
        betas = problems.collect(look_at_sessions, run.dataset(), trials.sessions, masks) or {}
    if problems.found or trials is None:
        with naming_addresses(run.dataset().source):
            raise PreflightError(problems.found)
    no_images = _why_no_images(run, trials)
    return Inputs(run.dataset(), trials, masks, noise_ceilings, betas, features, no_images, cortex)


def _fetch_small_files(run: Run) -> None:
    """Fetch the small files of a remote dataset together, as far as they are there."""
    dataset = run.dataset()
    volumes = {name for region in run.regions.values() for name in region.labels}
    if run.keep_voxels:  # of whatever region a later run may ask for
        own = built_in_regions(dataset.space)[run.keep_voxels].labels
        volumes |= {*own, *LABELS_OF_SPACES[dataset.space]}
    sides = dataset.sides if dataset.is_surface else (None, *HEMISPHERES)
    wanted: list[Path | None] = [dataset.design_file, dataset.stimulus_table]
    for subject in run.subjects:
        wanted += [
            *(dataset.ncsnr_file(subject, side) for side in dataset.sides),
            dataset.brain_mask_file(subject),
            dataset.anatomy_file(subject),
        ]
        if dataset.is_through_native:
            wanted += [
                dataset.transform_file(subject, transform, hemisphere)
                for transform in NATIVE_TRANSFORMS
                for hemisphere in HEMISPHERES
            ]
            native = replace(dataset, space=NATIVESURFACE)
            wanted += [native.ncsnr_file(subject, hemisphere) for hemisphere in HEMISPHERES]
        for volume in sorted(volumes):
            wanted += [dataset.roi_file(subject, volume, side) for side in sides]
            wanted.append(dataset.label_table(subject, volume))
        if run.single_trials:
            wanted.append(behaviour_file(dataset, subject))
            wanted += [
                dataset.ncsnr_split_file(subject, split, side)
                for split in (1, 2)
                for side in dataset.sides
            ]
    # On fsaverage all subjects have the same labels.
    dataset.source.fetch_files(list(dict.fromkeys(path for path in wanted if path is not None)))


def _by_subject(
    run: Run, problems: Problems, outcomes: Iterable[Callable[[], _Value]]
) -> dict[int, _Value]:
    results = (problems.collect(outcome) for outcome in outcomes)
    return {
        subject: result
        for subject, result in zip(run.subjects, results, strict=True)
        if result is not None
    }


def _check_minima(
    minima: VoxelMinima, subject: int, selection: VoxelSelection, ceilings: NoiseCeilings
) -> None:
    """Raise where none of a subject's voxels has what is asked for, before any is read."""
    regions = {name: voxels for name, voxels in selection.regions.items() if len(voxels)}
    voxels = trial_voxels(regions, selection.space, ceilings.ncsnr.values, ceilings.splits)
    minima.select(voxels, subject)


def _check_features(run: Run, trials: Trials) -> FileRecord:
    """Raise where a features file is not of its form, or has not the images; return its record."""
    assert run.features is not None
    content = read_whole(run.features)
    features = parse_features(content, str(run.features))
    if (n_images := count_images(run.dataset())) is not None:
        check_ids(features.nsd_ids, n_images, f"The features file {run.features}")
    features.select(trials.nsd_ids)
    return FileRecord(path=str(run.features), bytes=len(content), blake3=digest_of_bytes(content))


def _fits_synthetic_latents(run: Run) -> bool:
    """Return whether a report is to show how well a synthetic dataset's latents predict."""
    dataset = run.dataset()
    in_folder = dataset.source.transfer is None  # of a bucket it is fetched when needed
    wanted = run.assemblies and run.brainscore and run.report and run.features is None
    return wanted and in_folder and dataset.truth_folder is not None


def _why_no_images(run: Run, trials: Trials) -> str:
    """Return why no stimulus sets can be made of a folder's images; empty where they can be."""
    dataset = run.dataset()
    if not (run.assemblies and run.brainscore) or dataset.source.transfer is not None:
        return ""
    try:
        check_images_file(dataset.images_file, trials.nsd_ids)
    except (NSDPrepError, OSError) as error:
        return str(error)
    return ""
