"""Masks of a subject's regions, read from the dataset's region labels."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.counts import counted
from nsd_prep.core.errors import InputFileError, MissingFilesError, ParameterError
from nsd_prep.core.parameters import MissingRegions
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.regions import (
    LABELS_OF_SPACES,
    RegionDefinition,
    VoxelSelection,
    merge_hemispheres,
    numbered_labels,
    voxels_with_labels,
)
from nsd_prep.dataset.space import FSAVERAGE, HEMISPHERES, Hemisphere, SurfaceSpace
from nsd_prep.dataset.surfaces import SurfaceMap, read_vertex_labels
from nsd_prep.dataset.volumes import (
    Volume,
    read_label_table,
    read_label_volume,
)


class Bilateral(NamedTuple):
    """Labels of both hemispheres.

    Attributes
    ----------
    labels : Volume or SurfaceMap
        Labels, int16, of both, for all sites.
    sides : tuple of two ndarrays of int64, or None
        Labelled voxels (sites) of the left and of the right hemisphere,
        where the dataset has a volume of each.
    """

    labels: Volume | SurfaceMap
    sides: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None


def read_bilateral_volume(dataset: Dataset, subject: int, volume: str) -> Bilateral:
    """Read the labels of both hemispheres.

    Parameters
    ----------
    dataset : Dataset
        Where the files are.
    subject : int
        1-based.
    volume : str
        Such as ``"prf-visualrois"``.

    Returns
    -------
    Bilateral
        The bilateral volume, or both hemispheres' merged where only those are there.

    Raises
    ------
    MissingFilesError
        Neither the bilateral volume nor both hemispheres' are there.
    InputFileError
        The three volumes are there and disagree, or the hemispheres overlap.
    """
    bilateral_file = dataset.roi_file(subject, volume)
    files = [dataset.roi_file(subject, volume, hemisphere) for hemisphere in HEMISPHERES]
    if not all(dataset.exists(file) for file in files):
        if dataset.exists(bilateral_file):
            return Bilateral(read_label_volume(bilateral_file, dataset.read, dataset.space))
        names = ", ".join(
            str(file) for file in (bilateral_file, *files) if not dataset.exists(file)
        )
        raise MissingFilesError(
            f"The labels {volume} of subject {subject} are missing: expected {bilateral_file}, or "
            f"the volumes of both hemispheres beside it (not there: {names}); download them."
        )
    left, right = (read_label_volume(file, dataset.read, dataset.space) for file in files)
    _check_same_space(subject, {files[0]: left, files[1]: right})
    labels, overlap = merge_hemispheres(left.values, right.values)
    if overlap:
        raise InputFileError(
            f"The hemispheres of subject {subject} overlap in {counted(overlap, 'voxel')}: "
            f"{files[0]} and {files[1]} are expected to share none (-1 is outside; 0 where there "
            "is no -1); download both again."
        )
    merged = Volume(labels, left.space)
    sides = (np.flatnonzero(left.values > 0), np.flatnonzero(right.values > 0))
    if not dataset.exists(bilateral_file):
        return Bilateral(merged, sides)
    bilateral = read_label_volume(bilateral_file, dataset.read, dataset.space)
    _check_same_space(subject, {files[0]: left, bilateral_file: bilateral})
    different = int(np.count_nonzero(bilateral.values != merged.values))
    if different:
        raise InputFileError(
            f"The hemispheres of subject {subject} disagree with the bilateral volume in "
            f"{counted(different, 'voxel')}: {bilateral_file} is expected to hold the labels of "
            f"{files[0]} and {files[1]}; download all three again."
        )
    return Bilateral(bilateral, sides)


def read_surface_labels(
    dataset: Dataset, subject: int, name: str, hemisphere: Hemisphere | None = None
) -> Bilateral:
    """Read the labels of both hemispheres' vertices.

    Parameters
    ----------
    dataset : Dataset
        On fsaverage or subjects' own surfaces.
    subject : int
        1-based.
    name : str
        Such as ``"streams"``.
    hemisphere : {"lh", "rh"}, optional
        Where it is given, vertices of the other have no label.

    Raises
    ------
    MissingFilesError
        A hemisphere's file is not there.
    InputFileError
        A file is not sound.
    """
    files = [dataset.roi_file(subject, name, side) for side in HEMISPHERES]
    missing = [str(file) for file in files if not dataset.exists(file)]
    if missing:
        held = LABELS_OF_SPACES[dataset.space]
        whose = dataset.space if dataset.space == FSAVERAGE else f"subject {subject}"
        if name not in held:
            advice = f"choose a region of those that {dataset.space} has, {', '.join(held)}"
        elif dataset.truth_folder is not None:
            advice = "nsd-prep synth ROOT --surfaces writes a synthetic dataset that has them"
        else:
            advice = "download them"
        raise MissingFilesError(
            f"The labels {name} of {whose} are missing: expected {' and '.join(missing)}; {advice}."
        )
    left, right = (read_vertex_labels(file, dataset.read) for file in files)
    space = SurfaceSpace((len(left), len(right)), dataset.space)
    labels = np.concatenate([left, right])
    if hemisphere is not None:
        first, stop = space.hemisphere_sites(hemisphere)
        labels[:first] = labels[stop:] = 0
    return Bilateral(SurfaceMap(labels, space))


def _check_same_space(subject: int, volumes: Mapping[Path, Volume | SurfaceMap]) -> None:
    """Raise where labels of a subject lie in another space than the first of them."""
    (first_path, first), *others = volumes.items()
    for path, volume in others:
        if difference := volume.space.difference(first.space):
            raise InputFileError(
                f"The label volumes of subject {subject} lie in different spaces: expected {path} "
                f"in that of {first_path}, found {difference}; download both again."
            )


def select_voxels(
    dataset: Dataset,
    subject: int,
    definitions: Mapping[str, RegionDefinition],
    missing_regions: MissingRegions = "error",
) -> VoxelSelection:
    """Find the voxels of each region in a subject; every volume is read once.

    Parameters
    ----------
    dataset : Dataset
        Where the files are.
    subject : int
        1-based.
    definitions : mapping of str to RegionDefinition
        The regions of the run.
    missing_regions : {"error", "skip"}
        Whether a region may have no voxel in the subject.

    Returns
    -------
    VoxelSelection
        Every region has at least one voxel; with "skip" one region at least has.

    Raises
    ------
    MissingFilesError, InputFileError
        A volume is not there or not sound.
    ParameterError
        A region is empty in this subject, with "skip" all of them, or a label's name is unknown.
    """
    volumes: dict[tuple[str, Hemisphere | None], Volume | SurfaceMap] = {}
    hemispheres = None
    regions: dict[str, NDArray[np.int64]] = {}
    absent: list[tuple[str, str, int]] = []
    for name, definition in definitions.items():
        parts = []
        asked = {}
        for volume, labels in definition.labels.items():
            key = (volume, definition.hemisphere)
            if key not in volumes:
                read = _read_labels(dataset, subject, *key)
                volumes[key] = read.labels
                hemispheres = hemispheres or read.sides
            numbers = _label_numbers(dataset, subject, name, volume, labels)
            parts.append(voxels_with_labels(volumes[key].values, numbers))
            held = set(np.unique(volumes[key].values.flat[parts[-1]]).tolist())
            absent.extend((name, volume, label) for label in numbers if label not in held)
            asked[key] = _with_numbers(labels, numbers)
        regions[name] = np.unique(np.concatenate(parts))
        if len(regions[name]) == 0 and missing_regions == "error":
            found = "; ".join(
                f"{_file(dataset, subject, *key)} holds none of its labels {labels_asked}, but "
                f"{_labels_held(volumes[key].values)}"
                for key, labels_asked in asked.items()
            )
            raise ParameterError(
                f"The region {name} is empty in subject {subject}: {found}; use "
                'missing_regions="skip", leave out the region or the subject, or correct the '
                "region's labels."
            )
    if not any(len(voxels) for voxels in regions.values()):
        raise ParameterError(
            f"Subject {subject} has none of the regions {', '.join(regions)}: leave out the "
            "subject, or choose another region beside them."
        )
    _check_same_space(
        subject, {_file(dataset, subject, *key): volume for key, volume in volumes.items()}
    )
    space = next(iter(volumes.values())).space
    return VoxelSelection(space, regions, tuple(absent), hemispheres)


def labels_that_are_nowhere(selections: Iterable[VoxelSelection]) -> list[str]:
    """List the labels of the regions, and the regions, that no subject has.

    Parameters
    ----------
    selections : iterable of VoxelSelection
        Of all the subjects of a run. One subject may lack a label that another has.

    Returns
    -------
    list of str
        One sentence a label; one a region where subjects have other labels by the same names.
    """
    selections = list(selections)
    nowhere = set.intersection(*(set(selection.absent_labels) for selection in selections))
    labels = [
        f"The label {label} of the region {region} does not exist: no chosen subject has it in "
        f"{volume}; correct the region's labels."
        for region, volume, label in sorted(nowhere)
    ]
    reported = {region for region, _, _ in nowhere}
    return labels + [
        f"The region {region} is empty: no chosen subject has a voxel of it; leave it out, or "
        "correct its labels."
        for region in selections[0].regions
        if region not in reported
        and not any(len(selection.regions[region]) for selection in selections)
    ]


def _read_labels(
    dataset: Dataset, subject: int, volume: str, hemisphere: Hemisphere | None
) -> Bilateral:
    if dataset.is_surface:
        return read_surface_labels(dataset, subject, volume, hemisphere)
    if hemisphere is None:
        return read_bilateral_volume(dataset, subject, volume)
    file = dataset.roi_file(subject, volume, hemisphere)
    if not dataset.exists(file):
        raise MissingFilesError(
            f"The labels {volume} of subject {subject} in hemisphere {hemisphere} are missing: "
            f"expected {file}; download it."
        )
    return Bilateral(read_label_volume(file, dataset.read, dataset.space))


def _label_numbers(
    dataset: Dataset, subject: int, region: str, volume: str, labels: Iterable[int | str]
) -> tuple[int, ...]:
    names = [label for label in labels if isinstance(label, str)]
    if not names:
        return numbered_labels(labels, {})
    path = dataset.label_table(subject, volume)
    if path is None or not dataset.exists(path):
        where = "the flat layout has no label tables" if path is None else f"{path} is not there"
        raise ParameterError(
            f"The region {region} names the label {', '.join(names)} of {volume}, and {where}: "
            "give label numbers instead."
        )
    try:
        return numbered_labels(labels, read_label_table(path, dataset.read))
    except ParameterError as error:
        raise ParameterError(f"In the region {region}, by {path}, {error}") from error


def _file(dataset: Dataset, subject: int, volume: str, hemisphere: Hemisphere | None) -> Path:
    if dataset.is_surface:
        return dataset.roi_file(subject, volume, hemisphere or "lh")
    file = dataset.roi_file(subject, volume, hemisphere)
    if hemisphere is None and not dataset.exists(file):
        return dataset.roi_file(subject, volume, "lh")
    return file


def _with_numbers(labels: Sequence[int | str], numbers: Iterable[int]) -> str:
    """Return labels as text; where there are names among them, with the numbers of all."""
    text = ", ".join(map(str, labels))
    has_names = any(isinstance(label, str) for label in labels)
    return f"{text} (number {', '.join(map(str, numbers))})" if has_names else text


def _labels_held(labels: NDArray[np.int16]) -> str:
    return ", ".join(map(str, np.unique(labels[labels > 0]).tolist())) or "no other"
