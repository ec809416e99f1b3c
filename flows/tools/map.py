"""The command ``map``: a value for each voxel or vertex, as a map."""

from pathlib import Path
from typing import Literal

from nsd_prep.flows.options import Flag


def map_(
    trials: Path,
    target: Path,
    *,
    values: str = "noise_ceiling",
    outside: float = float("nan"),
    to: Literal["fsaverage"] | None = None,
    nsd_root: str | Path | None = None,
    accept_nsd_terms: Flag = False,
) -> int:
    """Write one value per voxel or vertex of a subject's single trials as a map.

    Voxels become a NIfTI file; vertices, and voxels brought to fsaverage, one file per hemisphere
    (lh.NAME and rh.NAME).

    Args:
        trials: File that 'nsd-prep trials' wrote for a subject, such as trials/subj01.nc.
        target: File to write: .nii.gz or .nii for a volume, .gii, .mgh or .mgz for a surface. If
            it is a .npy file, it holds the values, and the map is written beside it, as .nii.gz
            or .mgh.
        values: A column of the voxels, such as ncsnr, noise_ceiling_1 or in_V1, or a .npy file
            with a number for each voxel, in the order of the file of trials.
        outside: Value of all other voxels of the volume, or vertices of the surface.
        to: Bring the values to this surface, through the dataset's transforms.
        nsd_root: The dataset, for --to; NSD_ROOT by default.
        accept_nsd_terms: Accept the terms of NSD, for its own bucket.
    """
    import os

    from nsd_prep.core.errors import ParameterError
    from nsd_prep.pipeline.cache import in_use_by
    from nsd_prep.single_trials.maps import map_beside, write_map_of_trials
    from nsd_prep.sources.opening import open_dataset

    dataset, root = None, ""
    if to is not None:
        root = str(nsd_root or os.environ.get("NSD_ROOT", ""))
        if not root:
            raise ParameterError(
                "--to fsaverage needs the dataset's transforms: give its root with --nsd-root."
            )
        dataset = open_dataset(root, accept_nsd_terms=accept_nsd_terms or None)
    if target.suffix == ".npy":
        values, target = str(target), map_beside(target, trials, is_surface=dataset is not None)
    with in_use_by(root):
        for path in write_map_of_trials(trials, target, values, outside, dataset):
            print(f"Written: {path}")  # noqa: T201
    return 0
