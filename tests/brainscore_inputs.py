"""Simulated responses with a known truth, in the form in which a run has them."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import xarray as xr
from blake3 import blake3
from numpy.typing import NDArray

from nsd_prep.analysis.features import Features
from nsd_prep.assemblies.assembly import SubjectVoxels, stimulus_ids, voxel_table
from nsd_prep.assemblies.assembly_file import write_assembly
from nsd_prep.assemblies.brainscore.index import PackageIndex
from nsd_prep.assemblies.brainscore.package import write_packages
from nsd_prep.assemblies.brainscore.plugin import write_plugin
from nsd_prep.assemblies.identifiers import SPLITS, packaged_assembly_file
from nsd_prep.assemblies.stimulus_sets import write_stimulus_sets
from nsd_prep.assemblies.train_test import TrainAndTest, build_train_and_test
from nsd_prep.dataset.space import FUNC1PT8MM, Space, VolumeSpace
from nsd_prep.dataset.splits import train_images

GRID = (30, 31, 32)


@dataclass(frozen=True)
class Simulation:
    """Trials of a signal that is linear in latent features, with independent noise."""

    nsd_ids: NDArray[np.int64]
    is_train: NDArray[np.bool_]
    latents: NDArray[np.float64]
    voxels: pd.DataFrame
    responses: Mapping[tuple[int, str], NDArray[np.float32]]
    #: What an assembly records of its space, where that is not func1pt8mm.
    place: Mapping[str, str] = field(default_factory=dict)

    def repetitions(self, subject: int, region: str) -> NDArray[np.float32]:
        return self.responses[subject, region]

    def build(self, dataset: str = "NSD", **options: str) -> TrainAndTest:
        """Build the assemblies, as if the simulated responses were NSD's unless said otherwise."""
        return build_train_and_test(
            self.repetitions,
            self.voxels,
            self.nsd_ids,
            self.is_train,
            attributes={"dataset": dataset, **self.place},
            **options,  # type: ignore[arg-type]
        )


def simulate(
    *,
    subjects: Sequence[int] = (1, 2),
    regions: Sequence[str] = ("V1", "V2", "V4", "IT"),
    n_images: int = 40,
    n_latents: int = 5,
    ncsnr: tuple[float, float] = (0.2, 1.5),
    n_voxels: int = 6,
    seed: int = 0,
    space: Space | None = None,
) -> Simulation:
    space = space or VolumeSpace(GRID, np.eye(4))
    generator = np.random.default_rng(seed)
    nsd_ids = np.sort(generator.choice(max(400, n_images), n_images, replace=False)).astype(
        np.int64
    )
    latents = generator.standard_normal((n_images, n_latents))
    tables, responses = [], {}
    for region in regions:
        of_subjects = []
        for subject in subjects:
            n = n_voxels + (subject + len(region)) % 3
            strength = generator.uniform(*ncsnr, n)
            tuning = generator.standard_normal((n_latents, n))
            signal = latents @ (tuning / np.linalg.norm(tuning, axis=0)) * strength
            noise = generator.standard_normal((n_images, 3, n))
            trials = (signal[:, np.newaxis] + noise) / np.sqrt(1 + strength**2)
            responses[subject, region] = trials.astype(np.float32)
            voxels = np.sort(generator.choice(space.n_sites, n, replace=False)).astype(np.int64)
            ceiling = 100 * strength**2 / (strength**2 + 1 / 3)
            of_subjects.append(
                SubjectVoxels(
                    subject,
                    space,
                    voxels,
                    strength.astype(np.float32),
                    ceiling,
                    np.zeros(n, int),
                )
            )
        tables.append(voxel_table(region, of_subjects))
    table = pd.concat(tables, ignore_index=True)
    place = {} if space.name == FUNC1PT8MM else {"space": space.name}
    return Simulation(nsd_ids, train_images(n_images), latents, table, responses, place)


def write_stimuli(path: Path, n_images: int = 400, size: int = 12) -> NDArray[np.uint8]:
    generator = np.random.default_rng(7)
    pictures = generator.integers(0, 256, (n_images, size, size + 1, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["imgBrick"] = pictures
    return pictures


def write_packages_of(assemblies: TrainAndTest, stimuli_file: Path, folder: Path) -> None:
    """Write ``packages``, ``plugin`` and a local ``cache`` of assemblies below a folder."""
    space = str(assemblies.train.attrs.get("space", FUNC1PT8MM))
    for split in SPLITS:
        path = packaged_assembly_file(folder / "brainscore", split, space=space)
        write_assembly(getattr(assemblies, split), path)
    ids = [np.unique(one["nsd_id"].to_numpy()) for one in assemblies]
    nsd_ids = np.sort(np.concatenate(ids))
    write_stimulus_sets(stimuli_file, folder / "brainscore", nsd_ids, np.isin(nsd_ids, ids[0]))
    write_manifest(folder)
    index = write_packages(folder / "brainscore", folder / "packages")
    write_plugin(index, folder / "plugin")
    fill_local_cache(folder / "packages", folder / "cache")


def fill_local_cache(packages: Path, cache: Path) -> None:
    """Put packages where Brain-Score looks before any bucket: ``$BRAINIO_HOME/SHA1/FILE``."""
    for one in PackageIndex.read(packages).files:
        (cache / one.sha1).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(packages / one.file, cache / one.sha1 / one.file)


def write_run(folder: Path, simulation: Simulation, suffix: str = "", dataset: str = "NSD") -> Path:
    """Write what a run leaves for Brain-Score, its manifest and its checks; return the folder."""
    write_stimuli(folder / "nsd_stimuli.hdf5")
    target = folder / "brainscore"
    assemblies = simulation.build(dataset)
    for split in SPLITS:
        write_assembly(getattr(assemblies, split), packaged_assembly_file(target, split, suffix))
    write_stimulus_sets(
        folder / "nsd_stimuli.hdf5",
        target,
        simulation.nsd_ids,
        simulation.is_train,
        suffix=suffix,
    )
    write_manifest(folder)
    return target


def write_manifest(folder: Path, verdicts: Sequence[str] = ("passed", "not decidable")) -> None:
    """Write ``checks.csv``, and a ``manifest.json`` of all files of a run, as a run does."""
    checks = [f"check {n},,1,1,{verdict},A check." for n, verdict in enumerate(verdicts)]
    text = "\n".join(["name,where,value,expectation,verdict,meaning", *checks]) + "\n"
    (folder / "checks.csv").write_text(text)
    files = [folder / "checks.csv", *sorted((folder / "brainscore").rglob("*.*"))]
    outputs = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "blake3": blake3(path.read_bytes()).hexdigest(),
        }
        for path in files
    }
    (folder / "manifest.json").write_text(json.dumps({"outputs": outputs}))


def write_features(path: Path, features: Features) -> None:
    """Write features in the form that `nsd_prep.analysis.features.read_features` reads."""
    xr.DataArray(
        features.values,
        dims=("presentation", "feature"),
        coords={
            "stimulus_id": ("presentation", np.array(stimulus_ids(features.nsd_ids), dtype=object)),
            "nsd_id": ("presentation", features.nsd_ids),
        },
        name="features",
    ).to_netcdf(path, engine="netcdf4")
