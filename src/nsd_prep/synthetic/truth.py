"""What is true of a synthetic dataset, and where it is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.layout import DESCRIPTION_FILE
from nsd_prep.dataset.space import HEMISPHERES, Hemisphere
from nsd_prep.sources.opening import open_dataset
from nsd_prep.synthetic.design import SyntheticDesign

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
class VertexTruth:
    """The truth of the vertices of a subject's hemisphere that respond, ascending.

    Attributes
    ----------
    vertex_index : (n_vertices,) array of int64
        On the subject's own surface, 0-based.
    region, tuning, signal_strength, has_data
        As in `voxels.Tuned`.
    ncsnr : (n_vertices,) array of float32
        The ncsnr in the subject's file, computed from the simulated betas.
    """

    vertex_index: NDArray[np.int64]
    region: NDArray[np.int64]
    tuning: NDArray[np.float32]
    signal_strength: NDArray[np.float32]
    has_data: NDArray[np.bool_]
    ncsnr: NDArray[np.float32]


@dataclass(frozen=True)
class SyntheticTruth:
    """The truth of a synthetic dataset.

    Attributes
    ----------
    design : SyntheticDesign
        Which image each trial shows.
    shared_latents : (n_images, DIMENSIONS) array of float32
        Features that all subjects share, by 0-based nsd id.
    subjects : mapping of int to SubjectTruth
        The subjects (1-based) that were written.
    """

    design: SyntheticDesign
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


def write_common_truth(root: Path, design: SyntheticDesign, latents: NDArray[np.float32]) -> None:
    """Write what subjects share below ``root/truth``."""
    _save(root, "design.npz", vars(design))
    _save(root, "latents.npz", {"shared_latents": latents})


def write_subject_truth(root: Path, subject: int, truth: SubjectTruth) -> None:
    """Write one subject's truth below ``root/truth``."""
    _save(root, f"subj{subject:02d}.npz", vars(truth))


def write_vertex_truth(root: Path, subject: int, truth: Mapping[Hemisphere, VertexTruth]) -> None:
    """Write the truth of one subject's surfaces below ``root/truth``."""
    arrays = {
        f"{hemisphere}_{name}": values
        for hemisphere, of_vertices in truth.items()
        for name, values in vars(of_vertices).items()
    }
    _save(root, _vertex_file(subject), arrays)


def _vertex_file(subject: int) -> str:
    return f"surfaces/subj{subject:02d}.npz"


def _save(root: Path, name: str, arrays: Mapping[str, Any]) -> None:
    path = root / TRUTH_FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


def read_truth(root: Path) -> SyntheticTruth:
    """Read the truth that a synthetic dataset carries; InputFileError where it is not all there."""
    try:
        dataset = open_dataset(root)
        design, latents, *subjects = (_load(path) for path in dataset.truth_files)
        return SyntheticTruth(
            SyntheticDesign(**design),
            latents["shared_latents"],
            {
                subject: SubjectTruth(**arrays)
                for subject, arrays in zip(dataset.subjects, subjects, strict=True)
            },
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise InputFileError(
            f"{root} holds no complete synthetic dataset: expected {DESCRIPTION_FILE} and the "
            f"files of the truth that it names, found {error}; write it again."
        ) from error


def read_vertex_truth(root: Path, subject: int) -> dict[Hemisphere, VertexTruth]:
    """Read what is true of a subject's surfaces (1-based), by hemisphere.

    InputFileError where the dataset was written without.
    """
    path = root / TRUTH_FOLDER / _vertex_file(subject)
    try:
        arrays = _load(path)
        return {
            hemisphere: VertexTruth(
                **{
                    name.removeprefix(f"{hemisphere}_"): values
                    for name, values in arrays.items()
                    if name.startswith(f"{hemisphere}_")
                }
            )
            for hemisphere in HEMISPHERES
        }
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise InputFileError(
            f"{root} holds no synthetic surfaces of subject {subject}: expected {path}, found "
            f"{error}; write the dataset with surfaces."
        ) from error


def _load(path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)
