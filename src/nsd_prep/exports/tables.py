"""Tables of the rows and columns of what is exported."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.exports.source import TrialsFile


def trials_as_csv(trials: TrialsFile) -> str:
    """Return all trials with their columns, as CSV; trial is 0-based."""
    return trials.trials.to_csv(lineterminator="\n")


def sites_as_csv(trials: TrialsFile, columns: NDArray[np.int64]) -> str:
    """Return the sites of an array's columns, in their order, as CSV; column is 0-based."""
    table = trials.sites.iloc[columns].reset_index(drop=True).rename_axis(index="column")
    return table.to_csv(lineterminator="\n")


def images_as_csv(trials: TrialsFile, images: list[NDArray[np.int64]]) -> str:
    """Return the images of an array's rows, in their order, as CSV; row is 0-based."""
    columns: dict[str, object] = {"nsd_id": trials.nsd_ids(images)}
    if "coco_id" in trials.trials:
        first = [int(rows[0]) for rows in images]
        columns["coco_id"] = trials.trials["coco_id"].to_numpy()[first]
    columns["n_repetitions"] = [len(rows) for rows in images]
    return pd.DataFrame(columns).rename_axis(index="row").to_csv(lineterminator="\n")
