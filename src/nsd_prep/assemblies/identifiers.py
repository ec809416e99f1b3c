"""Names that Brain-Score knows: identifiers, registry entries, file names."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Final, Literal

from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.space import FSAVERAGE, FUNC1PT8MM, SURFACES

Split = Literal["train", "test"]

SPLITS: Final[tuple[Split, ...]] = ("train", "test")
#: The subjects that completed all sessions; a benchmark of them alone has a name of its own.
COMPLETE_SUBJECTS: Final = frozenset({"subj01", "subj02", "subj05", "subj07"})
#: What the attribute ``dataset`` of an assembly holds where it was made from NSD itself.
NSD: Final = "NSD"
_PUBLISHED: Final = "Allen2022"

#: What the names of data in a space have; of published data there are two.
_OF_SPACES: Final = {FUNC1PT8MM: "", FSAVERAGE: "_surface"}

#: Names that may enter file names and generated Python; they hold neither quotes nor slashes.
REGION_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9_-]*"
SUBJECT_PATTERN: Final = r"subj[0-9]{2}"
STIMULUS_PATTERN: Final = r"nsd_[0-9]{5}"


def base_name(dataset: str) -> str:
    """Return what the identifiers of a dataset begin with: ``Allen2022`` for NSD.

    For any other its own name, in letters and digits joined by underscores: nothing made from it
    can be taken for NSD. InputFileError where the name has no letter, or would read as NSD's.
    """
    if dataset == NSD:
        return _PUBLISHED
    name = "_".join(re.findall(r"[A-Za-z0-9]+", dataset))
    reserved = name.casefold() == "nsd" or name.casefold().startswith(_PUBLISHED.casefold())
    if reserved or not re.match("[A-Za-z]", name):
        raise InputFileError(
            f"The dataset name {dataset!r} cannot be that of a package: expected {NSD!r} for NSD "
            f"itself, and otherwise a name of its own that begins with a letter and not with "
            f"{_PUBLISHED}; change it in dataset.json, and run the flow again."
        )
    return name


def variant(subjects: Collection[str]) -> str:
    """Return ``_4subj`` for subj01, subj02, subj05 and subj07, and nothing for any other choice."""
    return "_4subj" if set(subjects) == COMPLETE_SUBJECTS else ""


def of_space(space: str) -> str:
    """Return ``_surface`` for fsaverage, nothing for func1pt8mm, and for others their name.

    Only what lies in these two can be taken for the published data.
    """
    return _OF_SPACES.get(space, f"_{space}")


def assembly_identifier(
    dataset: str, subjects: Collection[str], split: Split, space: str = FUNC1PT8MM
) -> str:
    """Return the identifier of an assembly, for subjects as ``subj01``."""
    return f"{base_name(dataset)}_fMRI{of_space(space)}{variant(subjects)}_{split}_Assembly"


def stimulus_set_identifier(dataset: str, subjects: Collection[str], split: Split) -> str:
    """Return the identifier of a stimulus set, for subjects as ``subj01``."""
    return f"{base_name(dataset)}_fMRI{variant(subjects)}_{split}_Stimuli"


def registry_prefix(dataset: str, subjects: Collection[str], space: str = FUNC1PT8MM) -> str:
    """Return what the registry entries of a choice of subjects (``subj01``) begin with.

    Stimulus sets are the same whatever the space: their entries are those of func1pt8mm.
    """
    return f"{base_name(dataset)}_fmri{of_space(space)}{variant(subjects)}"


def region_assembly_file(region: str, space: str = FUNC1PT8MM) -> str:
    """Return the name of a region's assembly."""
    return f"Allen2022{'_surface' if space in SURFACES else ''}.{region}.nc"


def packaged_assembly_file(
    folder: Path, split: Split, suffix: str = "", space: str = FUNC1PT8MM
) -> Path:
    """Return where a run leaves an assembly; upstream's later steps read one with a suffix."""
    return folder / f"{packaged_name(split, space)}{suffix}.nc"


def packaged_name(split: Split, space: str = FUNC1PT8MM) -> str:
    """Return how the train or the test assembly of all regions is called."""
    return f"Allen2022_fmri{'_surface' if space in SURFACES else ''}_{split}"


def is_assembly_file(name: str) -> bool:
    """Return whether a file has the name of an assembly: of a region, or of train or test."""
    return Path(name).name.startswith(("Allen2022.", "Allen2022_")) and name.endswith(".nc")


def stimulus_metadata_file(folder: Path, split: Split, suffix: str = "") -> Path:
    """Return where a run leaves the table of a stimulus set."""
    return folder / f"stimulus_metadata_{split}{suffix}.csv"


def stimulus_folder(folder: Path, split: Split) -> Path:
    """Return where a run leaves the images of a stimulus set; runs of other subjects share it."""
    return folder / f"stimuli_{split}"
