"""The steps of a run: names, versions and functions. Names and versions are part of cache keys."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from nsd_prep.extraction.request import EXTRACTION_VERSION
from nsd_prep.pipeline import loading
from nsd_prep.pipeline.step import Step

if TYPE_CHECKING:
    from nsd_prep.pipeline.steps import (
        assemblies,
        brainscore,
        checks,
        extraction,
        report,
        single_trials,
        single_trials_report,
        tables,
    )
else:
    # To look at inputs none of these is needed, and what draws and regresses takes seconds to
    # import: a step imports its module when it is first carried out.
    class _Module:
        def __init__(self, name: str) -> None:
            self._name = f"nsd_prep.pipeline.steps.{name}"

        def __getattr__(self, function: str) -> str:
            return f"{self._name}:{function}"

    assemblies, brainscore, checks, extraction = map(
        _Module, ("assemblies", "brainscore", "checks", "extraction")
    )
    report, single_trials, single_trials_report, tables = map(
        _Module, ("report", "single_trials", "single_trials_report", "tables")
    )


def _extraction_name(parameters: Mapping[str, Any]) -> str:
    requests = parameters["requests"]
    first, last = requests[0], requests[-1]
    name = f"extract-subj{first.subject:02d}-session{first.session:02d}"
    return name if first == last else f"{name}-to-{last.session:02d}"


MAP_TRIALS: Final = Step("map-trials", loading.map_trials, is_cached=False)
LOAD_MASKS: Final = Step(
    "load-masks", loading.load_masks, "load-masks-subj{subject:02d}", is_cached=False
)
LOAD_NOISE_CEILINGS: Final = Step(
    "load-noise-ceilings",
    loading.load_noise_ceilings,
    "load-noise-ceilings-subj{subject:02d}",
    is_cached=False,
)
EXTRACT_SESSIONS: Final = Step(
    "extract-sessions", extraction.extract_chunk, _extraction_name, version=EXTRACTION_VERSION
)
# Checks are data since the second versions (the third of `examine`); the fourth of `examine` judges
# runs by every repeated image. Since the third of `check_subjects`, what was found of a mask has no
# part that does not apply. On surfaces all that was found is of vertices since the fourth, the
# fourth of `validate` and the sixth of `examine`.
CHECK_SUBJECTS: Final = Step("check-subjects", checks.check_subjects, version=4)
WRITE_TABLES: Final = Step("write-tables", tables.write_tables)
# Assemblies say what their values are, and in which units, since the second version, train and test
# since the fifth.
ASSEMBLE_REGION: Final = Step(
    "assemble-region", assemblies.assemble_region, "assemble-{region}", version=2
)
# Checks of NaN and of the order of neuroids tell volumes from surfaces since the third versions.
VALIDATE: Final = Step("validate", checks.validate, version=4)
# Before version 2, with pandas below 3, reliability.csv had the correlations of other voxels.
EXAMINE: Final = Step("examine", checks.examine, version=6)
MAKE_TRAIN_AND_TEST: Final = Step("make-train-and-test", brainscore.make_train_and_test, version=5)
CHECK_TRAIN_AND_TEST: Final = Step("check-train-and-test", brainscore.check_written_train_and_test)
MAKE_STIMULUS_SETS: Final = Step("make-stimulus-sets", brainscore.make_stimulus_sets)
CHECK_STIMULI: Final = Step("check-stimuli", checks.check_stimuli, version=3)
# Files say since the second version what their coordinates are, and whose split theirs is.
WRITE_SINGLE_TRIALS: Final = Step(
    "write-single-trials",
    single_trials.write_single_trials,
    "write-single-trials-subj{subject.subject:02d}",
    version=2,
)
EXAMINE_SINGLE_TRIALS: Final = Step(
    "examine-single-trials",
    single_trials.examine_single_trials,
    "examine-single-trials-subj{subject.subject:02d}",
    version=3,
)
WRITE_IMAGES: Final = Step("write-images", single_trials.write_table_of_images)
# Reports of surfaces speak of vertices since the second versions, their figure of the encoding
# baseline too since the third.
WRITE_SINGLE_TRIALS_REPORT: Final = Step(
    "write-single-trials-report", single_trials_report.write_single_trials_report, version=2
)
WRITE_REPORT: Final = Step("write-report", report.write_report, version=3)
