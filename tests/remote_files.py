"""Files of betas for the tests of the remote reader, and truths about them."""

from pathlib import Path

import h5py
import numpy as np

GRID = (9, 14, 21)  # (Z, Y, X): more voxels than two levels of the index hold
N_TRIALS = 750

#: How a writer fills a file: the order of its chunks differs, the values do not.
ORDERS = ("in order", "default chunk cache", "chunk cache of 1 MB", "shuffled")


def random_betas(seed: int, grid: tuple[int, int, int], n_trials: int) -> np.ndarray:
    """Return int16 betas (n_trials, Z, Y, X), some voxels 0."""
    rng = np.random.default_rng(seed)
    betas = rng.integers(-32768, 32768, size=(n_trials, *grid), dtype=np.int16)
    betas[:, rng.random(grid) < 0.2] = 0
    return betas


def write_in_order(path: Path, betas: np.ndarray, order: str = "in order") -> None:
    """Write betas (n_trials, Z, Y, X), a chunk a voxel, the chunks in an order."""
    n_trials, *grid = betas.shape
    chunks = (n_trials, 1, 1, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    if order in ("in order", "shuffled"):
        at = np.arange(np.prod(grid))
        if order == "shuffled":
            at = np.random.default_rng(0).permutation(at)
        of_voxel = np.ascontiguousarray(np.moveaxis(betas, 0, -1))
        with h5py.File(path, "w", libver="earliest") as file:
            dataset = file.create_dataset("betas", betas.shape, "<i2", chunks=chunks)
            for z, y, x in zip(*map(np.ndarray.tolist, np.unravel_index(at, grid)), strict=True):
                dataset.id.write_direct_chunk((0, z, y, x), of_voxel[z, y, x])
        return
    cache = {} if order == "default chunk cache" else {"rdcc_nbytes": 1 << 20, "rdcc_nslots": 521}
    with h5py.File(path, "w", **cache) as file:
        file.create_dataset("betas", data=betas, chunks=chunks)


def chunk_places(path: Path) -> np.ndarray:
    """Return where each voxel's chunk begins, in the order of the raveled grid, by h5py."""
    with h5py.File(path, "r") as file:
        betas = file["betas"]
        places = np.full(np.prod(betas.shape[1:]), -1, dtype=np.int64)

        def note(chunk: h5py.h5d.StoreInfo) -> None:
            voxel = np.ravel_multi_index(chunk.chunk_offset[1:], betas.shape[1:])
            places[voxel] = chunk.byte_offset

        betas.id.chunk_iter(note)
    return places


def whole_volume(path: Path) -> np.ndarray:
    """Return all betas (n_voxels, n_trials), by h5py."""
    with h5py.File(path, "r") as file:
        betas = file["betas"][:].astype(np.int16)
    return betas.reshape(len(betas), -1).T
