"""What is true of a synthetic dataset, and where it is kept."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from nsd_prep.dataset import DESCRIPTION_FILE
from nsd_prep.errors import InputFileError
from nsd_prep.files import read_whole
from nsd_prep.synthetic.design import Design

TRUTH_FOLDER: Final = "truth"


@dataclass(frozen=True)
class SubjectTruth:
    """The truth of one subject's labelled voxels, in file order.

    Attributes
    ----------
    grid : (3,) array of int64
        NIfTI dimensions (X, Y, Z).
    in_region : (6, n_voxels) array of bool
        Which voxels belong to V1, V2, V3, V4, IT, and to none of them: `plan.REGIONS`. A voxel in
        two regions is counted in both.
    voxel_index, tuning_region, tuning, signal_strength, has_data
        As in `voxels.Voxels`, whose ``region`` is the tuning's.
    own_latents : (images_per_subject, DIMENSIONS) array of float32
        The subject's own features, by image number less 1.
    ncsnr : (n_voxels,) array of float32
        The ncsnr in the subject's file, computed from the simulated betas.
    """

    grid: NDArray[np.int64]
    voxel_index: NDArray[np.int64]
    in_region: NDArray[np.bool_]
    tuning_region: NDArray[np.int64]
    tuning: NDArray[np.float32]
    signal_strength: NDArray[np.float32]
    has_data: NDArray[np.bool_]
    own_latents: NDArray[np.float32]
    ncsnr: NDArray[np.float32]


@dataclass(frozen=True)
class SyntheticTruth:
    """The truth of a synthetic dataset.

    Attributes
    ----------
    description : mapping
        What ``dataset.json`` says.
    design : Design
        Which image each trial shows.
    shared_latents : (n_images, DIMENSIONS) array of float32
        Features that all subjects share, by 0-based nsd id.
    subjects : mapping of int to SubjectTruth
        The subjects (1-based) that were written.
    """

    description: Mapping[str, Any]
    design: Design
    shared_latents: NDArray[np.float32]
    subjects: Mapping[int, SubjectTruth]

    def latents(self, subject: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the features that drive a subject's voxels (1-based).

        Returns
        -------
        nsd_ids : (images_per_subject,) array of int64
            0-based, by image number less 1.
        features : (images_per_subject, 2 * DIMENSIONS) array of float32
            Those that all subjects share, then the subject's own.
        """
        nsd_ids = self.design.subjectim[subject - 1] - 1
        own = self.subjects[subject].own_latents
        return nsd_ids, np.hstack([self.shared_latents[nsd_ids], own])


def write_common_truth(root: Path, design: Design, latents: NDArray[np.float32]) -> None:
    """Write what subjects share below ``root/truth``."""
    _save(root, "design.npz", vars(design))
    _save(root, "latents.npz", {"shared_latents": latents})


def write_subject_truth(root: Path, subject: int, truth: SubjectTruth) -> None:
    """Write one subject's truth below ``root/truth``."""
    _save(root, f"subj{subject:02d}.npz", vars(truth))


def _save(root: Path, name: str, arrays: Mapping[str, Any]) -> None:
    path = root / TRUTH_FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


def read_description(root: Path) -> dict[str, Any]:
    """Return what ``dataset.json`` says of a dataset; nothing of one that has none, as NSD.

    Raises
    ------
    InputFileError
        It is not a JSON object.
    """
    path = root / DESCRIPTION_FILE
    if not path.exists():
        return {}
    try:
        description = json.loads(read_whole(path))
    except ValueError as error:
        raise InputFileError(f"{path} is not JSON ({error}): correct or remove it.") from error
    if not isinstance(description, dict):
        raise InputFileError(f"{path} is not a JSON object: correct or remove it.")
    return description


def truth_of(description: Mapping[str, Any]) -> str | None:
    """Return the folder, within the dataset's, of the truth that a dataset says it carries.

    Parameters
    ----------
    description : mapping
        What ``dataset.json`` says: ``{"synthetic": {"truth": "truth", ...}, ...}``.

    Returns
    -------
    str or None
        None where the dataset says nothing of a truth, whatever folders it has.

    Raises
    ------
    InputFileError
        What it says is not the name of a folder.
    """
    synthetic = description.get("synthetic")
    folder = synthetic.get("truth") if isinstance(synthetic, dict) else None
    if folder is not None and (not isinstance(folder, str) or not re.fullmatch(r"[\w-]+", folder)):
        raise InputFileError(
            f"{DESCRIPTION_FILE} names the truth {folder!r} under 'synthetic': expected the name "
            "of a folder beside it; correct or remove it."
        )
    return folder


def truth_files(root: Path) -> list[Path]:
    """Return the files of the truth that a dataset says it carries; none where it says nothing."""
    description = read_description(root)
    folder = truth_of(description)
    if folder is None:
        return []
    names = ["design", "latents", *(f"subj{int(s):02d}" for s in description.get("sessions", ()))]
    return [root / folder / f"{name}.npz" for name in names]


def read_truth(root: Path) -> SyntheticTruth:
    """Read the truth that a synthetic dataset carries with it.

    Raises
    ------
    InputFileError
        The dataset says nothing of a truth, or not all of it is there.
    """
    root = Path(root)
    try:
        description = read_description(root)
        design, latents, *subjects = (_load(path) for path in truth_files(root))
        return SyntheticTruth(
            description,
            Design(**design),
            latents["shared_latents"],
            {
                int(subject): SubjectTruth(**arrays)
                for subject, arrays in zip(description["sessions"], subjects, strict=True)
            },
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise InputFileError(
            f"{root} holds no complete synthetic dataset: expected {DESCRIPTION_FILE} and the "
            f"files of the truth that it names, found {error}; write it again."
        ) from error


def _load(path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)
