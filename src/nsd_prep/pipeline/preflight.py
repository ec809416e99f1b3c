"""The first look at the inputs, which is also their loading: all problems are reported at once."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from nsd_prep.analysis.features import check_ids, parse_features
from nsd_prep.core.atomic import remove_stale_partials, writable_folder
from nsd_prep.core.digests import read_whole, sha256_of_bytes
from nsd_prep.core.errors import NSDPrepError, PreflightError
from nsd_prep.core.problems import Problems
from nsd_prep.core.records import FileRecord
from nsd_prep.core.threads import each_in_threads
from nsd_prep.dataset.behaviour import behaviour_file
from nsd_prep.dataset.images import check_images_file
from nsd_prep.dataset.masks import labels_that_are_nowhere
from nsd_prep.dataset.regions import BUILT_IN_REGIONS, ROI_VOLUMES
from nsd_prep.dataset.source import Source
from nsd_prep.dataset.stimulus_table import count_images
from nsd_prep.pipeline.inputs import Inputs, Masks, NoiseCeilings, Trials
from nsd_prep.pipeline.loading import (
    check_space,
    load_masks,
    load_noise_ceilings,
    look_at_sessions,
    map_trials,
)
from nsd_prep.pipeline.run import Run
from nsd_prep.synthetic import read_truth

_Value = TypeVar("_Value")


#: Calls a step with the run and each of some arguments; gives for each a function that returns its
#: result or raises its error.
Mapped = Callable[[Callable[..., Any], Run, Iterable[Any]], list[Callable[[], Any]]]


class Steps(NamedTuple):
    """The steps of the first look: functions of the library, or Prefect tasks around them."""

    map_trials: Callable[[Run], Trials]
    load_masks: Callable[[Run, int], Masks]
    load_noise_ceilings: Callable[[Run, int], NoiseCeilings]
    mapped: Mapped


def _with_addresses(problems: Sequence[str], source: Source) -> list[str]:
    """Name files of a remote dataset by their addresses, not by their places in the mirror."""
    name = "file"
    address = source.where(source.root / name).removesuffix(name)
    return [problem.replace(f"{source.root}{os.sep}", address) for problem in problems]


def load_inputs(run: Run, steps: "Steps | None" = None) -> Inputs:
    """Look for, read and check everything that a run needs.

    Parameters
    ----------
    run : Run
        What is asked for.
    steps : Steps, optional
        What does the work; the functions of `nsd_prep.pipeline.loading` where nothing is given.

    Raises
    ------
    PreflightError
        All that is wrong, a sentence each.
    """
    steps = steps or Steps(map_trials, load_masks, load_noise_ceilings, _in_threads)
    problems = Problems()
    problems.collect(_fetch_small_files, run)
    if problems.found:  # nothing answers: to try each file in turn would take minutes
        raise PreflightError(problems.found)
    for check, folder in (
        (writable_folder, run.output_dir),
        (writable_folder, run.cache_dir),
        (remove_stale_partials, run.cache_dir),
    ):
        problems.collect(check, folder)
    trials = problems.collect(steps.map_trials, run)
    masks = _by_subject(run, problems, steps.mapped(steps.load_masks, run, run.subjects))
    loaded = steps.mapped(steps.load_noise_ceilings, run, run.subjects)
    noise_ceilings = _by_subject(run, problems, loaded)
    if len(masks) == len(run.subjects):
        selections = [one.selection for one in masks.values()]
        problems.found.extend(labels_that_are_nowhere(selections))
    for subject in set(masks) & set(noise_ceilings):
        ncsnr = noise_ceilings[subject]
        selection = masks[subject].selection
        problems.collect(check_space, subject, ncsnr.files[0].path, ncsnr.volume, selection)
    features = None
    if run.features is not None and trials is not None:
        features = problems.collect(_check_features, run, trials)
    if _fits_synthetic_latents(run):
        problems.collect(read_truth, run.dataset().source.root)
    betas = {}
    if trials is not None:
        betas = problems.collect(look_at_sessions, run.dataset(), trials.sessions, masks) or {}
    if problems.found or trials is None:
        raise PreflightError(_with_addresses(problems.found, run.dataset().source))
    no_images = _why_no_images(run, trials)
    return Inputs(run.dataset(), trials, masks, noise_ceilings, betas, features, no_images)


def _fetch_small_files(run: Run) -> None:
    """Fetch the small files of a remote dataset together, as far as they are there."""
    dataset = run.dataset()
    volumes = {name for region in run.regions.values() for name in region.labels}
    if run.keep_voxels:  # of whatever region a later run may ask for
        volumes |= {*BUILT_IN_REGIONS[run.keep_voxels].labels, *ROI_VOLUMES}
    wanted: list[Path | None] = [dataset.design_file, dataset.stimulus_table]
    for subject in run.subjects:
        wanted += [
            dataset.ncsnr_file(subject),
            dataset.brain_mask_file(subject),
            dataset.anatomy_file(subject),
        ]
        for volume in sorted(volumes):
            wanted += [dataset.roi_file(subject, volume, side) for side in (None, "lh", "rh")]
            wanted.append(dataset.label_table(subject, volume))
        if run.single_trials:
            wanted.append(behaviour_file(dataset, subject))
    dataset.source.fetch_files([path for path in wanted if path is not None])


def _in_threads(
    step: Callable[..., Any], run: Run, arguments: Iterable[Any]
) -> list[Callable[[], Any]]:
    def outcome(argument: Any) -> Callable[[], Any]:
        try:
            value = step(run, argument)
        except (NSDPrepError, OSError) as error:
            raised = error

            def fail() -> Any:
                raise raised

            return fail
        return lambda: value

    return each_in_threads(outcome, arguments)


def _by_subject(
    run: Run, problems: Problems, outcomes: Iterable[Callable[[], _Value]]
) -> dict[int, _Value]:
    results = (problems.collect(outcome) for outcome in outcomes)
    return {
        subject: result
        for subject, result in zip(run.subjects, results, strict=True)
        if result is not None
    }


def _check_features(run: Run, trials: Trials) -> FileRecord:
    """Raise where a features file is not of its form, or has not the images; return its record."""
    assert run.features is not None
    content = read_whole(run.features)
    features = parse_features(content, str(run.features))
    if (n_images := count_images(run.dataset())) is not None:
        check_ids(features.nsd_ids, n_images, f"The features file {run.features}")
    features.select(trials.nsd_ids)
    return FileRecord(path=str(run.features), bytes=len(content), sha256=sha256_of_bytes(content))


def _fits_synthetic_latents(run: Run) -> bool:
    """Return whether a report is to show how well a synthetic dataset's latents predict."""
    dataset = run.dataset()
    in_folder = not hasattr(dataset.source, "transfer")  # of a bucket it is fetched when needed
    wanted = run.assemblies and run.brainscore and run.report and run.features is None
    return wanted and in_folder and dataset.truth_folder is not None


def _why_no_images(run: Run, trials: Trials) -> str:
    """Return why no stimulus sets can be made of a folder's images; empty where they can be."""
    dataset = run.dataset()
    if not (run.assemblies and run.brainscore) or hasattr(dataset.source, "transfer"):
        return ""
    try:
        check_images_file(dataset.images_file, trials.nsd_ids)
    except (NSDPrepError, OSError) as error:
        return str(error)
    return ""
