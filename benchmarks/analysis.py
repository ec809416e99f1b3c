"""Time and memory of the representational analysis and the report, at the size of NSD.

    python benchmarks/analysis.py

The encoding baseline is fitted to random responses too, 412 images to train and 103 to test, with
as many features as are computed from pictures where no others are given.

Makes random assemblies with NSD's numbers of images and voxels (515 images, eight subjects, V1, V2,
V4 and IT: 84,564 voxels) in a temporary folder. Prints how long an RDM takes against its matrix
product alone, then the time of each part of the analysis and the report, and the peak memory of
the process.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from peak_memory import peak_memory
from threadpoolctl import threadpool_limits

from nsd_prep.analysis.encoding import score_encoding
from nsd_prep.analysis.features import Features
from nsd_prep.analysis.geometry import analyse
from nsd_prep.analysis.rdm import rdm
from nsd_prep.assemblies.assembly import SubjectVoxels, build_assembly, voxel_table
from nsd_prep.assemblies.assembly_file import read_assembly, write_assembly
from nsd_prep.dataset import published
from nsd_prep.dataset.noise_ceiling import noise_ceiling
from nsd_prep.dataset.space import VolumeSpace
from nsd_prep.report.compose import compose_report
from nsd_prep.report.figures.clusters import images_of_clusters
from nsd_prep.report.figures.slices import Anatomy
from nsd_prep.report.methods import RunFacts
from nsd_prep.report.write import write_report_files

AFFINE = np.diag([1.8, 1.8, 1.8, 1.0])
N_IMAGES = published.REPETITION_COUNTS[8][0]
N_TRAIN = 412
#: What `nsd_prep.analysis.image_features.image_features` gives of an image.
N_FEATURES = 192


def write_random_assemblies(folder: Path) -> pd.DataFrame:
    """Write an assembly for each region, and return the rows of all their voxels."""
    generator = np.random.default_rng(0)
    nsd_ids = np.sort(generator.choice(published.IMAGES, N_IMAGES, replace=False)).astype(np.int64)
    tables = []
    for region, n_voxels in published.VOXEL_COUNTS.items():
        voxels = []
        for subject, count in zip(published.SUBJECTS, n_voxels, strict=True):
            space = VolumeSpace(published.GRIDS[subject][::-1], AFFINE)
            sites = np.sort(generator.choice(space.n_sites, count, replace=False))
            ncsnr = generator.uniform(0, 0.8, count).astype(np.float32)
            none = np.zeros(count, dtype=np.int64)
            voxels.append(
                SubjectVoxels(subject, space, sites, ncsnr, noise_ceiling(ncsnr, 3), none)
            )
        table = voxel_table(region, voxels)
        responses = generator.standard_normal((N_IMAGES, len(table)), dtype=np.float32)
        write_assembly(build_assembly(responses, nsd_ids, table, {}), folder / f"{region}.nc")
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def random_train_and_test(voxels: pd.DataFrame) -> tuple[xr.DataArray, xr.DataArray]:
    """Return train and test assemblies of random responses, of the voxels of all regions."""
    generator = np.random.default_rng(3)
    names = ["neuroid_id", "subject", "region", "nc_testset"]
    table = voxels.assign(nc_testset=voxels["noise_ceiling"])[names]
    coordinates = {name: ("neuroid", table[name].to_numpy()) for name in names}
    both = []
    for nsd_ids in (
        np.arange(N_TRAIN),
        np.repeat(np.arange(N_TRAIN, N_IMAGES), published.REPETITIONS),
    ):
        shape = (len(nsd_ids), len(table), 1)
        both.append(
            xr.DataArray(
                generator.standard_normal(shape, dtype=np.float32),
                dims=("presentation", "neuroid", "time_bin"),
                coords={"nsd_id": ("presentation", nsd_ids), **coordinates},
            )
        )
    return both[0], both[1]


def random_brain(grid: tuple[int, ...]) -> NDArray[np.float32]:
    """Return an ncsnr volume (Z, Y, X): an ellipsoid of noise, NaN outside."""
    axes = np.ogrid[tuple(slice(-1, 1, complex(0, size)) for size in grid)]
    volume = np.random.default_rng(1).uniform(0, 0.8, grid).astype(np.float32)
    volume[sum(axis**2 for axis in axes) > 0.8] = np.nan
    return volume


def compare_with_product() -> None:
    """Print what an RDM costs against its matrix product, for small and large regions."""
    print(f"{'voxels':>8} {'product':>10} {'RDM':>10} {'ratio':>7}")
    for n_voxels in (397, 1_100, 9_666, 62_751):
        patterns = np.random.default_rng(1).standard_normal((N_IMAGES, n_voxels), dtype=np.float32)
        product, whole = [], []
        for _ in range(15):
            product.append(seconds(partial(np.matmul, patterns, patterns.T)))
            whole.append(seconds(partial(rdm, patterns)))
        alone, both = float(np.median(product)), float(np.median(whole))
        print(f"{n_voxels:>8,} {alone * 1e3:>7.2f} ms {both * 1e3:>7.2f} ms {both / alone:>7.2f}")


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def now() -> NDArray[np.float64]:
    """Return the time, and the processor time of this process, in seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def report_of(voxels: pd.DataFrame, folder: Path) -> None:
    """Analyse the assemblies and write the report, printing the time of each part."""

    def assemblies() -> Iterator[tuple[str, xr.DataArray]]:
        for region in published.VOXEL_COUNTS:
            yield region, read_assembly(folder / f"{region}.nc")

    anatomies = {
        f"subj{subject:02d}": Anatomy(random_brain(grid[::-1]), VolumeSpace(grid[::-1], AFFINE))
        for subject, grid in published.GRIDS.items()
    }
    generator = np.random.default_rng(2)
    sessions = pd.DataFrame(
        [
            (subject, session, *generator.uniform(0, 1, 3), generator.uniform(0, 1e-5))
            for subject, count in published.SESSION_COUNTS.items()
            for session in range(1, count + 1)
        ],
        columns=[
            "subject",
            "session",
            "agreement",
            "share_without_data",
            "deviation",
            "saturated",
        ],
    )
    counts = pd.DataFrame.from_dict(
        dict(published.REPETITION_COUNTS), orient="index", columns=[3, 2, 1, 0]
    )
    facts = RunFacts(
        dataset="random",
        is_nsd=False,
        preparation="none",
        trials_per_session=published.TRIALS_PER_SESSION,
        sessions=published.SESSION_COUNTS,
        sessions_read=published.SESSION_COUNTS,
        shared_images=published.SHARED_IMAGES,
        images=N_IMAGES,
        train_images=N_TRAIN,
        regions=dict.fromkeys(published.VOXEL_COUNTS, "random"),
        voxels={region: sum(counts) for region, counts in published.VOXEL_COUNTS.items()},
        voxel_sessions_without_data=0,
        invalid_voxels="keep",
        seed=42,
        train_fraction=0.8,
        versions={},
    )
    train_and_test = random_train_and_test(voxels)
    known = generator.standard_normal((N_IMAGES, N_FEATURES), dtype=np.float32)
    features = dict.fromkeys(published.SUBJECTS, Features(np.arange(N_IMAGES), known))
    marks = [now()]
    geometry = analyse(assemblies())
    marks.append(now())
    with threadpool_limits(1, "blas"):  # as in a run, where it is fitted beside the figures
        score_encoding(*train_and_test, features)
    marks.append(now())
    thumbnails = {
        int(nsd_id): generator.integers(0, 256, (72, 72, 3), dtype=np.uint8)
        for nsd_id in images_of_clusters(geometry)
    }
    report = compose_report(
        facts,
        geometry,
        voxels,
        counts,
        (),
        anatomies=anatomies,
        sessions=sessions,
        thumbnails=thumbnails,
    )
    marks.append(now())
    page = write_report_files(folder / "report", report)[-1]
    marks.append(now())
    print(f"{'':<22} {'seconds':>9} {'processor':>9} {'cores busy':>10}")
    parts = ("reading and RDMs", "encoding baseline", "figures and tables", "writing")
    for part, start, stop in (
        *zip(parts, marks, marks[1:], strict=False),
        ("all", marks[0], marks[-1]),
    ):
        wall, processor = stop - start
        print(f"{part:<22} {wall:>9.1f} {processor:>9.1f} {processor / wall:>10.2f}")
    print(f"{'page':<22} {page.stat().st_size / 1e6:>9.1f} MB")


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as name:
        voxels = write_random_assemblies(Path(name))
        report_of(voxels, Path(name))
    peak = peak_memory() / 2**20
    print(f"{'peak memory':<22} {peak:>9.0f} MB (with making the random data)\n")
    compare_with_product()


if __name__ == "__main__":
    main()
