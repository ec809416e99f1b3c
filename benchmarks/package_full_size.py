"""Time and memory of the Brain-Score stage at NSD's full size, on random data.

Eight subjects, 84,564 voxels, 515 images of 425 by 425 pixels: train and test assemblies, stimulus
sets, packages. Single-trial responses are made when they are asked for, which takes the place of
reading them from a warm store and is left out of the times. Prints a table::

    python benchmarks/package_full_size.py [FOLDER]
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from peak_memory import peak_memory

from nsd_prep.assemblies.assembly import SubjectVoxels, voxel_table
from nsd_prep.assemblies.assembly_file import write_assembly
from nsd_prep.assemblies.brainscore.package import write_packages
from nsd_prep.assemblies.brainscore.plugin import write_plugin
from nsd_prep.assemblies.identifiers import SPLITS, packaged_assembly_file
from nsd_prep.assemblies.stimulus_sets import write_stimulus_sets
from nsd_prep.assemblies.train_test import build_train_and_test
from nsd_prep.checks.registry import as_table
from nsd_prep.checks.train_test import check_train_and_test
from nsd_prep.core.atomic import write_json
from nsd_prep.core.check import Check
from nsd_prep.core.digests import digest_of_file
from nsd_prep.dataset import published
from nsd_prep.dataset.noise_ceiling import noise_ceiling
from nsd_prep.dataset.space import VolumeSpace
from nsd_prep.dataset.splits import train_images

N_IMAGES = 515
SIZE = 425
MOST_SECONDS = 120
MOST_GIGABYTES = 2


class Clock:
    """Seconds of each stage, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - start


def random_voxels() -> pd.DataFrame:
    """Return the voxel table of all subjects and regions, with random places and ncsnr."""
    generator = np.random.default_rng(0)
    tables = []
    for region, counts in published.VOXEL_COUNTS.items():
        of_subjects = []
        for subject, n in zip(published.SUBJECTS, counts, strict=True):
            space = VolumeSpace(published.GRIDS[subject][::-1], np.eye(4))
            ncsnr = generator.gamma(2, 0.2, n).astype(np.float32)
            voxels = np.sort(generator.choice(space.n_sites, n, replace=False)).astype(np.int64)
            without_data = np.zeros(n, dtype=np.int64)
            of_subjects.append(
                SubjectVoxels(subject, space, voxels, ncsnr, noise_ceiling(ncsnr), without_data)
            )
        tables.append(voxel_table(region, of_subjects))
    return pd.concat(tables, ignore_index=True)


def write_stimuli(path: Path, nsd_ids: NDArray[np.int64]) -> None:
    """Write smooth random pictures with some noise, about as compressible as photographs."""
    generator = np.random.default_rng(1)
    row, column = np.mgrid[0 : 1 : SIZE * 1j, 0 : 1 : SIZE * 1j]
    with h5py.File(path, "w") as file:
        shape = (published.IMAGES, SIZE, SIZE, 3)
        images = file.create_dataset("imgBrick", shape, np.uint8, chunks=(1, SIZE, SIZE, 3))
        for nsd_id in nsd_ids:
            down, across, phase = generator.uniform(0, 60, (3, 3))
            waves = np.sin(row[..., None] * down + column[..., None] * across + phase)
            noise = generator.normal(0, 4, waves.shape)
            images[nsd_id] = np.clip(127 + 90 * waves + noise, 0, 255)


def write_manifest(folder: Path, checks: list[Check]) -> None:
    """Write ``checks.csv`` and the ``manifest.json`` that packages are verified against."""
    as_table(checks).to_csv(folder / "checks.csv", index=False)
    files = [folder / "checks.csv", *(folder / "brainscore").rglob("*.*")]
    outputs = {
        path.relative_to(folder).as_posix(): {"blake3": digest_of_file(path)} for path in files
    }
    write_json(folder / "manifest.json", {"outputs": outputs})


def main(folder: Path) -> int:
    """Run the stage in a folder; return 1 where a bar is missed."""
    clock = Clock()
    nsd_ids = np.sort(
        np.random.default_rng(2).choice(published.IMAGES, N_IMAGES, replace=False)
    ).astype(np.int64)
    write_stimuli(folder / "nsd_stimuli.hdf5", nsd_ids)
    is_train = train_images(N_IMAGES)
    counts = {
        (subject, region): n
        for region, voxels in published.VOXEL_COUNTS.items()
        for subject, n in zip(published.SUBJECTS, voxels, strict=True)
    }
    generator = np.random.default_rng(3)

    def repetitions(subject: int, region: str) -> NDArray[np.float32]:
        with clock.stage("responses made up"):
            shape = (N_IMAGES, published.REPETITIONS, counts[subject, region])
            return generator.standard_normal(shape, dtype=np.float32)

    target = folder / "brainscore"
    with clock.stage("train and test, z-scored"):
        assemblies = build_train_and_test(
            repetitions,
            random_voxels(),
            nsd_ids,
            is_train,
            attributes={"dataset": "random"},
        )
    with clock.stage("assemblies written, read back"):
        for split in SPLITS:
            write_assembly(getattr(assemblies, split), packaged_assembly_file(target, split))
    with clock.stage("checks"):
        checks = check_train_and_test(assemblies, nsd_ids, is_train)
    del assemblies
    with clock.stage("stimulus sets"):
        write_stimulus_sets(folder / "nsd_stimuli.hdf5", target, nsd_ids, is_train)
    failed = [check.name for check in checks if check.verdict != "passed"]
    write_manifest(folder, checks)
    with clock.stage("packages, plugin"):
        index = write_packages(target, folder / "packages")
        write_plugin(index, folder / "plugin")
    # They are made while train and test are built, and are no part of the stage.
    clock.seconds["train and test, z-scored"] -= clock.seconds.pop("responses made up")
    total = sum(clock.seconds.values())
    gigabytes = peak_memory() / 2**30
    for name, seconds in clock.seconds.items():
        print(f"{name:32}{seconds:8.1f} s")
    print(f"{'in all':32}{total:8.1f} s   at most {MOST_SECONDS} s")
    print(f"{'memory':32}{gigabytes:8.2f} GB  at most {MOST_GIGABYTES} GB")
    for file in index.files:
        print(f"{file.file:50}{file.bytes / 1e6:8.1f} MB  {file.sha1}")
    print(f"checks failed: {', '.join(failed) or 'none'}")
    return int(total > MOST_SECONDS or gigabytes > MOST_GIGABYTES or bool(failed))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(main(Path(scratch)))
