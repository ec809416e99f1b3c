"""Which spaces a copy of NSD can be read in, and what the others would need."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from nsd_prep.core.parameters import SpaceName, SurfaceFiles
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.regions import built_in_regions
from nsd_prep.dataset.space import FSAVERAGE


def describe_spaces(dataset: Dataset, subjects: Sequence[int]) -> str:
    """Return in a line which spaces some subjects (1-based) can be read in, as far as files tell.

    Of each subject the first session is looked for, with the labels of V1 and of IT.
    """
    there, lacking = [], []
    for space in get_args(SpaceName):
        missing = _missing(dataset, subjects, space)
        if missing is None:
            there.append(space)
        else:
            lacking.append(f"{space} would need {missing.relative_to(dataset.root)}")
    return "; ".join([f"Spaces that are there: {', '.join(there) or 'none'}", *lacking]) + "."


def _missing(dataset: Dataset, subjects: Sequence[int], space: SpaceName) -> Path | None:
    """Return a file that is missing to read a space; None where nothing is."""
    first = []
    choices: tuple[SurfaceFiles, ...] = ("native", "mgh") if space == FSAVERAGE else ("native",)
    for choice in choices:
        in_space = replace(dataset, space=space, surface_files=choice)
        files = (file for subject in subjects for file in _needed(in_space, subject))
        missing = next((file for file in files if not dataset.exists(file)), None)
        if missing is None:
            return None
        first.append(missing)
    return first[0]


def _needed(dataset: Dataset, subject: int) -> Iterator[Path]:
    """Give files that a subject needs in the dataset's space."""
    for side in dataset.sides:
        yield dataset.session_file(subject, 1, side)
    for side in dataset.sides:
        yield dataset.ncsnr_file(subject, side)
        if side is not None and dataset.is_through_native:
            yield dataset.transform_file(subject, "white-to-fsaverage", side)
    regions = built_in_regions(dataset.space)
    for atlas in (*regions["V1"].labels, *regions["IT"].labels):
        for side in dataset.sides:
            labels = dataset.roi_file(subject, atlas, side)
            halves = dataset.roi_file(subject, atlas, "lh")
            yield labels if side or dataset.exists(labels) else halves
