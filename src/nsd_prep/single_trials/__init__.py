"""All trials of a subject: what encoding and decoding models are trained on."""

from nsd_prep.single_trials.average import averaged_images
from nsd_prep.single_trials.behaviour import behaviour_file, read_behaviour
from nsd_prep.single_trials.maps import (
    brain_map,
    map_attributes,
    read_affine,
    write_map,
    write_map_of_trials,
)
from nsd_prep.single_trials.normalise import normalised, normalised_sessions
from nsd_prep.single_trials.reading import TrialReader, open_single_trials
from nsd_prep.single_trials.splits import split_columns, training_trials
from nsd_prep.single_trials.subject import SingleTrialOptions, write_subject
from nsd_prep.single_trials.table import (
    image_table,
    read_coco_ids,
    shows_images,
    trial_table,
    write_table,
)
from nsd_prep.single_trials.voxels import (
    join_regions,
    trial_voxels,
    union_of_regions,
    with_averaged_noise_ceiling,
)
from nsd_prep.single_trials.writer import (
    check_storage,
    write_averaged_images,
    write_single_trials,
)

__all__ = [
    "SingleTrialOptions",
    "TrialReader",
    "averaged_images",
    "behaviour_file",
    "brain_map",
    "check_storage",
    "image_table",
    "join_regions",
    "map_attributes",
    "normalised",
    "normalised_sessions",
    "open_single_trials",
    "read_affine",
    "read_behaviour",
    "read_coco_ids",
    "shows_images",
    "split_columns",
    "training_trials",
    "trial_table",
    "trial_voxels",
    "union_of_regions",
    "with_averaged_noise_ceiling",
    "write_averaged_images",
    "write_map",
    "write_map_of_trials",
    "write_single_trials",
    "write_subject",
    "write_table",
]
