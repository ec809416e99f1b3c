"""The table of images: what each is a part of, and when each subject saw it."""

import io
import json
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from nsd_prep.core.atomic import write_table, written_whole
from nsd_prep.core.counts import first_and_others
from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.design import Design
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.published import DOWNLOAD_AGAIN, REPETITIONS
from nsd_prep.dataset.trials import repetition_of_trial

IMAGES_CSV: Final = "images.csv"
IMAGES_PARQUET: Final = "images.parquet"
#: The shares of the COCO image that were cut off at each side, in the order of cropBox.
CROP_COLUMNS: Final = ("crop_top", "crop_bottom", "crop_left", "crop_right")


def table_of_images(dataset: Dataset, design: Design) -> pd.DataFrame:
    """Return a row for each image of a dataset.

    Parameters
    ----------
    dataset : Dataset
        Where the table of stimuli is, if there is one.
    design : Design
        Which image each trial shows.

    Returns
    -------
    DataFrame
        nsd_id ascending (0-based). Columns: nsd_id; where the dataset has
        ``nsd_stim_info_merged.csv``, coco_id, coco_split, and crop_top, crop_bottom, crop_left and
        crop_right, the shares of the COCO image's height and width that were cut off; is_shared;
        and for each subject of the dataset and repetition (0-based) ``subj01_rep0_session``
        (1-based) and ``subj01_rep0_trial`` (0-based in the session), Int64, missing where the
        subject did not see the image so often in the sessions that there are.

    Raises
    ------
    InputFileError
        The table of stimuli cannot be read, or lacks an image.
    OSError
        The disk fails.
    """
    path = dataset.stimulus_table
    if dataset.exists(path):
        images = _read_stimuli(path, dataset.read(path))
        missing = np.setdiff1d(np.unique(design.nsd_id_of_image), images["nsd_id"])
        if len(missing):
            raise InputFileError(
                f"The stimulus table {path} has no row for nsd_id "
                f"{first_and_others(missing[0], len(missing), 'image')} of the design: expected "
                f"one for each; {DOWNLOAD_AGAIN}."
            )
    else:
        images = pd.DataFrame({"nsd_id": np.unique(design.nsd_id_of_image)})
    images["is_shared"] = np.isin(images["nsd_id"], design.shared_nsd_ids)
    seen = _presentations(design, dataset.sessions, dataset.trials_per_session)
    joined = images.join(seen, on="nsd_id", validate="one_to_one")
    return joined.astype(dict.fromkeys(seen.columns, "Int64"))


def _read_stimuli(path: Path, content: bytes) -> pd.DataFrame:
    columns = ["nsdId", "cocoId", "cocoSplit", "cropBox"]
    try:
        table = pd.read_csv(io.BytesIO(content), usecols=columns)
        crop = table["cropBox"].str.strip("() ").str.split(",", expand=True).astype(np.float64)
        crop.columns = pd.Index(CROP_COLUMNS)
        table = table.astype({"nsdId": np.int64, "cocoId": np.int64})
    except (ValueError, AttributeError, UnicodeDecodeError) as error:
        raise InputFileError(
            f"The stimulus table {path} does not describe the images ({error}): expected the "
            f"columns {', '.join(columns)}, cropBox as (top, bottom, left, right); "
            f"{DOWNLOAD_AGAIN}."
        ) from error
    named = table.rename(
        columns={"nsdId": "nsd_id", "cocoId": "coco_id", "cocoSplit": "coco_split"}
    )[["nsd_id", "coco_id", "coco_split"]]
    return named.join(crop).sort_values("nsd_id", ignore_index=True)


def _presentations(
    design: Design, sessions: Mapping[int, int], trials_per_session: int
) -> pd.DataFrame:
    """Return when each subject saw each image, by nsd_id."""
    columns = {}
    for subject, n_sessions in sorted(sessions.items()):
        nsd_id = design.nsd_id_of_trial(subject, n_sessions * trials_per_session)
        repetition = repetition_of_trial(nsd_id)
        for number in range(REPETITIONS):
            trial = np.flatnonzero(repetition == number)
            index = pd.Index(nsd_id[trial], name="nsd_id")
            name = f"subj{subject:02d}_rep{number}"
            columns[f"{name}_session"] = pd.Series(trial // trials_per_session + 1, index)
            columns[f"{name}_trial"] = pd.Series(trial % trials_per_session, index)
    return pd.DataFrame(columns)


def as_stored(images: pd.DataFrame) -> pd.DataFrame:
    """Return a table of images as files hold it: lists as JSON."""
    lists = [name for name in ("captions", "categories") if name in images]
    texts = {name: images[name].map(partial(json.dumps, ensure_ascii=False)) for name in lists}
    return images.assign(**texts)


def write_images(folder: Path, images: pd.DataFrame) -> list[Path]:
    """Write a table of images: ``images.csv``, and ``images.parquet`` where pyarrow is installed.

    Raises
    ------
    OutputError
        The disk is full or cannot be written.
    """
    stored = as_stored(images)
    paths = [folder / IMAGES_CSV]
    write_table(paths[0], stored)
    if find_spec("pyarrow") is not None:
        paths.append(folder / IMAGES_PARQUET)
        with written_whole(paths[1]) as partial_file:
            stored.to_parquet(partial_file, engine="pyarrow", index=False)
    return paths
