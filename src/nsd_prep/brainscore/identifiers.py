"""Names that Brain-Score knows: identifiers, registry entries, file names."""

from collections.abc import Collection
from pathlib import Path
from typing import Final, Literal

Split = Literal["train", "test"]

SPLITS: Final[tuple[Split, ...]] = ("train", "test")
#: The subjects that completed all sessions; a benchmark of them alone has a name of its own.
COMPLETE_SUBJECTS: Final = frozenset({"subj01", "subj02", "subj05", "subj07"})


def variant(subjects: Collection[str]) -> str:
    """Return ``_4subj`` for subj01, subj02, subj05 and subj07, and nothing for any other choice."""
    return "_4subj" if set(subjects) == COMPLETE_SUBJECTS else ""


def assembly_identifier(subjects: Collection[str], split: Split) -> str:
    """Return the identifier of an assembly, for subjects as ``subj01``."""
    return f"Allen2022_fMRI{variant(subjects)}_{split}_Assembly"


def stimulus_set_identifier(subjects: Collection[str], split: Split) -> str:
    """Return the identifier of a stimulus set, for subjects as ``subj01``."""
    return f"Allen2022_fMRI{variant(subjects)}_{split}_Stimuli"


def registry_prefix(subjects: Collection[str]) -> str:
    """Return what the registry entries of a choice of subjects (``subj01``) begin with."""
    return f"Allen2022_fmri{variant(subjects)}"


def assembly_file(folder: Path, split: Split, suffix: str = "") -> Path:
    """Return where a run leaves an assembly; upstream's later steps read one with a suffix."""
    return folder / f"Allen2022_fmri_{split}{suffix}.nc"


def stimulus_metadata_file(folder: Path, split: Split, suffix: str = "") -> Path:
    """Return where a run leaves the table of a stimulus set."""
    return folder / f"stimulus_metadata_{split}{suffix}.csv"


def stimulus_folder(folder: Path, split: Split) -> Path:
    """Return where a run leaves the images of a stimulus set; runs of other subjects share it."""
    return folder / f"stimuli_{split}"
