"""Small random datasets in NSD's formats, written plainly.

This writer shares nothing with the library: paths, formats and counting from 1 are spelled out
here once more. Everything is kept in NIfTI order (X, Y, Z), and reversed only where a file of betas
is written. The two layouts::

    ROOT (official)                                          ROOT (flat)
    ├── dataset.json                                         ├── dataset.json
    ├── nsddata/experiments/nsd/nsd_expdesign.mat            ├── metadata/nsd_expdesign.mat
    │                          /nsd_stim_info_merged.csv     │           /nsd_stim_info_merged.csv
    ├── nsddata/ppdata/subj01/func1pt8mm/roi/*.nii.gz        └── subj01/rois/*.nii.gz
    ├── nsddata/freesurfer/subj01/label/*.mgz.ctab                  /betas/betas_session01.hdf5
    └── nsddata_betas/ppdata/subj01/func1pt8mm/                           /ncsnr.nii.gz
            betas_fithrf_GLMdenoise_RR/betas_session01.hdf5
                                      /ncsnr.nii.gz
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pandas as pd
import scipy.io

#: NIfTI (X, Y, Z): three different dimensions, different for each subject.
GRIDS = {1: (5, 8, 6), 2: (6, 5, 9), 5: (9, 6, 4)}
SESSIONS = {1: 4, 2: 4, 5: 3}
TRIALS_PER_SESSION = 24
IMAGES_OF_A_SUBJECT = 32
SHARED_IMAGES = 16
VOLUMES = {"prf-visualrois": 7, "streams": 7, "floc-faces": 5, "nsdgeneral": 1}

STORAGE_FORMS = (
    "voxel chunks",
    "voxel chunks, zeros unallocated",
    "voxel chunks, big-endian",
    "voxel chunks, gzip",
    "voxel chunks, latest format",
    "contiguous",
    "contiguous, big-endian",
    "trial chunks",
    "trial chunks, gzip",
    "odd chunks",
    "odd chunks, gzip and shuffle",
    "session chunks",
    "resizable",
)


def write_betas(path: Path, betas: np.ndarray, storage: str = "voxel chunks") -> None:
    """Write betas (n_trials, X, Y, Z) as an HDF5 file with the spatial axes reversed."""
    reversed_axes = np.ascontiguousarray(betas.transpose(0, 3, 2, 1))
    n_trials, *grid = reversed_axes.shape
    of_voxel = (n_trials, 1, 1, 1)
    odd = tuple(np.minimum(reversed_axes.shape, (7, 2, 3, 2)).tolist())
    options = {
        "voxel chunks": {"chunks": of_voxel},
        "voxel chunks, zeros unallocated": {"chunks": of_voxel},
        "voxel chunks, big-endian": {"chunks": of_voxel, "dtype": ">i2"},
        "voxel chunks, gzip": {"chunks": of_voxel, "compression": "gzip"},
        "voxel chunks, latest format": {"chunks": of_voxel},
        "contiguous": {},
        "contiguous, big-endian": {"dtype": ">i2"},
        "trial chunks": {"chunks": (1, *grid)},
        "trial chunks, gzip": {"chunks": (1, *grid), "compression": "gzip"},
        "odd chunks": {"chunks": odd},
        "odd chunks, gzip and shuffle": {"chunks": odd, "compression": "gzip", "shuffle": True},
        "session chunks": {"chunks": (n_trials, *grid)},
        "resizable": {"chunks": of_voxel, "maxshape": (None, None, None, None)},
    }[storage]
    libver = "latest" if "latest" in storage else None
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", libver=libver) as file:
        if "unallocated" not in storage:
            file.create_dataset("betas", data=reversed_axes, **{"dtype": "<i2"} | options)
            return
        dataset = file.create_dataset("betas", shape=reversed_axes.shape, dtype="<i2", **options)
        for z, y, x in np.argwhere(reversed_axes.any(axis=0)).tolist():
            dataset[:, z, y, x] = reversed_axes[:, z, y, x]


def write_volume(path: Path, values: np.ndarray) -> None:
    """Write a volume (X, Y, Z) with voxels of 1.8 mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.8, 1.8, 1.8, 1.0])), path)


