"""The surfaces of a small dataset, written plainly beside the volumes of a `small_nsd.SmallNSD`.

Like that writer it shares nothing with the library: paths, formats and counting from 1 are spelled
out. Betas are floats first, percent signal change; the native surface's files have them as int16,
fsaverage's as float32, by nearest neighbour::

    ROOT
    ├── nsddata/freesurfer/fsaverage/label/{lh,rh}.{Kastner2015,streams,nsdgeneral}.mgz
    ├── nsddata/freesurfer/subj01/label/{lh,rh}.{prf-visualrois,streams,floc-faces}.mgz
    ├── nsddata/ppdata/subj01/transforms/{lh,rh}.{white-to-fsaverage,fsaverage-to-white}.mgz
    └── nsddata_betas/ppdata/subj01/
        ├── nativesurface/betas_fithrf_GLMdenoise_RR/{lh,rh}.{betas_session01.hdf5,ncsnr.mgh}
        └── fsaverage/betas_fithrf_GLMdenoise_RR/{lh,rh}.{betas_session01.mgh,ncsnr.mgh}
"""

import gzip
import struct
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from small_nsd import SmallNSD

SIDES = ("lh", "rh")
#: Vertices of fsaverage and of each subject, left and right.
FSAVERAGE = (160, 150)
NATIVE = {1: (210, 190), 2: (180, 220), 5: (230, 200)}
FSAVERAGE_LABELS = {"Kastner2015": 25, "streams": 7, "nsdgeneral": 1}
NATIVE_LABELS = {"prf-visualrois": 7, "streams": 7, "floc-faces": 5, "nsdgeneral": 1}
PREPARATION = "betas_fithrf_GLMdenoise_RR"


def mgh(values: np.ndarray, *, kind: int = 3) -> bytes:
    """Return an MGH file of float32 values (V,), (V, n) or (V, 1, 1, n_frames), by hand."""
    shape = (*values.shape, *(1,) * (4 - values.ndim))
    header = struct.pack(">iiiiiii", 1, *shape, kind, 0) + bytes(2)
    body = values.T.astype(">f4").tobytes()  # the first axis runs fastest
    return header.ljust(284, b"\0") + body + bytes(16)


