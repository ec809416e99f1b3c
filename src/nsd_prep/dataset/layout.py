"""Where every file of a copy of NSD lies, and the dataset's shape."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from nsd_prep.core.errors import ParameterError
from nsd_prep.core.nouns import Noun
from nsd_prep.core.parameters import SpaceName, SurfaceFiles
from nsd_prep.dataset.source import Source
from nsd_prep.dataset.space import (
    FSAVERAGE,
    FUNC1PT8MM,
    HEMISPHERES,
    NATIVESURFACE,
    SURFACES,
    Hemisphere,
    noun_of,
)

Layout = Literal["official", "flat"]
#: A transform between the spaces of a subject, which its files name so.
Transform = Literal[
    "white-to-fsaverage",
    "fsaverage-to-white",
    "func1pt8-to-white",
    "func1pt8-to-pial",
    "func1pt8-to-layerB1",
    "func1pt8-to-layerB2",
    "func1pt8-to-layerB3",
]
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
    space : {"func1pt8mm", "func1mm", "fsaverage", "nativesurface"}
        In which space its betas, labels and noise ceilings are read.
    surface_files : {"native", "mgh"}
        In fsaverage, whether betas are taken from the files of the subject's own surface, through
        its transform, or from those of fsaverage.
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
    space: SpaceName = FUNC1PT8MM
    surface_files: SurfaceFiles = "native"

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

    @property
    def is_surface(self) -> bool:
        """Whether the space is a pair of surfaces."""
        return self.space in SURFACES

    @property
    def noun(self) -> Noun:
        """What the sites of the space are called."""
        return noun_of(self.space)

    @property
    def sides(self) -> tuple[Hemisphere | None, ...]:
        """The hemispheres that have files of betas and ncsnr of their own; (None,) of a volume."""
        return HEMISPHERES if self.is_surface else (None,)

    @property
    def is_through_native(self) -> bool:
        """Whether betas of fsaverage are taken from the files of the subject's own surface."""
        return self.space == FSAVERAGE and self.surface_files == "native"

    @property
    def stores_floats(self) -> bool:
        """Whether its files of betas hold float32, and not int16."""
        return self.space == FSAVERAGE and self.surface_files == "mgh"

    @property
    def origin(self) -> dict[str, str]:
        """What betas are taken from, where there is a choice, for the attributes of files."""
        return {"surface_files": self.surface_files} if self.space == FSAVERAGE else {}

    def session_file(
        self, subject: int, session: int, hemisphere: Hemisphere | None = None
    ) -> Path:
        """Return the path of a session's betas (subject and session 1-based).

        On surfaces those of a hemisphere.
        """
        if hemisphere is None:
            return self._betas_folder(subject) / f"betas_session{session:02d}.hdf5"
        space = NATIVESURFACE if self.is_through_native else self.space
        ending = ".mgh" if space == FSAVERAGE else ".hdf5"
        name = f"{hemisphere}.betas_session{session:02d}{ending}"
        return self._betas_folder(subject, space) / name

    def ncsnr_file(self, subject: int, hemisphere: Hemisphere | None = None) -> Path:
        """Return the path of a subject's noise ceiling SNR; on surfaces a hemisphere's."""
        name = "ncsnr.nii.gz" if hemisphere is None else f"{hemisphere}.ncsnr.mgh"
        return self._betas_folder(subject) / name

    def ncsnr_split_file(
        self, subject: int, split: int, hemisphere: Hemisphere | None = None
    ) -> Path:
        """Return the path of the ncsnr over a half (1 or 2) of the images, as `ncsnr_file`."""
        path = self.ncsnr_file(subject, hemisphere)
        return path.with_name(path.name.replace("ncsnr", f"ncsnr_split{split}"))

    def roi_file(self, subject: int, volume: str, hemisphere: Hemisphere | None = None) -> Path:
        """Return the path of region labels: of a volume, or on surfaces of a hemisphere.

        Of a volume they are bilateral unless a hemisphere is given.
        """
        if self.is_surface:
            return self._label_folder(subject) / f"{hemisphere}.{volume}.mgz"
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
        return self._label_folder(subject) / f"{volume}.mgz.ctab"

    def transform_file(self, subject: int, transform: Transform, hemisphere: Hemisphere) -> Path:
        """Return the path of a transform between a subject's spaces, in a hemisphere."""
        folder = self.root / "nsddata" / "ppdata" / f"subj{subject:02d}" / "transforms"
        return folder / f"{hemisphere}.{transform}.mgz"

    def mesh_file(self, surface: str, hemisphere: Hemisphere) -> Path:
        """Return the path of a mesh of fsaverage, such as ``"inflated"``."""
        folder = self.root / "nsddata" / "freesurfer" / FSAVERAGE / "surf"
        return folder / f"{hemisphere}.{surface}"

    def brain_mask_file(self, subject: int) -> Path | None:
        """Return the path of a subject's brain mask; the flat layout and surfaces have none."""
        if self.layout == "flat" or self.is_surface:
            return None
        return self._volumes_folder(subject) / "brainmask.nii.gz"

    def anatomy_file(self, subject: int) -> Path | None:
        """Return the path of a subject's T1 on the betas' grid; see `brain_mask_file`."""
        if self.layout == "flat" or self.is_surface:
            return None
        return self._volumes_folder(subject) / f"T1_to_{self.space}.nii.gz"

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
        return self.root / "nsddata" / "ppdata" / f"subj{subject:02d}" / self.space

    def _label_folder(self, subject: int) -> Path:
        anatomy = FSAVERAGE if self.space == FSAVERAGE else f"subj{subject:02d}"
        return self.root / "nsddata" / "freesurfer" / anatomy / "label"

    def _betas_folder(self, subject: int, space: SpaceName | None = None) -> Path:
        if self.layout == "flat":
            return self.root / f"subj{subject:02d}" / "betas"
        folder = self.root / "nsddata_betas" / "ppdata" / f"subj{subject:02d}"
        return folder / (space or self.space) / self.preparation


