"""Where every file of a copy of NSD lies, and the dataset's shape."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from nsd_prep.core.errors import ParameterError
from nsd_prep.dataset.source import Source
from nsd_prep.dataset.space import FUNC1PT8MM

Layout = Literal["official", "flat"]
Hemisphere = Literal["lh", "rh"]
DESCRIPTION_FILE: Final = "dataset.json"
#: Volumes of labels that were drawn on no surface: their names stand once, for all subjects.
SUBCORTICAL_VOLUMES: Final = ("MTL", "thalamus")


@dataclass(frozen=True)
class Dataset:
    """A copy of NSD, or of a dataset in its formats.

    Attributes
    ----------
    root : Path
        The folder that holds it.
    layout : {"official", "flat"}
        How the files lie below the root.
    name : str
        ``"NSD"``, or the name that ``dataset.json`` gives.
    is_nsd : bool
        Whether published sizes and numbers apply.
    preparation : str
        Which preparation of the betas is read.
    trials_per_session : int
        750 in NSD.
    sessions : mapping of int to int
        Number of sessions of each subject (1-based).
    truth_folder : str or None
        For a synthetic dataset, the folder of its truth below the root.
    source : Source
        What gives the files.
    """

    root: Path
    layout: Layout
    name: str
    is_nsd: bool
    preparation: str
    trials_per_session: int
    sessions: Mapping[int, int]
    truth_folder: str | None = None
    source: Source = field(kw_only=True, compare=False)

    def exists(self, path: Path) -> bool:
        """Return whether the dataset has a file."""
        return self.source.exists(path)

    def read(self, path: Path) -> bytes:
        """Return the content of a small file of the dataset."""
        return self.source.read(path)

    @property
    def subjects(self) -> tuple[int, ...]:
        """The subjects (1-based), ascending."""
        return tuple(sorted(self.sessions))

    def trials(self, subject: int) -> int:
        """Return how many trials the sessions of a subject (1-based) hold."""
        return self.sessions[subject] * self.trials_per_session

    def session_file(self, subject: int, session: int) -> Path:
        """Return the path of a session's betas (subject and session 1-based)."""
        return self._betas_folder(subject) / f"betas_session{session:02d}.hdf5"

    def ncsnr_file(self, subject: int) -> Path:
        """Return the path of a subject's noise ceiling SNR."""
        return self._betas_folder(subject) / "ncsnr.nii.gz"

    def roi_file(self, subject: int, volume: str, hemisphere: Hemisphere | None = None) -> Path:
        """Return the path of a volume of region labels, bilateral unless a hemisphere is given."""
        name = f"{volume}.nii.gz" if hemisphere is None else f"{hemisphere}.{volume}.nii.gz"
        if self.layout == "official":
            return self._volumes_folder(subject) / "roi" / name
        return self.root / f"subj{subject:02d}" / "rois" / name

    def label_table(self, subject: int, volume: str) -> Path | None:
        """Return the path of the label names of a volume; the flat layout has none."""
        if self.layout == "flat":
            return None
        if volume in SUBCORTICAL_VOLUMES:
            return self.root / "nsddata" / "templates" / f"{volume}.ctab"
        folder = self.root / "nsddata" / "freesurfer" / f"subj{subject:02d}" / "label"
        return folder / f"{volume}.mgz.ctab"

    def brain_mask_file(self, subject: int) -> Path | None:
        """Return the path of a subject's brain mask; the flat layout has none."""
        if self.layout == "flat":
            return None
        return self._volumes_folder(subject) / "brainmask.nii.gz"

    def anatomy_file(self, subject: int) -> Path | None:
        """Return the path of a subject's T1 on the betas' grid; the flat layout has none."""
        if self.layout == "flat":
            return None
        return self._volumes_folder(subject) / f"T1_to_{FUNC1PT8MM}.nii.gz"

    @property
    def design_file(self) -> Path:
        """The path of the experiment design."""
        return self._experiment_folder / "nsd_expdesign.mat"

    @property
    def stimulus_table(self) -> Path:
        """The path of the table of stimuli, the second copy of the design."""
        return self._experiment_folder / "nsd_stim_info_merged.csv"

    @property
    def images_file(self) -> Path:
        """The path of the images."""
        if self.layout == "official":
            return self.root / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"
        return self.root / "stimuli" / "nsd_stimuli.hdf5"

    @property
    def truth_files(self) -> list[Path]:
        """The paths of a synthetic dataset's truth; none of any other dataset."""
        if self.truth_folder is None:
            return []
        names = ["design", "latents", *(f"subj{subject:02d}" for subject in self.subjects)]
        return [self.root / self.truth_folder / f"{name}.npz" for name in names]

    @property
    def _experiment_folder(self) -> Path:
        if self.layout == "official":
            return self.root / "nsddata" / "experiments" / "nsd"
        return self.root / "metadata"

    def _volumes_folder(self, subject: int) -> Path:
        return self.root / "nsddata" / "ppdata" / f"subj{subject:02d}" / FUNC1PT8MM

    def _betas_folder(self, subject: int) -> Path:
        if self.layout == "flat":
            return self.root / f"subj{subject:02d}" / "betas"
        folder = self.root / "nsddata_betas" / "ppdata" / f"subj{subject:02d}" / FUNC1PT8MM
        return folder / self.preparation


#: Folders of either layout in a dataset's root, beside those of flat subjects.
DATASET_FOLDERS: Final = ("nsddata", "nsddata_betas", "nsddata_stimuli", "metadata")


def chosen_subjects(dataset: Dataset, subjects: Iterable[int] | None) -> tuple[int, ...]:
    """Return the subjects of a run, in the order given.

    Parameters
    ----------
    dataset : Dataset
        What there is.
    subjects : iterable of int, optional
        1-based; all that the dataset has where nothing is said.

    Returns
    -------
    tuple of int
        At least one, each once.

    Raises
    ------
    ParameterError
        A subject is not in the dataset, or is given twice; or none is given.
    """
    chosen = dataset.subjects if subjects is None else tuple(subjects)
    unknown = [subject for subject in chosen if subject not in dataset.sessions]
    if unknown:
        raise ParameterError(
            f"Subject {_listed(unknown)} is not in the dataset {dataset.name} at {dataset.root}: "
            f"give some of {_listed(dataset.subjects)} with subjects=."
        )
    twice = sorted({subject for subject in chosen if chosen.count(subject) > 1})
    if not chosen:
        raise ParameterError(
            f"No subject is chosen: give some of {_listed(dataset.subjects)} with subjects=, or "
            "leave it out for all of them."
        )
    if twice:
        raise ParameterError(
            f"Subject {_listed(twice)} is given more than once: give each subject once "
            "with subjects=."
        )
    return chosen


def _listed(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in values)