def write_mgh(path: Path, values: np.ndarray) -> Path:
    """Write an ``.mgh`` file, or a compressed ``.mgz`` one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = mgh(values)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".mgz" else content)
    return path


@dataclass(frozen=True)
class SmallSurfaces:
    """What was written; vertices are 0-based here, and hemispheres 0 (left) and 1 (right)."""

    small: SmallNSD
    #: (subject, session, side) -> float64 percent signal change, (n_trials, V); NaN without data.
    betas: dict[tuple[int, int, int], np.ndarray] = field(default_factory=dict)
    #: (subject, side) -> int64, (n_vertices of fsaverage,): one of the subject's own, 0-based.
    index: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    #: (subject, atlas, side) -> int64, (V,); subject 0 is fsaverage.
    labels: dict[tuple[int, str, int], np.ndarray] = field(default_factory=dict)
    #: (subject, side) -> float32, (V,), of the subject's own surface.
    ncsnr: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.small.root

    def folder(self, subject: int, space: str) -> Path:
        return self.root / f"nsddata_betas/ppdata/subj{subject:02d}/{space}/{PREPARATION}"

    def native_file(self, subject: int, session: int, side: str) -> Path:
        folder = self.folder(subject, "nativesurface")
        return folder / f"{side}.betas_session{session:02d}.hdf5"

    def mgh_file(self, subject: int, session: int, side: str) -> Path:
        return self.folder(subject, "fsaverage") / f"{side}.betas_session{session:02d}.mgh"

    def transform(self, subject: int, name: str, side: str) -> Path:
        return self.root / f"nsddata/ppdata/subj{subject:02d}/transforms/{side}.{name}.mgz"

    def label_file(self, subject: int, atlas: str, side: str) -> Path:
        name = f"subj{subject:02d}" if subject else "fsaverage"
        return self.root / f"nsddata/freesurfer/{name}/label/{side}.{atlas}.mgz"


def write_small_surfaces(small: SmallNSD, seed: int = 7) -> SmallSurfaces:
    """Write the surfaces of all subjects of a small dataset in the official layout."""
    rng = np.random.default_rng(seed)
    surfaces = SmallSurfaces(small)
    _write_labels(surfaces, 0, FSAVERAGE, FSAVERAGE_LABELS, rng)
    for subject in small.sessions:
        _write_labels(surfaces, subject, NATIVE[subject], NATIVE_LABELS, rng)
        for side, name in enumerate(SIDES):
            _write_hemisphere(surfaces, subject, side, name, rng)
    return surfaces


def _write_labels(
    surfaces: SmallSurfaces,
    subject: int,
    vertices: tuple[int, int],
    atlases: dict[str, int],
    rng: np.random.Generator,
) -> None:
    for atlas, n_labels in atlases.items():
        for side, name in enumerate(SIDES):
            labels = rng.integers(0, n_labels + 1, size=vertices[side])
            labels[: n_labels + 1] = np.arange(n_labels + 1)
            rng.shuffle(labels)
            surfaces.labels[subject, atlas, side] = labels
            write_mgh(surfaces.label_file(subject, atlas, name), labels)
        table = surfaces.label_file(subject, atlas, "lh").with_name(f"{atlas}.mgz.ctab")
        lines = [f"{label} {atlas}-{label} 0 0 0" for label in range(n_labels + 1)]
        table.write_text("\n".join(lines) + "\n")


def _write_hemisphere(
    surfaces: SmallSurfaces, subject: int, side: int, name: str, rng: np.random.Generator
) -> None:
    small, n_vertices = surfaces.small, NATIVE[subject][side]
    # Some of the subject's own vertices stand for several of fsaverage, some for none.
    index = rng.integers(0, n_vertices, size=FSAVERAGE[side])
    index[0], index[-1] = 0, n_vertices - 1
    surfaces.index[subject, side] = index
    write_mgh(surfaces.transform(subject, "white-to-fsaverage", name), index + 1)
    back = rng.integers(0, FSAVERAGE[side], size=n_vertices) + 1
    write_mgh(surfaces.transform(subject, "fsaverage-to-white", name), back)
    in_v1 = np.flatnonzero(np.isin(surfaces.labels[0, "Kastner2015", side], (1, 2)))
    of_own = np.isin(surfaces.labels[subject, "prf-visualrois", side], (1, 2))
    # Of V1 on either surface: without data, without them in one session, constant, once zero.
    dead, gone, constant, zero = np.stack([index[in_v1[:4]], np.flatnonzero(of_own)[:4]], axis=1)
    mean, deviation = rng.uniform(-3, 3, size=n_vertices), rng.uniform(0.5, 5, size=n_vertices)
    for session in range(1, small.sessions[subject] + 1):
        values = mean + deviation * rng.normal(size=(small.trials_per_session, n_vertices))
        values[3, zero] = 0  # a single zero is a zero
        if session == 1:
            values[:, constant] = 1.5
        if session == 2:
            values[:, gone] = np.nan
        values[:, dead] = np.nan
        surfaces.betas[subject, session, side] = values
        path = surfaces.native_file(subject, session, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = np.nan_to_num(np.rint(values * 300)).astype("<i2")
        with h5py.File(path, "w") as file:
            file.create_dataset("betas", data=stored, chunks=(small.trials_per_session, 1))
        write_mgh(
            surfaces.mgh_file(subject, session, name),
            values[:, index].T[:, None, None, :].astype(np.float32),
        )
    ncsnr = rng.uniform(0.05, 1.5, size=n_vertices).astype(np.float32)
    ncsnr[dead] = np.nan
    surfaces.ncsnr[subject, side] = ncsnr
    write_mgh(surfaces.folder(subject, "nativesurface") / f"{name}.ncsnr.mgh", ncsnr)
    write_mgh(surfaces.folder(subject, "fsaverage") / f"{name}.ncsnr.mgh", ncsnr[index])
