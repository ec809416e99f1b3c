"""Single trials of a subject in a cache, for who reads them there."""

from dataclasses import asdict
from pathlib import Path
from typing import Final

from nsd_prep.core.atomic import write_text
from nsd_prep.core.digests import digest_of_json
from nsd_prep.core.progress import Stages
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.extraction.store import Store
from nsd_prep.pipeline.steps.single_trials import SubjectTrials, write_single_trials
from nsd_prep.single_trials.subject import SingleTrialOptions

#: Says which files in a folder of single trials are whole.
_RECORD: Final = "made.json"


def single_trials_file(
    trials: SubjectTrials, options: SingleTrialOptions, store: Store, n_sessions: int
) -> Path:
    """Return the file of a subject's single trials, written where the cache lacks it."""
    name = digest_of_json([trials.digest, asdict(options)])[:24]
    folder = Folder(path=store.path / "single-trials" / name)
    output = _whole(folder)
    if output is None:
        with Stages().stage("writing single trials", n_sessions):
            output = write_single_trials(trials, options, "", folder)
        write_text(folder.path / _RECORD, output.model_dump_json())
    return folder.path / next(iter(output.files))


def _whole(folder: Folder) -> StepOutput | None:
    """Return what was written into a folder, or None where it is not, or not any more, whole."""
    try:
        output = StepOutput.model_validate_json((folder.path / _RECORD).read_bytes())
    except (OSError, ValueError):
        return None
    return output if folder.holds(output.files) else None
