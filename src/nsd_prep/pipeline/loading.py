"""What a run needs of a dataset, loaded and checked: trials, masks, noise ceilings, sessions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.counts import counted
from nsd_prep.core.digests import digest_of_bytes, read_whole
from nsd_prep.core.errors import InputFileError, ParameterError, PreflightError
from nsd_prep.core.problems import Problems
from nsd_prep.core.records import FileRecord
from nsd_prep.dataset import published
from nsd_prep.dataset.behaviour import behaviour_file, read_behaviour
from nsd_prep.dataset.beta_files import (
    beta_files,
    check_published_vertices,
    read_native_vertices,
)
from nsd_prep.dataset.coco import annotation_files
from nsd_prep.dataset.design import Design, read_design
from nsd_prep.dataset.image_table import table_of_images
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.masks import select_voxels
from nsd_prep.dataset.misplaced import betas_in_other_forms
from nsd_prep.dataset.regions import VoxelSelection, built_in_regions
from nsd_prep.dataset.source import Identity
from nsd_prep.dataset.space import FUNC1PT8MM, HEMISPHERES, SurfaceSpace
from nsd_prep.dataset.splits import (
    OWN_SPLIT,
    UNUSED,
    read_split_file,
    train_images,
    training_trials,
)
from nsd_prep.dataset.stimulus_table import contradictions, read_stimulus_table
from nsd_prep.dataset.surfaces import SurfaceMap, read_vertex_ncsnr
from nsd_prep.dataset.trials import (
    check_planned_trials,
    planned_trials,
    read_coco_ids,
    repetition_counts,
    shared_trials,
    shows_images,
    trial_table,
    usable_images,
    usable_nsd_ids,
    with_usable,
)
from nsd_prep.dataset.volumes import Volume, read_ncsnr, read_volume
from nsd_prep.pipeline.inputs import Masks, NoiseCeilings, Trials
from nsd_prep.pipeline.run import Run
from nsd_prep.sources.recorder import Recorder


def map_trials(run: Run) -> Trials:
    """Find the trials of the shared images: the design, checked against its copy, and the split.

    Raises
    ------
    PreflightError, InputFileError, ParameterError
        The design contradicts itself, its copy or the dataset's shape, or gives no image.
    """
    dataset, recorder = _recorded(run.dataset())
    design = read_design(dataset.design_file, dataset.read)
    if dataset.is_nsd:
        _check_published_sizes(dataset.design_file, design)
    for subject in run.subjects:
        check_planned_trials(
            dataset.design_file,
            design,
            subject,
            dataset.sessions[subject],
            dataset.trials_per_session,
        )
    if dataset.exists(dataset.stimulus_table):
        problems = contradictions(
            design,
            read_stimulus_table(dataset.stimulus_table, run.subjects, dataset.read),
            {subject: dataset.trials(subject) for subject in run.subjects},
            dataset.design_file,
            dataset.stimulus_table,
        )
        if problems:
            raise PreflightError(problems)
    table = pd.concat(
        [
            shared_trials(design, subject, dataset.sessions[subject], dataset.trials_per_session)
            for subject in run.subjects
        ],
        ignore_index=True,
    )
    table = with_usable(table, usable_images(table, run.subjects))
    is_train = train_images(len(usable_nsd_ids(table)), run.seed, run.train_fraction)
    counts = repetition_counts(table, design.shared_nsd_ids)
    all_trials = {}
    images = None
    own_split, own_file = _own_split(run, design)
    if run.single_trials:
        nsd_ids = usable_nsd_ids(table)
        all_trials = {
            subject: _all_trials(run, dataset, design, subject, nsd_ids, own_split)
            for subject in run.subjects
        }
        images = table_of_images(dataset, design)
        if run.coco_annotations and "coco_split" in images:
            annotation_files(run.coco_annotations, sorted(set(images["coco_split"])))
    files = (*recorder.files.values(), *([] if own_file is None else [own_file]))
    planned = {
        subject: planned_trials(
            design, subject, dataset.sessions[subject], dataset.trials_per_session
        )
        for subject in run.subjects
    }
    split: dict[str, str | int | float] = {
        "split_subjects": " ".join(str(subject) for subject in run.subjects),
        "seed": run.seed,
        "train_fraction": run.train_fraction,
    }
    return Trials(table, counts, is_train, files, all_trials, images, split, planned)


def _own_split(run: Run, design: Design) -> tuple[pd.Series | None, FileRecord | None]:
    """Return the part of each image that the split file lists, by nsd_id, and the file's record."""
    if not (run.single_trials and run.split_file):
        return None, None
    content = read_whole(run.split_file)
    split = read_split_file(run.split_file, np.unique(design.nsd_id_of_image), lambda _: content)
    path, digest = str(run.split_file), digest_of_bytes(content)
    return split, FileRecord(path=path, bytes=len(content), blake3=digest)


