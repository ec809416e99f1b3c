"""Names that Brain-Score knows: identifiers, registry entries, file names."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Final, Literal

from nsd_prep.core.errors import InputFileError

Split = Literal["train", "test"]

SPLITS: Final[tuple[Split, ...]] = ("train", "test")
#: The subjects that completed all sessions; a benchmark of them alone has a name of its own.
COMPLETE_SUBJECTS: Final = frozenset({"subj01", "subj02", "subj05", "subj07"})
#: What the attribute ``dataset`` of an assembly holds where it was made from NSD itself.
NSD: Final = "NSD"
_PUBLISHED: Final = "Allen2022"

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


def assembly_identifier(dataset: str, subjects: Collection[str], split: Split) -> str:
    """Return the identifier of an assembly, for subjects as ``subj01``."""
    return f"{base_name(dataset)}_fMRI{variant(subjects)}_{split}_Assembly"


def stimulus_set_identifier(dataset: str, subjects: Collection[str], split: Split) -> str:
    """Return the identifier of a stimulus set, for subjects as ``subj01``."""
    return f"{base_name(dataset)}_fMRI{variant(subjects)}_{split}_Stimuli"


def registry_prefix(dataset: str, subjects: Collection[str]) -> str:
    """Return what the registry entries of a choice of subjects (``subj01``) begin with."""
    return f"{base_name(dataset)}_fmri{variant(subjects)}"


def packaged_assembly_file(folder: Path, split: Split, suffix: str = "") -> Path:
    """Return where a run leaves an assembly; upstream's later steps read one with a suffix."""
    return folder / f"Allen2022_fmri_{split}{suffix}.nc"


def stimulus_metadata_file(folder: Path, split: Split, suffix: str = "") -> Path:
    """Return where a run leaves the table of a stimulus set."""
    return folder / f"stimulus_metadata_{split}{suffix}.csv"


def stimulus_folder(folder: Path, split: Split) -> Path:
    """Return where a run leaves the images of a stimulus set; runs of other subjects share it."""
    return folder / f"stimuli_{split}"
