"""What the single trials of a subject of a `small_nsd.SmallNSD` are made from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import single_trials_reference as plain
from small_nsd import SmallNSD

from nsd_prep.dataset.betas import read_voxels
from nsd_prep.dataset.design import Design, read_design
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.masks import select_voxels
from nsd_prep.dataset.regions import BUILT_IN_REGIONS, union_of_regions
from nsd_prep.dataset.space import VolumeSpace
from nsd_prep.dataset.trials import read_coco_ids, trial_table
from nsd_prep.dataset.volumes import read_ncsnr
from nsd_prep.single_trials.normalise import normalised_sessions
from nsd_prep.single_trials.voxels import trial_voxels
from nsd_prep.single_trials.writer import checked_sessions, write_rows
from nsd_prep.sources.opening import open_dataset


@dataclass(frozen=True)
class Subject:
    """A subject as the library reads it."""

    number: int
    dataset: Dataset
    design: Design
    usable: np.ndarray
    trials: pd.DataFrame
    regions: Mapping[str, np.ndarray]
    space: VolumeSpace
    voxels: pd.DataFrame

    @classmethod
    def load(cls, small: SmallNSD, number: int, chosen: tuple[int, ...] = (1, 2, 5)) -> Self:
        """Read tables and masks; the images of `chosen` subjects are split."""
        dataset = open_dataset(small.root)
        design = read_design(dataset.design_file)
        usable = np.array(plain.seen_three_times(small, list(chosen)))
        trials = trial_table(
            design,
            number,
            dataset.sessions,
            dataset.trials_per_session,
            usable,
            coco_ids=read_coco_ids(dataset.stimulus_table),
        )
        names = list(plain.REGIONS)
        selection = select_voxels(dataset, number, {name: BUILT_IN_REGIONS[name] for name in names})
        ncsnr, space = read_ncsnr(dataset.ncsnr_file(number))
        voxels = trial_voxels(selection.regions, space, ncsnr)
        return cls(number, dataset, design, usable, trials, selection.regions, space, voxels)

    def sessions(self) -> Iterator[tuple[int, np.ndarray]]:
        """Read the sessions one after the other: int16 (n_voxels, n_trials), as stored."""
        voxels = union_of_regions(self.regions)
        for session in range(1, self.dataset.sessions[self.number] + 1):
            path = self.dataset.session_file(self.number, session)
            n_trials = self.dataset.trials_per_session
            yield session, read_voxels(path, voxels, self.space.shape, n_trials)

    def responses(self) -> Iterator[tuple[int, np.ndarray]]:
        """Z-score the sessions one after the other."""
        return normalised_sessions(self.sessions(), self.trials, "session")

    def write(self, path: Path, **options: Any) -> Path:
        """Write the z-scored trials."""
        options = {"attributes": {"subject": self.number, "units": "SD"}} | options
        blocks = checked_sessions(self.responses(), self.trials)
        write_rows(path, blocks, self.trials, self.voxels, **options)
        return path