@dataclass(frozen=True)
class SmallNSD:
    """What was written, in NIfTI order and with the files' own counting from 1."""

    root: Path
    layout: str
    storage: str
    masterordering: list[int]
    subjectim: list[list[int]]
    sharedix: list[int]
    sessions: dict[int, int]
    trials_per_session: int = TRIALS_PER_SESSION
    #: (subject, session) -> int16, shape (n_trials, X, Y, Z).
    betas: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    #: (subject, volume) -> float64, shape (X, Y, Z), both hemispheres.
    labels: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)
    #: subject -> float32, shape (X, Y, Z).
    ncsnr: dict[int, np.ndarray] = field(default_factory=dict)
    #: subject -> a voxel (i, j, k) of V1 that is 0 in every session.
    dead: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    #: subject -> a voxel of V1 that is 0 in session 2 alone.
    invalid: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    #: subject -> a voxel of V1 that is 1234 throughout session 1.
    constant: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def design_path(self) -> Path:
        return self._experiment / "nsd_expdesign.mat"

    @property
    def table_path(self) -> Path:
        return self._experiment / "nsd_stim_info_merged.csv"

    @property
    def _experiment(self) -> Path:
        if self.layout == "official":
            return self.root / "nsddata/experiments/nsd"
        return self.root / "metadata"

    def betas_folder(self, subject: int) -> Path:
        if self.layout == "official":
            preparation = "func1pt8mm/betas_fithrf_GLMdenoise_RR"
            return self.root / f"nsddata_betas/ppdata/subj{subject:02d}" / preparation
        return self.root / f"subj{subject:02d}/betas"

    def betas_path(self, subject: int, session: int) -> Path:
        return self.betas_folder(subject) / f"betas_session{session:02d}.hdf5"

    def ncsnr_path(self, subject: int) -> Path:
        return self.betas_folder(subject) / "ncsnr.nii.gz"

    def roi_path(self, subject: int, name: str) -> Path:
        if self.layout == "official":
            return self.root / f"nsddata/ppdata/subj{subject:02d}/func1pt8mm/roi/{name}.nii.gz"
        return self.root / f"subj{subject:02d}/rois/{name}.nii.gz"

    def label_table_path(self, subject: int, volume: str) -> Path:
        return self.root / f"nsddata/freesurfer/subj{subject:02d}/label/{volume}.mgz.ctab"

    def write_table(self, table: pd.DataFrame) -> None:
        table.to_csv(self.table_path, lineterminator="\n")