def _all_trials(
    run: Run,
    dataset: Dataset,
    design: Design,
    subject: int,
    nsd_ids: NDArray[np.int64],
    own_split: pd.Series | None,
) -> pd.DataFrame:
    """Return all trials of a subject, with what the dataset has beside the design."""
    table = dataset.stimulus_table
    trials = trial_table(
        design,
        subject,
        dataset.sessions,
        dataset.trials_per_session,
        nsd_ids,
        seed=run.seed,
        train_fraction=run.train_fraction,
        coco_ids=read_coco_ids(table, dataset.read) if dataset.exists(table) else None,
    )
    if own_split is not None:
        trials[OWN_SPLIT] = own_split.reindex(trials["nsd_id"], fill_value=UNUSED).to_numpy(object)
    if run.normalise == "train-only":
        training = trials.loc[training_trials(trials, run.training_split), "session"]
        written = trials.loc[shows_images(trials, run.images), "session"]
        lacking = sorted(set(written) - set(training))
        if lacking:
            raise ParameterError(
                f"Sessions {', '.join(map(str, lacking))} of subject {subject} show no training "
                f"image of the split {run.training_split}: expected some in each session for "
                'normalise="train-only"; choose split="shared1000", or another normalisation.'
            )
    behaviour = behaviour_file(dataset, subject)
    if dataset.exists(behaviour):
        trials = trials.join(read_behaviour(behaviour, subject, trials, dataset.read))
    return trials


def load_masks(run: Run, subject: int) -> Masks:
    """Find the voxels of a subject's (1-based) regions, and read the volumes around them.

    Raises
    ------
    MissingFilesError, InputFileError, ParameterError
        As `nsd_prep.dataset.masks.select_voxels`.
    """
    dataset, recorder = _recorded(run.dataset())
    built_in = built_in_regions(dataset.space)
    keep_definition = {run.keep_voxels: built_in[run.keep_voxels]} if run.keep_voxels else {}
    selection = select_voxels(dataset, subject, run.regions | keep_definition, run.missing_regions)
    keep = selection.regions[run.keep_voxels] if run.keep_voxels else None
    selection = replace(
        selection,
        regions={name: selection.regions[name] for name in run.regions},
        absent_labels=tuple(label for label in selection.absent_labels if label[0] in run.regions),
    )
    space = selection.space
    if isinstance(space, SurfaceSpace):
        check_published_vertices(dataset, subject, space, "The region labels")
        through = dataset.is_through_native
        native = read_native_vertices(dataset, subject, space) if through else None
        files = tuple(recorder.files.values())
        return Masks(subject, selection, files=files, keep=keep, native=native)
    expected = published.GRIDS[subject][::-1]
    if dataset.is_nsd and dataset.space == FUNC1PT8MM and space.shape != expected:
        raise InputFileError(
            f"The label volumes of subject {subject} lie on the grid (Z, Y, X) {space.shape}: "
            f"expected {expected}, NSD's {space.name}; download them again, in that space."
        )
    optional = []
    for path in (dataset.brain_mask_file(subject), dataset.anatomy_file(subject)):
        there = path is not None and dataset.exists(path)
        volume = (
            read_volume(path, dataset.read, dataset.space) if path is not None and there else None
        )
        if path is not None and volume is not None:
            check_space(subject, str(path), volume, selection)
        optional.append(None if volume is None else volume.values)
    brain = None if optional[0] is None else optional[0] > 0
    return Masks(subject, selection, brain, optional[1], tuple(recorder.files.values()), keep)


def load_noise_ceilings(run: Run, subject: int) -> NoiseCeilings:
    """Read the noise ceiling SNR of all sites of a subject (1-based).

    Raises
    ------
    FileNotFoundError, InputFileError
        As `nsd_prep.dataset.volumes.read_ncsnr`.
    """
    dataset, recorder = _recorded(run.dataset())
    ncsnr: Volume | SurfaceMap
    if dataset.is_surface:
        files = [dataset.ncsnr_file(subject, hemisphere) for hemisphere in HEMISPHERES]
        left, right = (read_vertex_ncsnr(file, dataset.read) for file in files)
        space = SurfaceSpace((len(left), len(right)), dataset.space)
        ncsnr = SurfaceMap(np.concatenate([left, right]), space)
    else:
        ncsnr = read_ncsnr(dataset.ncsnr_file(subject), dataset.read, dataset.space)
    splits = _read_ncsnr_splits(dataset, subject, ncsnr.space.n_sites) if run.single_trials else ()
    return NoiseCeilings(subject, ncsnr, tuple(recorder.files.values()), splits)


