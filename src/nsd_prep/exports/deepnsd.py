"""The tables of responses and voxels that DeepNSD reads."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.atomic import write_text, written_whole
from nsd_prep.core.coordinates import MEMBERSHIP
from nsd_prep.core.digests import digest_of_json
from nsd_prep.core.errors import ParameterError
from nsd_prep.core.progress import current_stage
from nsd_prep.exports.folder import ExportFolder
from nsd_prep.exports.source import TrialsFile

README: Final = """\
`voxel_betas.csv` has the index `voxel_id` and one column per image. `voxel_metadata.csv` has the
index `voxel_id` and the columns `subj_id`, `ncsnr` and one per region, with 0 or 1.
`shared1000.csv` has one line per image, in the order of the columns.

- Rows: the voxels of each subject in the single trials, one subject after the other, in the order
  in which a boolean mask selects them from the NIfTI array: i varies slowest, k fastest.
  `S1-12-21-47` is the voxel (i, j, k) = (12, 21, 47), 0-based, of subject 1.
- Columns: the shared images that all exported subjects saw, by ascending `nsd_id` (0-based).
- Values: means over the available repetitions of z-scores over the {trials} trials of each
  session, in float32, written with nine digits, which represent each value exactly.

How these differ from the paper's files: Which voxels there are is your choice (`--regions`,
`--min-ncsnr`); the paper takes those of its regions with an ncsnr above 0.2. Its combined regions
EVC and OTC are not included. Columns are named by `nsd_id`; no image files are written.
"""


def write(folder: ExportFolder, subjects: Sequence[TrialsFile]) -> None:
    """Plan the tables of all subjects."""
    nsd_ids = _shared_images(subjects)
    names = ["voxel_betas.csv", "voxel_metadata.csv", "shared1000.csv"]

    def write_files() -> None:
        metadata = pd.concat([_metadata(trials) for trials in subjects])
        regions = [name for name in metadata if name not in ("subj_id", "ncsnr")]
        # A region that a subject lacks is nowhere in it.
        metadata = metadata.fillna(dict.fromkeys(regions, 0)).astype(dict.fromkeys(regions, int))
        write_text(folder.path / names[1], metadata.to_csv(lineterminator="\n"))
        stimuli = pd.DataFrame(
            {
                "image_name": [f"nsd-{nsd_id:05d}.png" for nsd_id in nsd_ids.tolist()],
                "nsd_id": nsd_ids,
            }
        )
        write_text(folder.path / names[2], stimuli.to_csv(index=False, lineterminator="\n"))
        with ExitStack() as stack:
            partial = stack.enter_context(written_whole(folder.path / names[0]))
            file = stack.enter_context(partial.open("w", encoding="ascii", newline="\n"))
            file.write(",".join(["voxel_id", *map(str, nsd_ids.tolist())]) + "\n")
            line = ",".join(["%.9g"] * len(nsd_ids))
            for trials in subjects:
                columns = _columns(trials)
                means = _means(trials, nsd_ids)[:, columns]
                for voxel, values in zip(_voxel_ids(trials, columns), means.T, strict=True):
                    file.write(f"{voxel},{line % tuple(values.tolist())}\n")

    digest = digest_of_json([trials.digest for trials in subjects])
    folder.write(names, digest, write_files, subjects)


def _shared_images(subjects: Sequence[TrialsFile]) -> NDArray[np.int64]:
    seen = [
        set(trials.trials.loc[trials.trials["is_shared"].astype(bool), "nsd_id"].tolist())
        for trials in subjects
    ]
    images = np.array(sorted(set.intersection(*seen)), dtype=np.int64)
    if not len(images):
        listed = ", ".join(str(trials.subject) for trials in subjects)
        raise ParameterError(
            f"The subjects {listed} saw no shared image in common, and the export deepnsd holds "
            "only such images: export other subjects, or each by itself."
        )
    return images


def _columns(trials: TrialsFile) -> NDArray[np.int64]:
    return trials.in_nifti_order(np.arange(len(trials.sites)))


def _voxel_ids(trials: TrialsFile, columns: NDArray[np.int64]) -> list[str]:
    indices = trials.sites[["nifti_i", "nifti_j", "nifti_k"]].to_numpy()[columns].tolist()
    return [f"S{trials.subject}-{i}-{j}-{k}" for i, j, k in indices]


def _metadata(trials: TrialsFile) -> pd.DataFrame:
    columns = _columns(trials)
    table = {"subj_id": trials.subject, "ncsnr": trials.sites["ncsnr"].to_numpy()[columns]} | {
        name.removeprefix(MEMBERSHIP): trials.sites[name].to_numpy()[columns].astype(np.int64)
        for name in trials.regions
    }
    return pd.DataFrame(table, index=pd.Index(_voxel_ids(trials, columns), name="voxel_id"))


def _means(trials: TrialsFile, nsd_ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the mean response to each image (n_images, n_sites), of its trials in their order."""
    means = np.empty((len(nsd_ids), trials.reader.shape[1]), dtype=np.float32)
    start = 0
    for block in trials.blocks_of(trials.images_of(trials.trials["nsd_id"].isin(nsd_ids))):
        responses = trials.reader[np.concatenate(block)]
        ends = np.cumsum([len(image) for image in block])[:-1]
        for repetitions in np.split(responses, ends):
            means[start] = repetitions.mean(axis=0)
            start += 1
        current_stage().advance()
    return means