def write_small_nsd(
    root: Path,
    *,
    seed: int = 0,
    layout: str = "official",
    storage: str = "voxel chunks",
    hemispheres: str = "all",
) -> SmallNSD:
    """Write a dataset of three subjects.

    `hemispheres`: "all" volumes of labels, "bilateral" ones only, or only those of "each".
    """
    rng = np.random.default_rng(seed)
    masterordering, subjectim, sharedix, n_images = _draw_design(rng)
    small = SmallNSD(root, layout, storage, masterordering, subjectim, sharedix, dict(SESSIONS))
    _write_experiment(small, n_images)
    for subject in SESSIONS:
        _write_labels(small, subject, hemispheres, rng)
        _write_responses(small, subject, rng)
    description = {
        "name": "small",
        "trials_per_session": TRIALS_PER_SESSION,
        "sessions": {str(subject): sessions for subject, sessions in SESSIONS.items()},
        "drawn with": {"seed": seed},
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return small


def _draw_design(rng: np.random.Generator) -> tuple[list[int], list[list[int]], list[int], int]:
    masterordering = rng.permutation(np.repeat(np.arange(IMAGES_OF_A_SUBJECT) + 1, 3)).tolist()
    n_own = IMAGES_OF_A_SUBJECT - SHARED_IMAGES
    n_images = SHARED_IMAGES + 8 * n_own
    ids = (rng.permutation(n_images) + 1).tolist()
    # The lowest id is shared, so that the 73k id 1 (nsd_id 0) is seen.
    sharedix = sorted([1, *[id_ for id_ in ids if id_ != 1][: SHARED_IMAGES - 1]])
    own = [id_ for id_ in ids if id_ not in sharedix]
    subjectim = [sharedix + own[row * n_own : (row + 1) * n_own] for row in range(8)]
    return masterordering, subjectim, sharedix, n_images


def _write_experiment(small: SmallNSD, n_images: int) -> None:
    small.design_path.parent.mkdir(parents=True)
    write_design(small.design_path, small.masterordering, small.subjectim, small.sharedix)
    small.write_table(
        stimulus_table(small.masterordering, small.subjectim, small.sharedix, n_images)
    )


def write_design(
    path: Path, masterordering: list[int], subjectim: list[list[int]], sharedix: list[int]
) -> None:
    """Write the design with unsigned integers, as loadmat gives NSD's."""
    scipy.io.savemat(
        path,
        {
            "masterordering": np.array([masterordering], dtype=np.uint16),
            "subjectim": np.array(subjectim, dtype=np.uint32),
            "sharedix": np.array([sharedix], dtype=np.uint32),
        },
    )


def stimulus_table(
    masterordering: list[int],
    subjectim: list[list[int]],
    sharedix: list[int],
    n_images: int,
    shown_trials: dict[int, int] | None = None,
) -> pd.DataFrame:
    """Return the design's second copy, trial by trial.

    `shown_trials` limits a subject to its first trials; without it every planned trial is listed.
    """
    columns: dict[str, list[object]] = {
        "cocoId": [1000 + row for row in range(n_images)],
        "cocoSplit": ["train2017"] * n_images,
        "cropBox": ["(0, 0, 0.1, 0.1)"] * n_images,
        "loss": [0.1] * n_images,
        "nsdId": list(range(n_images)),
        "flagged": [False] * n_images,
        "BOLD5000": [False] * n_images,
        "shared1000": [row + 1 in sharedix for row in range(n_images)],
    }
    repetitions: dict[str, list[object]] = {}
    for subject in range(1, 9):
        entries: list[list[int]] = [[] for _ in range(n_images)]
        n_trials = (shown_trials or {}).get(subject, len(masterordering))
        for trial in range(n_trials):
            id_73k = subjectim[subject - 1][masterordering[trial] - 1]
            entries[id_73k - 1].append(trial + 1)
        columns[f"subject{subject}"] = [int(bool(item)) for item in entries]
        for repetition in range(3):
            repetitions[f"subject{subject}_rep{repetition}"] = [
                item[repetition] if repetition < len(item) else 0 for item in entries
            ]
    return pd.DataFrame(columns | repetitions)


def _write_labels(
    small: SmallNSD, subject: int, hemispheres: str, rng: np.random.Generator
) -> None:
    grid = GRIDS[subject]
    is_left = np.arange(grid[0])[:, None, None] < grid[0] / 2
    for volume, n_labels in VOLUMES.items():
        labels = rng.integers(0, n_labels + 1, size=grid).astype(np.float64)
        labels[rng.random(grid) < 0.2] = -1
        # Each label has a voxel in each hemisphere.
        for label in range(1, n_labels + 1):
            labels[[0, -1], label % grid[1], label % grid[2]] = label
        small.labels[subject, volume] = labels
        sides = {
            "": labels,
            "lh.": np.where(is_left, labels, -1.0),
            "rh.": np.where(is_left, -1.0, labels),
        }
        written = {"all": ("", "lh.", "rh."), "bilateral": ("",), "each": ("lh.", "rh.")}
        for side in written[hemispheres]:
            write_volume(small.roi_path(subject, side + volume), sides[side])
    if small.layout == "official":
        path = small.label_table_path(subject, "floc-faces")
        path.parent.mkdir(parents=True)
        path.write_text("0 Unknown\n1 OFA\n2\tFFA-1\n3   FFA-2\n4 mTL-faces\n5 aTL-faces\n")


def _write_responses(small: SmallNSD, subject: int, rng: np.random.Generator) -> None:
    grid = GRIDS[subject]
    cortex = np.any([small.labels[subject, volume] > 0 for volume in VOLUMES], axis=0)
    in_v1 = np.argwhere(np.isin(small.labels[subject, "prf-visualrois"], (1, 2))).tolist()
    dead, invalid, constant, exact_zero = (tuple(in_v1[index]) for index in (1, 3, 5, 0))
    small.dead[subject], small.invalid[subject], small.constant[subject] = dead, invalid, constant
    mean, deviation = rng.uniform(-900, 900, size=grid), rng.uniform(100, 1500, size=grid)
    deviation[tuple(in_v1[2])] = 60_000  # saturates
    for session in range(1, small.sessions[subject] + 1):
        noise = rng.normal(size=(small.trials_per_session, *grid))
        values = np.clip(mean + deviation * noise, -32768, 32767).astype(np.int16)
        values[:, ~cortex] = 0
        values[(slice(None), *dead)] = 0
        if session == 1:
            values[(slice(None), *constant)] = 1234
        if session == 2:
            values[(slice(None), *invalid)] = 0
        small.betas[subject, session] = values
        write_betas(small.betas_path(subject, session), values, small.storage)
    ncsnr = rng.uniform(0.05, 1.5, size=grid).astype(np.float32)
    ncsnr[~cortex] = np.nan
    ncsnr[dead] = np.nan
    ncsnr[exact_zero] = 0
    small.ncsnr[subject] = ncsnr
    write_volume(small.ncsnr_path(subject), ncsnr)
