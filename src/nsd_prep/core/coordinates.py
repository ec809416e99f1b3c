"""What columns and coordinates are, in the manner of the CF conventions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_BETAS_INDEX: Final = "0-based index into the beta files' volume, axis"
_NIFTI_INDEX: Final = "0-based index into the NIfTI files' volume, axis"
_NCSNR: Final = "noise ceiling signal-to-noise ratio"
#: What is in front of a region's name where a column says which voxels it holds.
MEMBERSHIP: Final = "in_"
#: The ``long_name`` and ``units`` of each; names and ids have no units.
_LONG_NAMES_AND_UNITS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        # images
        "stimulus_id": ("image", ""),
        "nsd_id": ("0-based index of the image among NSD's 73,000", ""),
        "coco_id": ("image of COCO that the image was cut from", ""),
        "image": ("0-based index of the image in NSD-synthetic", ""),
        "image_name": ("name of the image's file", ""),
        "image_class": ("class of the image", ""),
        "image_subclass": ("subclass of the image", ""),
        "is_shared": ("whether the image is one of the 1,000 shared images", ""),
        "is_train": ("whether the image is for training", ""),
        "shared1000": ("part of the image in the split shared1000", ""),
        "shared1000_37": ("part in the split shared1000_37", ""),
        "algonauts2023": ("part in the split algonauts2023", ""),
        "shared515": ("part of the image in the split shared515", ""),
        "nsd_prep": ("part of the image in the split of nsd-prep's assemblies", ""),
        "split_file": ("part of the image in the split of one's own file", ""),
        "n_repetitions": ("trials of the image that were averaged", "1"),
        # trials
        "session": ("1-based session", "1"),
        "run": ("run: its 1-based number in the session, or its name", ""),
        "trial_in_session": ("0-based trial of the session", "1"),
        "trial_in_run": ("0-based trial of the run", "1"),
        "repetition": ("0-based repetition of the image", "1"),
        "is_old": ("whether the subject had seen the image before", ""),
        "is_correct": ("whether the subject's answer was right", ""),
        "response_time": ("time from the image to the subject's answer", "ms"),
        "task": ("what the subject did", ""),
        "target_set": ("set of targets of the run: A, B or C", ""),
        "epoch": ("part of an attention trial: its cue, or the detection", ""),
        "condition": ("condition of the trial, in the letters of the experiment", ""),
        "cue": ("letter that was shown as a cue", ""),
        "target": ("letter of what was shown, attended to or imagined", ""),
        # voxels and vertices
        "neuroid_id": ("voxel or vertex, numbered within its region and subject", ""),
        "subject": ("subject", ""),
        "region": ("region", ""),
        "voxel_x": (f"{_BETAS_INDEX} 0 (NIfTI k)", "1"),
        "voxel_y": (f"{_BETAS_INDEX} 1 (NIfTI j)", "1"),
        "voxel_z": (f"{_BETAS_INDEX} 2 (NIfTI i)", "1"),
        "nifti_i": (f"{_NIFTI_INDEX} 0", "1"),
        "nifti_j": (f"{_NIFTI_INDEX} 1", "1"),
        "nifti_k": (f"{_NIFTI_INDEX} 2", "1"),
        "hemisphere": ("hemisphere", ""),
        "vertex_index": ("0-based index of the vertex in its hemisphere", "1"),
        "sessions_without_data": ("sessions in which the voxel is constant or has no data", "1"),
        "is_valid": ("whether the voxel has data in the experiment", ""),
        "ncsnr": (_NCSNR, "1"),
        "ncsnr_split1": (f"{_NCSNR}, of the first half of the images", "1"),
        "ncsnr_split2": (f"{_NCSNR}, of the second half of the images", "1"),
        "ncsnr_core": (f"{_NCSNR}, in NSD's main experiment", "1"),
        "nc_testset": ("noise ceiling of the mean of 3 trials", "percent"),
        "noise_ceiling": (
            "noise ceiling of the mean of an image's trials, 3 in NSD's main experiment",
            "percent",
        ),
        "noise_ceiling_1": ("noise ceiling of a single trial", "percent"),
        "noise_ceiling_averaged": ("noise ceiling of the means in this file", "percent"),
        "split_half_reliability": (
            "Spearman-Brown-corrected r of first and second trials",
            "1",
        ),
        # time
        "time_bin_start": ("start of the time bin", "ms"),
        "time_bin_end": ("end of the time bin", "ms"),
    }
)


def description_of(name: str) -> dict[str, str]:
    """Return the ``long_name`` of a column or coordinate, and its ``units`` if it has any."""
    if name.startswith(MEMBERSHIP):
        return {"long_name": f"whether it is in the region {name.removeprefix(MEMBERSHIP)}"}
    if name not in _LONG_NAMES_AND_UNITS:
        return {}
    long_name, units = _LONG_NAMES_AND_UNITS[name]
    return {"long_name": long_name} | ({"units": units} if units else {})
