"""Checks that look at the data: trials, sessions, voxels and subjects are where they belong.

`check_single_trials` for each subject and region, `check_session_records`, `check_placement` and
`check_hemispheres` for each subject, `check_run` for all together, `check_images` for the stimuli;
`check_published_region` and `check_published_repetitions` for NSD itself. How they decide is
written in docs/checks.md.
"""

from nsd_prep.checks.hemispheres import check_hemispheres
from nsd_prep.checks.images import check_colours, check_images
from nsd_prep.checks.placement import check_placement, check_placement_on_surface
from nsd_prep.checks.published_kinds import Scope
from nsd_prep.checks.published_regions import check_published_gaps, check_published_region
from nsd_prep.checks.published_values import check_published_repetitions
from nsd_prep.checks.run import RegionEvidence, check_run, check_single_trials
from nsd_prep.checks.session_statistics import check_session_records
from nsd_prep.checks.transforms import check_transform
from nsd_prep.checks.trials import SingleTrials, places_of_images

__all__ = [
    "RegionEvidence",
    "Scope",
    "SingleTrials",
    "check_colours",
    "check_hemispheres",
    "check_images",
    "check_placement",
    "check_placement_on_surface",
    "check_published_gaps",
    "check_published_region",
    "check_published_repetitions",
    "check_run",
    "check_session_records",
    "check_single_trials",
    "check_transform",
    "places_of_images",
]
