"""The tables of a run: trials, split, voxels, noise ceilings."""

import numpy as np
import pandas as pd

from nsd_prep.assemblies.assembly import stimulus_ids
from nsd_prep.core.atomic import write_table
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.dataset.published import RELIABLE_NOISE_CEILING
from nsd_prep.pipeline import outputs
from nsd_prep.pipeline.prepared import Prepared


def write_tables(prepared: Prepared, folder: Folder) -> StepOutput:
    """Write the tables of a run.

    ``trials.csv``, ``train_test_split.csv``, ``voxels.csv`` (a row for each neuroid) and
    ``noise_ceilings.csv`` (a row for each subject and region).
    """
    voxels = neuroids(prepared)
    tables = {
        outputs.TRIALS: trials_table(prepared.trials),
        outputs.SPLIT: split_table(prepared),
        outputs.VOXELS: voxels,
        outputs.NOISE_CEILINGS: noise_ceiling_table(voxels),
    }
    for name, table in tables.items():
        write_table(folder.path / name, table)
    return StepOutput.in_folder(folder, tables)


def neuroids(prepared: Prepared) -> pd.DataFrame:
    """Return the rows of the voxels that are kept, with the columns of ``voxels.csv``."""
    kept = prepared.voxels[prepared.voxels["kept"]]
    return kept.drop(columns="kept").reset_index(drop=True)


def trials_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the table of trials with its subjects as all tables have them (``subj01``)."""
    return trials.assign(subject=trials["subject"].map("subj{:02d}".format))


def split_table(prepared: Prepared) -> pd.DataFrame:
    """Return stimulus_id, nsd_id and split ("train" or "test") of each usable image."""
    return pd.DataFrame(
        {
            "stimulus_id": stimulus_ids(prepared.nsd_ids),
            "nsd_id": prepared.nsd_ids,
            "split": np.where(prepared.is_train, "train", "test"),
        }
    )


def noise_ceiling_table(voxels: pd.DataFrame) -> pd.DataFrame:
    """Summarise noise ceilings, from a table with a row for each neuroid.

    Returns
    -------
    DataFrame
        region, subject ("all" for the pooled voxels), voxels, reliable_voxels (noise ceiling above
        30 %), and median_noise_ceiling (percent).
    """
    rows = []
    for region, in_region in voxels.groupby("region", sort=False):
        for subject, group in (*in_region.groupby("subject", sort=False), ("all", in_region)):
            ceilings = group["noise_ceiling"]
            rows.append(
                {
                    "region": region,
                    "subject": subject,
                    "voxels": len(group),
                    "reliable_voxels": int((ceilings > RELIABLE_NOISE_CEILING).sum()),
                    "median_noise_ceiling": float(ceilings.median()),
                }
            )
    return pd.DataFrame(rows)
