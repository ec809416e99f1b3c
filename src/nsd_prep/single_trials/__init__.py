"""All trials of a subject: what encoding and decoding models are trained on."""

from nsd_prep.single_trials.maps import brain_map, write_map, write_surface_map
from nsd_prep.single_trials.reading import TrialReader, open_single_trials

__all__ = ["TrialReader", "brain_map", "open_single_trials", "write_map", "write_surface_map"]
