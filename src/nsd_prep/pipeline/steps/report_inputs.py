"""What the report of a run is made of."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from nsd_prep.core.check import Check
from nsd_prep.core.digests import digest_of_bytes, digest_of_json
from nsd_prep.core.processes import Caller
from nsd_prep.core.records import FileRecord, StepOutput
from nsd_prep.dataset.cortex import Cortex
from nsd_prep.dataset.layout import Dataset
from nsd_prep.pipeline.inputs import Masks, NoiseCeilings
from nsd_prep.pipeline.prepared import Prepared
from nsd_prep.pipeline.steps.assemblies import Representations

if TYPE_CHECKING:
    from nsd_prep.report.compose import VoxelFigures
    from nsd_prep.report.figures.figure import ReportFigure


@dataclass(frozen=True)
class Encoding:
    """What the encoding baseline is fitted with and to.

    Attributes
    ----------
    train_and_test : StepOutput
        The train and test assemblies.
    suffix : str
        Of their files.
    features : FileRecord or None
        The user's file of features.
    truth : Path or None
        Where the truth of a synthetic dataset lies, whose latents are features.
    truth_digest : str
        Of the truth's content.
    """

    train_and_test: StepOutput
    suffix: str
    features: FileRecord | None
    truth: Path | None = field(default=None, compare=False)
    truth_digest: str = ""


class BegunScores(NamedTuple):
    """Scores of the encoding baseline, which may still be computed, and their features' source."""

    future: "Future[tuple[pd.DataFrame, int | None]]"
    source: str


@dataclass(frozen=True)
class Drawing:
    """What draws the figures of a report and computes beside it, and what it has begun with.

    `end` gives back what it takes, when all is drawn.
    """

    draw: Caller
    compute: Caller
    voxel_figures: "VoxelFigures | None" = None
    matrices: "Future[tuple[ReportFigure, ...]] | None" = None
    scores: BegunScores | None = None
    end: Callable[[], None] = lambda: None


@dataclass(frozen=True, eq=False)
class ReportInputs:
    """What the report of a run is made of.

    Attributes
    ----------
    prepared : Prepared
        What was extracted.
    representations : Representations
        The RDMs of the assemblies.
    masks, noise_ceilings : mapping of int
        Of each subject (1-based): T1 or ncsnr are drawn behind the voxels.
    examined : StepOutput
        The tables of sessions and of reliability.
    checks : sequence of Check
        All that were made.
    stimuli : StepOutput
        The stimulus sets; nothing where there are none.
    encoding : Encoding or None
        The encoding baseline.
    crossnobis : bool
        Whether cross-validated distances are shown too.
    cortex : Cortex or None
        What maps are drawn on.
    drawing : Drawing or None
        What draws figures, where it has begun; the report is the same without it.
    """

    prepared: Prepared
    representations: Representations
    masks: Mapping[int, Masks]
    noise_ceilings: Mapping[int, NoiseCeilings]
    examined: StepOutput
    checks: tuple[Check, ...] = ()
    stimuli: StepOutput = field(default_factory=StepOutput)
    encoding: Encoding | None = None
    crossnobis: bool = False
    cortex: Cortex | None = None
    drawing: Drawing | None = field(default=None, compare=False)


def truth_and_digest(dataset: Dataset) -> tuple[Path | None, str]:
    """Return the root of a synthetic dataset, for `read_truth`, and the digest of its truth.

    None and "" for a dataset that is not synthetic.
    """
    if dataset.truth_folder is None:
        return None, ""
    dataset.source.fetch_files(dataset.truth_files)
    digests = [digest_of_bytes(dataset.read(path)) for path in dataset.truth_files]
    return dataset.root, digest_of_json(digests)