def _read_ncsnr_splits(
    dataset: Dataset, subject: int, n_sites: int
) -> tuple[NDArray[np.float32], ...]:
    """Read the ncsnr of all sites over each half of the images, where both are there."""
    splits = []
    for split in (1, 2):
        files = [dataset.ncsnr_split_file(subject, split, side) for side in dataset.sides]
        if not all(map(dataset.exists, files)):
            return ()
        if dataset.is_surface:
            values = np.concatenate([read_vertex_ncsnr(file, dataset.read) for file in files])
        else:
            values = read_ncsnr(files[0], dataset.read, dataset.space).values.ravel()
        if len(values) != n_sites:
            raise InputFileError(
                f"{files[0]} has the ncsnr of {len(values)} sites: expected {n_sites}, as "
                f"{dataset.ncsnr_file(subject, dataset.sides[0])} has; download both again."
            )
        splits.append(values)
    return tuple(splits)


def look_at_sessions(
    dataset: Dataset, sessions: Mapping[int, tuple[int, ...]], masks: Mapping[int, Masks]
) -> dict[tuple[int, int], tuple[Identity, ...]]:
    """Open the betas of every needed session and check their form.

    Parameters
    ----------
    dataset : Dataset
        Where they are.
    sessions : mapping of int to tuple of int
        Sessions (1-based) of each subject.
    masks : mapping of int to Masks
        Of the subjects whose masks are sound; the other subjects' sessions are only looked for.

    Returns
    -------
    dict of (int, int) to tuple of FileIdentity
        By subject and session, of each of its files.

    Raises
    ------
    PreflightError
        Sessions are missing, or not what they should be.
    """
    problems = Problems()
    paths = {
        (subject, session): tuple(
            dataset.session_file(subject, session, side) for side in dataset.sides
        )
        for subject, numbers in sessions.items()
        for session in numbers
    }
    every = [path for files in paths.values() for path in files]
    source = dataset.source
    source.look_up(every)
    missing = [path for path in every if not source.exists(path)]
    if missing and source.transfer is not None:
        problems.collect(source.identities, missing)  # tells those that are not there from others
    elif missing:
        listed = "".join(f"\n      {source.where(path)}" for path in missing)
        instead = betas_in_other_forms(dataset, missing)
        listed += "".join(f"\n      found {path}: {advice}" for path, advice in instead.items())
        found = counted(len(missing), "session file is", "session files are")
        problems.found.append(
            f"{found} missing: expected each session that holds a usable trial, "
            f"download them, or describe a smaller copy in dataset.json:{listed}"
        )
    for subject, session in paths:
        if subject not in masks:
            continue
        own = masks[subject]
        for file in beta_files(dataset, subject, session, own.selection.space, own.native):
            if file.path not in missing:
                n_trials = dataset.trials_per_session
                problems.collect(source.check_session, file.path, file.shape, n_trials)
    there = [path for path in every if path not in missing]
    identities = problems.collect(source.identities, there)
    if problems.found or identities is None:
        raise PreflightError(problems.found)
    return {key: tuple(identities[path] for path in files) for key, files in paths.items()}


def _recorded(dataset: Dataset) -> tuple[Dataset, Recorder]:
    """Return a dataset that records what is read of it."""
    recorder = Recorder(dataset.source)
    return replace(dataset, source=recorder), recorder


def _check_published_sizes(path: Any, design: Design) -> None:
    sizes = (
        len(design.image_of_trial),
        *design.nsd_id_of_image.shape,
        len(design.shared_nsd_ids),
    )
    expected = (
        published.PLANNED_TRIALS,
        len(published.SUBJECTS),
        published.IMAGES_OF_A_SUBJECT,
        published.SHARED_IMAGES,
    )
    highest = int(design.nsd_id_of_image.max()) + 1
    if sizes != expected or highest > published.IMAGES:
        raise InputFileError(
            f"The design {path} does not have NSD's sizes: expected {expected} trials, subjects, "
            f"images of a subject and shared images and ids up to {published.IMAGES}, found "
            f"{sizes} and {highest}; download it again, or describe another dataset in "
            "dataset.json."
        )


def check_space(
    subject: int, path: str, volume: Volume | SurfaceMap, selection: VoxelSelection
) -> None:
    """Raise InputFileError where values lie elsewhere than a subject's region labels."""
    if difference := volume.space.difference(selection.space):
        raise InputFileError(
            f"{path} lies in another space than the region labels of subject {subject}: expected "
            f"the same, found {difference}; download both again."
        )
