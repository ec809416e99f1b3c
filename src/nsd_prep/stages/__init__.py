"""The stages of a run, from files to files.

Each stage reads what the stages before it left, calls the functions that compute, writes whole
files, and returns a small record.
"""

from nsd_prep.stages.brainscore import (
    check_brainscore,
    make_stimulus_sets,
    make_train_and_test,
)
from nsd_prep.stages.closing import validate, write_checks, write_manifest
from nsd_prep.stages.examination import analyse_run, examine
from nsd_prep.stages.inputs import (
    load_masks,
    load_noise_ceilings,
    map_trials,
    session_requests,
)
from nsd_prep.stages.outputs import assemble_region, split_images, tabulate_voxels
from nsd_prep.stages.responses import kept_voxels, repetitions_of_subject, voxels_of_region

__all__ = [
    "analyse_run",
    "assemble_region",
    "check_brainscore",
    "examine",
    "kept_voxels",
    "load_masks",
    "load_noise_ceilings",
    "make_stimulus_sets",
    "make_train_and_test",
    "map_trials",
    "repetitions_of_subject",
    "session_requests",
    "split_images",
    "tabulate_voxels",
    "validate",
    "voxels_of_region",
    "write_checks",
    "write_manifest",
]
