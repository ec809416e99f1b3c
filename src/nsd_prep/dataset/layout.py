"""Where every file of a copy of NSD lies, and the dataset's shape."""

import json
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    Strict,
    ValidationError,
)

from nsd_prep.core.errors import InputFileError, MissingFilesError, ParameterError
from nsd_prep.core.parameters import Preparation
from nsd_prep.dataset import published
from nsd_prep.dataset.published import DEFAULT_PREPARATION, PREPARATION_FOLDERS
from nsd_prep.dataset.source import FolderSource, Source, open_source

Layout = Literal["official", "flat"]
Hemisphere = Literal["lh", "rh"]
DESCRIPTION_FILE: Final = "dataset.json"


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
        return self._volumes_folder(subject) / "T1_to_func1pt8mm.nii.gz"

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
        return self.root / "nsddata" / "ppdata" / f"subj{subject:02d}" / "func1pt8mm"

    def _betas_folder(self, subject: int) -> Path:
        if self.layout == "flat":
            return self.root / f"subj{subject:02d}" / "betas"
        folder = self.root / "nsddata_betas" / "ppdata" / f"subj{subject:02d}" / "func1pt8mm"
        return folder / self.preparation


class _Synthetic(BaseModel):
    model_config = ConfigDict(extra="ignore")

    truth: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]+$")


def _not_nsd(name: str) -> str:
    """Refuse a name under which a dataset's results would pass for NSD's own."""
    if name.casefold() == "nsd" or name.casefold().startswith("allen2022"):
        raise ValueError("a dataset that is not NSD itself needs another name")
    return name


class _Description(BaseModel):
    """What ``dataset.json`` says of a dataset that is not NSD itself."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, AfterValidator(_not_nsd)] = Field(
        min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$"
    )
    trials_per_session: PositiveInt = Field(strict=True)
    sessions: dict[Annotated[str, Field(pattern="^[1-8]$")], Annotated[PositiveInt, Strict()]] = (
        Field(min_length=1)
    )
    synthetic: _Synthetic | None = None


def open_dataset(
    root: str | Path,
    preparation: Preparation | None = None,
    *,
    mirror_folder: Path | None = None,
    accept_nsd_terms: bool | None = None,
) -> Dataset:
    """Find out which layout and shape the dataset below a folder has.

    Parameters
    ----------
    root : str or Path
        The folder that holds ``nsddata`` (official layout) or ``metadata`` (flat layout); or the
        address of such a folder, ``s3://BUCKET[/PREFIX]`` or ``http(s)://HOST[/PREFIX]``, in the
        official layout.
    preparation : {"b1", "b2", "b3"}, optional
        Which betas to read, in the official layout; b3 where nothing is said. The flat layout
        holds one preparation, which it does not name.
    mirror_folder : Path, optional
        Where copies of the small files of an address are kept; ``nsd-prep-mirror`` in the current
        folder where none is given.
    accept_nsd_terms : bool, optional
        That the terms of NSD are accepted, which is asked before NSD's own bucket is read.

    Returns
    -------
    Dataset
        NSD with its published shape, or the shape that ``dataset.json`` at the root gives.

    Raises
    ------
    MissingFilesError
        The folder is not there, or is in neither layout.
    InputFileError
        ``dataset.json`` is not what it should be.
    ParameterError
        A preparation is chosen in the flat layout.
    """
    source = open_source(
        root, mirror_folder or Path("nsd-prep-mirror"), accept_nsd_terms=accept_nsd_terms
    )
    root, is_folder = source.root, isinstance(source, FolderSource)
    if is_folder and not root.is_dir():
        raise MissingFilesError(
            f"The NSD root {root} is not a folder: give the folder that holds 'nsddata' "
            "(official layout) or 'metadata' (flat layout) with --nsd-root."
        )
    layout = _layout(root) if is_folder else "official"
    if layout == "flat" and preparation is not None:
        raise ParameterError(
            f"The betas' preparation {preparation} cannot be chosen: {root} is in the flat layout, "
            "which holds one preparation; leave --betas out."
        )
    if layout == "flat":
        folder = "the one of a flat layout"
    else:
        folder = PREPARATION_FOLDERS[preparation or DEFAULT_PREPARATION]
    description = _description(root / DESCRIPTION_FILE, source)
    sessions = (
        {int(subject): number for subject, number in description.sessions.items()}
        if description
        else published.SESSIONS
    )
    return Dataset(
        root=root,
        layout=layout,
        name=description.name if description else "NSD",
        is_nsd=description is None,
        preparation=folder,
        trials_per_session=(
            description.trials_per_session if description else published.TRIALS_PER_SESSION
        ),
        sessions=MappingProxyType(dict(sessions)),
        truth_folder=description.synthetic.truth if description and description.synthetic else None,
        source=source,
    )


def _layout(root: Path) -> Layout:
    if (root / "nsddata").is_dir():
        return "official"
    if (root / "metadata").is_dir():
        return "flat"
    raise MissingFilesError(
        f"The NSD root {root} holds no dataset: expected a folder 'nsddata' (official layout) or "
        "'metadata' (flat layout) in it; give the folder above them with --nsd-root."
    )


def _description(path: Path, source: Source) -> _Description | None:
    if not source.exists(path):
        return None
    read = source.read(path)
    try:
        content = json.loads(read, object_pairs_hook=_without_duplicates)
        return _Description.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        reason = f"at {where}, {first['msg']}, found {reprlib.repr(first['input'])}"
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, nested without end
        reason = f"at the whole file, {error}"
    raise InputFileError(
        f"{path} does not describe a dataset: {reason}; expected "
        '{"name": "...", "trials_per_session": 30, "sessions": {"1": 6}} with subjects 1 to 8, '
        "correct or remove it."
    )


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is given twice")
    return dict(pairs)


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
        A subject is not in the dataset, or is given twice.
    """
    chosen = dataset.subjects if subjects is None else tuple(subjects)
    unknown = [subject for subject in chosen if subject not in dataset.sessions]
    if unknown:
        raise ParameterError(
            f"Subject {_listed(unknown)} is not in the dataset {dataset.name} at {dataset.root}: "
            f"give some of {_listed(dataset.subjects)} with --subjects."
        )
    twice = sorted({subject for subject in chosen if chosen.count(subject) > 1})
    if twice:
        raise ParameterError(
            f"Subject {_listed(twice)} is given more than once: give each subject once "
            "with --subjects."
        )
    return chosen


def _listed(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in values)
