"""Assemblies with a known geometry, made without the library's analysis.

Every image has latent features; a region's voxels read them with the region's weights. With many
voxels and no noise, the correlation of two images' patterns is the cosine between their weighted
features.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from nsd_prep.assemblies.assembly import SubjectVoxels, build_assembly, voxel_table
from nsd_prep.dataset.noise_ceiling import noise_ceiling
from nsd_prep.dataset.space import VolumeSpace

FEATURES = 12
#: Variance that a region's voxels take from each third of the features.
WEIGHTS = {"V1": (0.8, 0.15, 0.05), "V2": (0.55, 0.35, 0.1), "IT": (0.05, 0.25, 0.7)}
GRIDS = {1: (9, 11, 13), 2: (8, 12, 14), 5: (10, 9, 12), 7: (9, 10, 12)}


@dataclass
class Simulation:
    """A run's data: the assemblies' responses, and the voxels of all regions."""

    nsd_ids: np.ndarray
    features: np.ndarray
    responses: Mapping[str, np.ndarray]
    tables: Mapping[str, pd.DataFrame]
    backgrounds: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def voxels(self) -> pd.DataFrame:
        """A row for each neuroid of all regions."""
        return pd.concat(self.tables.values(), ignore_index=True)

    def assemblies(self) -> Iterator[tuple[str, xr.DataArray]]:
        """Give each region's assembly."""
        for region, responses in self.responses.items():
            yield region, build_assembly(responses, self.nsd_ids, self.tables[region], {})

    def true_rdm(self, region: str) -> np.ndarray:
        """Return the RDM (n_pairs,) of very many voxels without noise."""
        weighted = self.features * np.sqrt(np.repeat(WEIGHTS[region], FEATURES // 3))
        weighted /= np.linalg.norm(weighted, axis=1, keepdims=True)
        return (1 - weighted @ weighted.T)[np.triu_indices(len(weighted), k=1)]

    def of(self, region: str, subject: str, *, reliable: bool = False) -> np.ndarray:
        """Return the responses (n_images, n_voxels) of a subject in a region."""
        table = self.tables[region]
        chosen = (table["subject"] == subject).to_numpy()
        if reliable:
            chosen = chosen & (table["noise_ceiling"] > 30).to_numpy()
        return self.responses[region][:, chosen]


def simulate(
    regions: Sequence[str] = ("V1", "V2", "IT"),
    subjects: Sequence[int] = (1, 2, 5),
    n_images: int = 30,
    n_voxels: int = 60,
    noise: float = 0.5,
    seed: int = 0,
) -> Simulation:
    """Draw the data of a run; the subjects' numbers of voxels differ by one."""
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((n_images, FEATURES))
    nsd_ids = np.sort(generator.choice(73_000, n_images, replace=False)).astype(np.int64)
    responses, tables = {}, {}
    for region in regions:
        weights = np.sqrt(np.repeat(WEIGHTS[region], FEATURES // 3))
        blocks, voxels = [], []
        for extra, subject in enumerate(subjects):
            count = n_voxels + extra
            tuning = generator.standard_normal((FEATURES, count)) * weights[:, np.newaxis]
            signal = features @ tuning
            blocks.append(signal + noise * generator.standard_normal(signal.shape))
            ncsnr = generator.uniform(0, 1.2, count).astype(np.float32)
            ncsnr[0] = np.nan
            space = VolumeSpace(GRIDS[subject], np.eye(4))
            voxels.append(
                SubjectVoxels(
                    subject=subject,
                    space=space,
                    voxels=np.sort(
                        generator.choice(space.n_sites, min(count, space.n_sites), replace=False)
                    ),
                    ncsnr=ncsnr,
                    noise_ceiling=noise_ceiling(ncsnr, 3),
                    sessions_without_data=np.zeros(count, dtype=np.int64),
                )
            )
        responses[region] = np.hstack(blocks).astype(np.float32)
        tables[region] = voxel_table(region, voxels)
    backgrounds = {
        f"subj{subject:02d}": generator.uniform(0.1, 1, GRIDS[subject]).astype(np.float32)
        for subject in subjects
    }
    return Simulation(nsd_ids, features, responses, tables, backgrounds)
