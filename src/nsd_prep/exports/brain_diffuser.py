"""The arrays of responses and images that brain-diffuser reads."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from nsd_prep.core.atomic import write_text
from nsd_prep.core.progress import current_stage
from nsd_prep.dataset.images import opened_images
from nsd_prep.dataset.published import BETA_SCALE
from nsd_prep.dataset.splits import TEST, TRAIN, part_of_split
from nsd_prep.exports.files import npy_rows
from nsd_prep.exports.folder import STATE, ExportFolder
from nsd_prep.exports.source import TrialsFile
from nsd_prep.exports.tables import images_as_csv, sites_as_csv

REGION: Final = "nsdgeneral"
SPLIT: Final = "shared1000_37"
README: Final = """\
`subj0X/nsd_{train,test}_fmriavg_nsdgeneral_subX.npy` are float64, (images, voxels), and
`subj0X/nsd_{train,test}_stim_subX.npy` uint8, (images, height, width, 3).

- Rows: the images of the split `shared1000_37`, each part in the order in which the subject first
  saw its images; `subj0X/nsd_{train,test}_images_subX.csv` has the `nsd_id` (0-based) of each
  row. The subject's last three sessions are not used, because they had not been released when the
  paper was written. The test images are shared images:
  {test_images}.
- Columns: the voxels of nsdgeneral (label above 0), in the order in which a boolean mask selects
  them from the NIfTI array: i varies slowest, k fastest. `subj0X/voxels_subX.csv` has one line per
  column.
- Values: means over the repetitions in these sessions of the stored integers, which are 300 times
  percent signal change; the paper's code divides them by 300. They are not z-scored.

How these differ from the paper's files: The images are uint8 instead of float64, the same values
in an eighth of the space. Captions are not written. {images}
"""
NO_IMAGES: Final = "Because no images were given, the files of images are not written."
NO_IMAGES_OF: Final = "No images were given for {subjects}, whose files of images are not written."


def write(folder: ExportFolder, trials: TrialsFile, images_file: Path | None) -> None:
    """Plan a subject's means, the tables of their rows and columns, and their images."""
    subject = f"subj{trials.subject:02d}"
    columns = trials.in_nifti_order(trials.sites_of(REGION))
    voxels = f"{subject}/voxels_sub{trials.subject}.csv"
    digest = trials.digest
    parts = {
        part: trials.images_of(part_of_split(trials.trials, SPLIT, part), by_first_trial=True)
        for part in (TRAIN, TEST)
    }

    def write_columns() -> None:
        write_text(folder.path / voxels, sites_as_csv(trials, columns))

    folder.note(trials, test_images=len(parts[TEST]))
    folder.write([voxels], digest, write_columns, [trials])
    for part, images in parts.items():
        name = f"{subject}/nsd_{part}_fmriavg_nsdgeneral_sub{trials.subject}.npy"
        table = f"{subject}/nsd_{part}_images_sub{trials.subject}.csv"

        def write_part(
            name: str = name, table: str = table, images: list[NDArray[np.int64]] = images
        ) -> None:
            write_text(folder.path / table, images_as_csv(trials, images))
            _write_means(folder.path / name, trials, images, columns)

        folder.write([table, name], digest, write_part, [trials])
        if images_file is not None:
            stimuli = f"{subject}/nsd_{part}_stim_sub{trials.subject}.npy"
            _plan_images(folder, stimuli, images_file, trials.nsd_ids(images), trials)


def _plan_images(
    folder: ExportFolder, name: str, source: Path, nsd_ids: NDArray[np.int64], trials: TrialsFile
) -> None:
    """Plan to write images; those that are there are read only where their file was changed."""
    with opened_images(source, nsd_ids):  # holds them all; said before anything is written
        status = source.stat()
    state = {"bytes": status.st_size, "changed": status.st_ctime_ns}
    facts: dict[str, Any] = {STATE: state}
    if "images" in (recorded := folder.recorded(name)):
        is_same = recorded.get(STATE) == state
        facts["images"] = recorded["images"] if is_same else _digest_of_images(source, nsd_ids)

    def write_images() -> dict[str, str]:
        return {"images": _write_images(folder.path / name, source, nsd_ids)}

    folder.write([name], trials.digest, write_images, [trials], **facts)


def _write_means(
    path: Path, trials: TrialsFile, images: list[NDArray[np.int64]], columns: NDArray[np.int64]
) -> None:
    with npy_rows(path, (len(images), len(columns)), "<f8") as rows:
        for block in trials.blocks_of(images):
            responses = np.take(trials.reader[np.concatenate(block)], columns, axis=1)
            # Back to the integers, exactly: what the paper averages are these, in float32.
            stored = np.rint(responses * np.float32(BETA_SCALE))
            ends = np.cumsum([len(image) for image in block])[:-1]
            rows.append(
                np.stack([repetitions.mean(axis=0) for repetitions in np.split(stored, ends)])
            )
            current_stage().advance()


def _write_images(path: Path, source: Path, nsd_ids: NDArray[np.int64]) -> str:
    """Write images, and return the digest of their pixels."""
    digest = blake3()
    with (
        opened_images(source, nsd_ids) as stored,
        npy_rows(path, (len(nsd_ids), *stored.shape), "|u1") as rows,
    ):
        for nsd_id in nsd_ids.tolist():
            image = stored.read(nsd_id)
            digest.update(image.tobytes())
            rows.append(image[np.newaxis])
    return digest.hexdigest()


def _digest_of_images(source: Path, nsd_ids: NDArray[np.int64]) -> str:
    digest = blake3()
    with opened_images(source, nsd_ids) as stored:
        for nsd_id in nsd_ids.tolist():
            digest.update(stored.read(nsd_id).tobytes())
    return digest.hexdigest()