#: Folders of either layout in a dataset's root, beside those of flat subjects.
DATASET_FOLDERS: Final = ("nsddata", "nsddata_betas", "nsddata_stimuli", "metadata")


def sequence_of_subjects(subjects: Iterable[int]) -> tuple[int, ...]:
    """Return subjects (1-based) as a tuple; ParameterError where they are no numbers of several."""
    if isinstance(subjects, str) or not isinstance(subjects, Iterable):
        raise ParameterError(f"Subjects are a sequence, found {subjects!r}: give [{subjects}].")
    numbers = tuple(subjects)
    if wrong := [number for number in numbers if isinstance(number, bool | str)]:
        raise ParameterError(f"Subjects are numbers, found {wrong[0]!r}: give some such as 1.")
    return numbers


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
    chosen = dataset.subjects if subjects is None else sequence_of_subjects(subjects)
    unknown = [subject for subject in chosen if subject not in dataset.sessions]
    if unknown:
        raise ParameterError(
            f"Subject {_listed(unknown)} is not in the dataset {dataset.name} at "
            f"{dataset.source.where(dataset.root)}: give some of {_listed(dataset.subjects)} with "
            "subjects=."
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


def surface_files_there(dataset: Dataset, subjects: Iterable[int]) -> SurfaceFiles:
    """Return which files betas of fsaverage can be taken from: native where these are there.

    The first sessions of some subjects (1-based) tell.
    """
    subjects = tuple(subjects)
    choices: tuple[SurfaceFiles, ...] = ("native", "mgh")
    for choice in choices:
        of_choice = replace(dataset, space=FSAVERAGE, surface_files=choice)
        files = [of_choice.session_file(subject, 1, "lh") for subject in subjects]
        if all(map(dataset.exists, files)):
            return choice
    return "native"


def _listed(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in values)
