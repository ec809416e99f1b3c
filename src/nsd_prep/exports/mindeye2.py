"""The file of responses that MindEye2 reads."""

from typing import Final

import numpy as np

from nsd_prep.core.atomic import write_text
from nsd_prep.core.progress import current_stage
from nsd_prep.exports.files import hdf5_rows
from nsd_prep.exports.folder import ExportFolder
from nsd_prep.exports.source import TrialsFile
from nsd_prep.exports.tables import sites_as_csv, trials_as_csv

REGION: Final = "nsdgeneral"
README: Final = """\
`betas_all_subj0X_fp32_renorm.hdf5` holds the dataset `betas`, float32, (trials, voxels).

- Rows: every trial of the subject's sessions, in the order of the experiment. Row t of
  `trials_subj0X.csv` says which image trial t shows (`nsd_id`, 0-based). Trials of sessions that
  a split does not use are included.
- Columns: the voxels of nsdgeneral (label above 0), in the order in which a boolean mask selects
  them from the NIfTI array: i varies slowest, k fastest. `voxels_subj0X.csv` has one line per
  column.
- Values: z-scores over the {trials} trials of each session, computed for each session separately
  with the population standard deviation, in float32; 0 where a voxel is constant in a session. As
  in the paper's file, the trials of test images contribute to the means and standard deviations.

How this differs from the paper's file: The paper's file has 30,000 rows for each subject; this one
has one row per trial. The last bits of the z-scores may differ, because the order of additions is
not published. The images (`coco_images_224_float16.hdf5`) and the webdatasets of indices are not
written; `trials_subj0X.csv` takes the place of the latter.
"""


def write(folder: ExportFolder, trials: TrialsFile) -> None:
    """Plan a subject's file and the tables of its rows and columns."""
    columns = trials.in_nifti_order(trials.sites_of(REGION))
    name = f"betas_all_subj{trials.subject:02d}_fp32_renorm.hdf5"
    rows_table = f"trials_subj{trials.subject:02d}.csv"
    columns_table = f"voxels_subj{trials.subject:02d}.csv"

    def write_files() -> None:
        write_text(folder.path / rows_table, trials_as_csv(trials))
        write_text(folder.path / columns_table, sites_as_csv(trials, columns))
        shape = (len(trials.trials), len(columns))
        with hdf5_rows(folder.path / name, "betas", shape, "<f4") as rows:
            for session in trials.sessions():
                rows.append(np.take(trials.reader[session], columns, axis=1))
                current_stage().advance()

    folder.write([rows_table, columns_table, name], trials.digest, write_files, [trials])
