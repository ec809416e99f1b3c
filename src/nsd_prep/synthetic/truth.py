"""What is true of a synthetic dataset, and where it is kept."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsd_prep.errors import InputFileError
from nsd_prep.synthetic.design import Design
from nsd_prep.synthetic.latents import DIMENSIONS, dimension_weights
from nsd_prep.synthetic.plan import REGIONS

_FOLDER = "truth"


@dataclass(frozen=True)
class SubjectTruth:
    """The truth of one subject's labelled voxels, in file order.

    Attributes
    ----------
    grid : (3,) array of int64
        NIfTI dimensions (X, Y, Z).
    voxel_index : (n_voxels,) array of int64
        0-based flat indices into the reversed volume (Z, Y, X), ascending.
    in_region : (6, n_voxels) array of bool
        Which voxels belong to V1, V2, V3, V4, IT, and to none of them: `plan.REGIONS`. A voxel in
        two regions is counted in both.
    tuning_region : (n_voxels,) array of int64
        Index into `plan.REGIONS`: whose features drive the voxel.
    tuning : (n_voxels, 2 * DIMENSIONS) array of float32
        Tuning to shared features, then to the subject's own; rows of unit length.
    signal_strength : (n_voxels,) array of float32
        SD of the signal over that of the noise: the true ncsnr.
    has_data : (n_voxels, n_sessions) array of bool
        False where a voxel is invalid in a session, its betas all 0.
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

    def region(self, name: str) -> NDArray[np.int64]:
        """Give the rows of a region's voxels, ascending: indices into the arrays above."""
        return np.flatnonzero(self.in_region[REGIONS.index(name)])


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

    @property
    def shared_nsd_ids(self) -> NDArray[np.int64]:
        """The 0-based nsd ids of the shared images, ascending, (n_shared,)."""
        return self.design.sharedix - 1

    def region_latents(
        self, region: str, nsd_ids: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """Give the shared features of a region.

        Parameters
        ----------
        region : str
            One of `plan.REGIONS`.
        nsd_ids : (n,) array of int64, optional
            0-based; the shared images where none are given.

        Returns
        -------
        (n, DIMENSIONS) array of float64
            Each feature scaled to its share of the region's signal: inner products of rows are
            the expected similarity of the images in a region of very many voxels.
        """
        ids = self.shared_nsd_ids if nsd_ids is None else nsd_ids
        weights = dimension_weights(region)[:DIMENSIONS]
        return self.shared_latents[ids].astype(np.float64) * np.sqrt(weights)

    def signal(self, subject: int, nsd_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Give the noise-free responses of a subject, in units of the noise's SD.

        Parameters
        ----------
        subject : int
            1-based.
        nsd_ids : (n,) array of int64
            0-based ids of images of this subject.

        Returns
        -------
        (n, n_voxels) array of float32
            ``signal_strength * (tuning . features)``.

        Raises
        ------
        KeyError
            When an image is not one of the subject's.
        """
        truth = self.subjects[subject]
        images = self.design.subjectim[subject - 1] - 1
        order = np.argsort(images)
        place = order[np.searchsorted(images, nsd_ids, sorter=order) % len(images)]
        if not np.array_equal(images[place], nsd_ids):
            raise KeyError(f"some of the images are not images of subject {subject}")
        features = np.hstack([self.shared_latents[nsd_ids], truth.own_latents[place]])
        return features @ (truth.tuning * truth.signal_strength[:, np.newaxis]).T


def write_common_truth(root: Path, design: Design, latents: NDArray[np.float32]) -> None:
    """Write what subjects share below ``root/truth``."""
    folder = root / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "design.npz", **vars(design))
    np.savez(folder / "latents.npz", shared_latents=latents)


def write_subject_truth(root: Path, subject: int, truth: SubjectTruth) -> None:
    """Write one subject's truth below ``root/truth``."""
    folder = root / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"subj{subject:02d}.npz", **vars(truth))


def read_truth(root: Path) -> SyntheticTruth:
    """Read the truth that a synthetic dataset carries with it.

    Parameters
    ----------
    root : Path
        The dataset's root.

    Raises
    ------
    InputFileError
        When the folder holds no synthetic dataset.
    """
    root = Path(root)
    folder = root / _FOLDER
    try:
        description = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
        design = Design(**_load(folder / "design.npz"))
        latents = _load(folder / "latents.npz")["shared_latents"]
        subjects = {
            int(subject): SubjectTruth(**_load(folder / f"subj{int(subject):02d}.npz"))
            for subject in description["sessions"]
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputFileError(
            f"{root} holds no complete synthetic dataset: expected dataset.json and the files of "
            f"{_FOLDER}/, found {error}; write it again"
        ) from error
    return SyntheticTruth(description, design, latents, dict(sorted(subjects.items())))


def _load(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)
