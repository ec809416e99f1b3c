"""Checks that look at the data: trials, sessions, voxels and subjects are where they belong.

`check_single_trials` for each subject and region, `check_placement` for each subject, `check_run`
for all together; `check_published_noise_ceilings` for each region of NSD itself. How they decide
is written in docs/checks.md.
"""

from nsd_prep.data_checks.placement import check_placement
from nsd_prep.data_checks.published_values import check_published_noise_ceilings
from nsd_prep.data_checks.run import RegionEvidence, check_run, check_single_trials
from nsd_prep.data_checks.session_records import check_session_records
from nsd_prep.data_checks.single_trials import SingleTrials, places_of_images

__all__ = [
    "RegionEvidence",
    "SingleTrials",
    "check_placement",
    "check_published_noise_ceilings",
    "check_run",
    "check_session_records",
    "check_single_trials",
    "places_of_images",
]
