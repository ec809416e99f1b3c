"""All kinds of checks, and the words of checks: made when they are shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import pandas as pd

from nsd_prep.checks.alignment import NCSNR_OF_VOXELS, TRIALS_OF_IMAGES
from nsd_prep.checks.assembly import (
    COORDINATES,
    DIMENSIONS,
    IMAGE_ORDER,
    NO_NAN,
    NO_RELIABLE_CONSTANT,
    NOISE_CEILING_IN_RANGE,
    SPLIT_COMPLETE,
    SUBJECTS_PRESENT,
    UNIQUE_IDS,
)
from nsd_prep.checks.assembly_values import (
    DEVIATION_AS_PREDICTED,
    MEAN_NEAR_ZERO,
    VOXELS_MEASURED,
)
from nsd_prep.checks.experiment_runs import REPETITIONS_BY_RUN
from nsd_prep.checks.hemispheres import HEMISPHERES
from nsd_prep.checks.images import COLOURS, IMAGES_OF_RESPONSES, STIMULUS_SETS
from nsd_prep.checks.placement import INSIDE_BRAIN_MASK, MASK_IN_BRAIN, ORIENTATION
from nsd_prep.checks.presentations import SINGLE_TRIALS_OF_IMAGES
from nsd_prep.checks.published_kinds import (
    PUBLISHED_CELLS_WITHOUT_DATA,
    PUBLISHED_HIGHEST_NOISE_CEILING,
    PUBLISHED_IMAGE_COUNT,
    PUBLISHED_MEAN_NOISE_CEILING,
    PUBLISHED_MEDIAN_NOISE_CEILING,
    PUBLISHED_POOLED_NOISE_CEILING,
    PUBLISHED_RDM_DEVIATION,
    PUBLISHED_REGION_CORRELATION,
    PUBLISHED_RELIABLE_VOXELS,
    PUBLISHED_REPETITIONS,
    PUBLISHED_SPLITS,
    PUBLISHED_SUBJECT_CORRELATION,
    PUBLISHED_VOXEL_COUNT,
    PUBLISHED_WEAKEST_SUBJECT,
)
from nsd_prep.checks.region_identity import REGION_IDENTITY
from nsd_prep.checks.region_order import REGION_ORDER
from nsd_prep.checks.reliability import SPLIT_HALF_RELIABILITY
from nsd_prep.checks.run import SUBJECT_CAN_BE_JUDGED
from nsd_prep.checks.runs import RUNS_IN_PLACE
from nsd_prep.checks.scales import BETAS_IN_PERCENT, SCALE_OF_RUNS, SCALE_OF_SESSIONS
from nsd_prep.checks.session_statistics import (
    SATURATION,
    SESSIONS_DIFFER,
    TRIALS_WITH_DATA,
    VOXELS_IN_PLACE,
    VOXELS_WITH_DATA,
)
from nsd_prep.checks.sessions import SESSIONS_IN_PLACE
from nsd_prep.checks.subject_agreement import EACH_SUBJECT_AGREES, SUBJECTS_AGREE, SUBJECTS_DIFFER
from nsd_prep.checks.tables import TABLES_OF_DATA
from nsd_prep.checks.train_test import (
    AGREES_WITH_REGION,
    RELIABLE_VOXELS_HAVE_CEILING,
    REPETITIONS_APART,
    SAME_NEUROIDS,
    SUBJECT_MAJOR,
)
from nsd_prep.checks.transforms import TRANSFORM
from nsd_prep.core.check import Check, Kind
from nsd_prep.core.check_table import FIELDS, NUMBERS, WORDS

#: Every kind of check, by what it looks at.
KINDS: Final[Mapping[str, tuple[Kind, ...]]] = MappingProxyType(
    {
        "the record of each session": (
            BETAS_IN_PERCENT,
            VOXELS_WITH_DATA,
            TRIALS_WITH_DATA,
            SATURATION,
            SCALE_OF_SESSIONS,
            SCALE_OF_RUNS,
            SESSIONS_DIFFER,
            VOXELS_IN_PLACE,
        ),
        "single trials, volumes and RDMs": (
            TRIALS_OF_IMAGES,
            SINGLE_TRIALS_OF_IMAGES,
            NCSNR_OF_VOXELS,
            SPLIT_HALF_RELIABILITY,
            SESSIONS_IN_PLACE,
            RUNS_IN_PLACE,
            REPETITIONS_BY_RUN,
            SUBJECT_CAN_BE_JUDGED,
            MASK_IN_BRAIN,
            INSIDE_BRAIN_MASK,
            ORIENTATION,
            HEMISPHERES,
            TRANSFORM,
            SUBJECTS_AGREE,
            EACH_SUBJECT_AGREES,
            SUBJECTS_DIFFER,
            REGION_IDENTITY,
            REGION_ORDER,
            IMAGES_OF_RESPONSES,
            COLOURS,
        ),
        "published numbers": (
            PUBLISHED_VOXEL_COUNT,
            PUBLISHED_MEDIAN_NOISE_CEILING,
            PUBLISHED_MEAN_NOISE_CEILING,
            PUBLISHED_POOLED_NOISE_CEILING,
            PUBLISHED_RELIABLE_VOXELS,
            PUBLISHED_HIGHEST_NOISE_CEILING,
            PUBLISHED_CELLS_WITHOUT_DATA,
            PUBLISHED_REPETITIONS,
            PUBLISHED_SPLITS,
            PUBLISHED_IMAGE_COUNT,
            PUBLISHED_RDM_DEVIATION,
            PUBLISHED_SUBJECT_CORRELATION,
            PUBLISHED_REGION_CORRELATION,
            PUBLISHED_WEAKEST_SUBJECT,
        ),
        "the files": (
            DIMENSIONS,
            COORDINATES,
            IMAGE_ORDER,
            SUBJECTS_PRESENT,
            UNIQUE_IDS,
            NO_NAN,
            NOISE_CEILING_IN_RANGE,
            NO_RELIABLE_CONSTANT,
            SPLIT_COMPLETE,
            DEVIATION_AS_PREDICTED,
            MEAN_NEAR_ZERO,
            VOXELS_MEASURED,
            TABLES_OF_DATA,
            REPETITIONS_APART,
            SAME_NEUROIDS,
            SUBJECT_MAJOR,
            AGREES_WITH_REGION,
            RELIABLE_VOXELS_HAVE_CEILING,
            STIMULUS_SETS,
        ),
    }
)
_BY_NAME: Final[Mapping[str, Kind]] = MappingProxyType(
    {kind.name: kind for kinds in KINDS.values() for kind in kinds}
)


@dataclass(frozen=True)
class DescribedCheck:
    """A check in words.

    Attributes
    ----------
    check : Check
        The check.
    value, expectation : str
        What was found, and what should be.
    meaning : str
        What the verdict says about the data, and what to do where it failed.
    """

    check: Check
    value: str
    expectation: str
    meaning: str


def describe(check: Check) -> DescribedCheck:
    """Put a check into the words of its kind."""
    kind = _BY_NAME[check.name]
    return DescribedCheck(
        check, kind.value_of(check), kind.expectation_of(check), kind.meaning_of(check)
    )


def as_table(checks: Sequence[Check]) -> pd.DataFrame:
    """Return the checks as a table, a row each.

    Returns
    -------
    DataFrame
        name, where, value, expectation, verdict, meaning: in words; then the fields of `Check`,
        region to unit, empty where a check has none.
    """
    rows = [
        {
            "name": check.name,
            "where": check.where,
            "value": described.value,
            "expectation": described.expectation,
            "verdict": check.verdict,
            "meaning": described.meaning,
            **{name: getattr(check, name) for name in FIELDS},
            "unit": _BY_NAME[check.name].unit_of(check),
        }
        for check, described in zip(checks, map(describe, checks), strict=True)
    ]
    return pd.DataFrame(rows, columns=[*WORDS, *FIELDS]).astype(dict(NUMBERS))
