"""NSD-imagery and NSD-synthetic of a synthetic dataset, in the official layout's volumes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.dataset.experiments import (
    EPOCHS,
    IMAGERY_RUNS,
    ROWS,
    ROWS_OF_SYNTHETIC_RUN,
    SYNTHETIC_IMAGES,
    SYNTHETIC_RUNS,
    TARGETS,
    TRIALS_OF_IMAGERY_RUN,
    Experiment,
    betas_file,
    imagery_design_file,
    imagery_file,
    synthetic_design_file,
    synthetic_images_file,
    valid_file,
)
from nsd_prep.dataset.layout import Dataset
from nsd_prep.synthetic.anatomy import make_cortex
from nsd_prep.synthetic.betas import simulate_vertices, stored_betas
from nsd_prep.synthetic.formats import with_folder, write_betas, write_mat, write_nifti
from nsd_prep.synthetic.latents import DIMENSIONS
from nsd_prep.synthetic.plan import SyntheticPlan
from nsd_prep.synthetic.streams import Purpose, random_stream
from nsd_prep.synthetic.voxels import make_voxels

EXPERIMENTS: Final[tuple[Experiment, ...]] = ("imagery", "synthetic")
#: How strong a response is to what is not seen, or not yet: in units of that to a picture.
_IMAGINED: Final = 0.5
_CUE: Final = 0.4
#: Seconds of a time point are of no account here: events are so many time points apart.
_APART: Final = 5
_COLUMNS_OF_DESIGN: Final = 36
_CLASSES: Final = 8
_IMAGES_OF_A_SUBCLASS: Final = 4
#: Columns of a run's file beside those that differ from trial to trial.
_EMPTY_COLUMNS: Final = (
    "GROUNDTRUTH",
    "ISCORRECT",
    "CHANGEMIND",
    "TOTAL1",
    "TOTAL2",
    "BUTTON",
    "TRIALONSET",
    "TRIALEND",
    "IMAGEONSET",
    "IMAGESERIESENDS",
    "FINALDECISIONTIME",
    "RT",
)


def write_experiments(
    dataset: Dataset, plan: SyntheticPlan, experiments: Sequence[Experiment], seed: int
) -> None:
    """Write experiments of all of a dataset's subjects: betas, valid voxels, designs, trials."""
    for experiment in experiments:
        number = EXPERIMENTS.index(experiment)
        generator = random_stream(seed, Purpose.EXPERIMENT, number)
        if experiment == "imagery":
            shown, strength = _write_imagery(dataset, generator)
        else:
            shown = _write_synthetic(dataset, generator)
            strength = np.ones(len(shown), dtype=np.float32)
        for subject in dataset.subjects:
            _write_subject(dataset, plan, experiment, subject, shown, strength, seed)


def _write_subject(
    dataset: Dataset,
    plan: SyntheticPlan,
    experiment: Experiment,
    subject: int,
    shown: NDArray[np.int64],
    strength: NDArray[np.float32],
    seed: int,
) -> None:
    cortex = make_cortex(plan.subjects[subject], subject, seed)
    voxels = make_voxels(plan.subjects[subject], cortex, subject, seed)
    generator = random_stream(
        seed, Purpose.EXPERIMENT_BETAS, subject, EXPERIMENTS.index(experiment)
    )
    latents = generator.standard_normal((shown.max() + 1, 2 * DIMENSIONS), dtype=np.float32)
    # One more session, in which the voxels have data that have some in any.
    has_data = np.asarray(voxels.has_data.any(axis=1), dtype=np.bool_)
    tuned = replace(voxels, has_data=has_data[:, np.newaxis])
    features = latents[shown] * strength[:, np.newaxis]
    betas = stored_betas(simulate_vertices(tuned, features, 1, generator))
    path = with_folder(betas_file(dataset.session_file(subject, 1), experiment))
    write_betas(
        path,
        iter([(voxels.voxel_index, betas)]),
        n_trials=ROWS[experiment],
        sites=cortex.brain.shape,
        storage="voxel_chunks",
    )
    valid = np.zeros(cortex.brain.size, dtype=np.uint8)
    valid[voxels.voxel_index] = tuned.has_data[:, 0]
    write_nifti(
        with_folder(valid_file(dataset, subject, experiment)), valid.reshape(cortex.brain.shape)
    )


def _write_imagery(
    dataset: Dataset, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Write designs and trials; give what each row shows, and how strong its response is."""
    letters = "".join(TARGETS.values())
    cells = np.empty((1, len(IMAGERY_RUNS)), dtype=object)
    shown, strength = [], []
    for number, run in enumerate(IMAGERY_RUNS):
        own = list(TARGETS[run.targets])
        targets = generator.permutation(np.repeat(own, TRIALS_OF_IMAGERY_RUN // len(own)))
        others = generator.choice(own, TRIALS_OF_IMAGERY_RUN)
        is_vision = run.task == "vision"
        table = {
            "SUBJECT": 0,
            "SESSION": 1,
            "RUN": number + 1,
            "TRIAL": np.arange(TRIALS_OF_IMAGERY_RUN) + 1,
            "CONDITION": targets if is_vision else others,
            "CUE": others if is_vision else targets,
            "FRAMEFILE": "frame.png",
            "IMAGEFILE": "image.png",
        } | dict.fromkeys(_EMPTY_COLUMNS, 0)
        for subject in dataset.subjects:
            path = with_folder(imagery_file(dataset, subject, run.name))
            frame = pd.DataFrame(table | {"SUBJECT": subject})
            frame.to_csv(path, sep="\t", index=False, lineterminator="\n")
        n_epochs = len(EPOCHS) if run.task == "attention" else 1
        index = np.array([own.index(target) for target in targets])
        if run.task == "vision":
            column = index
        elif run.task == "attention":
            column = (len(own) + n_epochs * index[:, np.newaxis] + np.arange(n_epochs)).ravel()
        else:
            column = 3 * len(own) + len(own) * list(TARGETS).index(run.targets) + index
        matrix = np.zeros((_APART * len(column), _COLUMNS_OF_DESIGN), dtype=np.uint8)
        matrix[_APART * np.arange(len(column)), column] = 1
        cells[0, number] = matrix
        shown.append(np.repeat([letters.index(target) for target in targets], n_epochs))
        strengths = {"vision": [1.0], "attention": [_CUE, 1.0], "imagery": [_IMAGINED]}[run.task]
        strength.append(np.tile(strengths, TRIALS_OF_IMAGERY_RUN))
    write_mat(with_folder(imagery_design_file(dataset)), {"stimulus": cells})
    return np.concatenate(shown), np.concatenate(strength).astype(np.float32)


def _write_synthetic(dataset: Dataset, generator: np.random.Generator) -> NDArray[np.int64]:
    """Write the design and the table of images; give the image of each row (0-based)."""
    n_rows = SYNTHETIC_RUNS * ROWS_OF_SYNTHETIC_RUN
    times = np.full(SYNTHETIC_IMAGES, 2)
    more = generator.permutation(SYNTHETIC_IMAGES)
    times[more[:40]], times[more[40:44]], times[more[44:49]] = 4, 8, 10
    # What is left of the 744 rows is seen twice more.
    times[more[49 : 49 + (n_rows - times.sum()) // 2]] += 2
    image = generator.permutation(np.repeat(np.arange(SYNTHETIC_IMAGES), times))
    path = with_folder(synthetic_design_file(dataset))
    write_mat(path, {"masterordering": (image + 1)[np.newaxis].astype(np.uint16)})
    number = np.arange(SYNTHETIC_IMAGES)
    subclass = number // _IMAGES_OF_A_SUBCLASS
    image_class = subclass * _CLASSES // (subclass.max() + 1)
    table = pd.DataFrame(
        {
            "Image number": number + 1,
            "Image": [f"image_{index + 1}" for index in number],
            "Image subclass number": subclass + 1,
            "Image subclass": [f"subclass {index + 1}" for index in subclass],
            "Image class number": image_class + 1,
            "Image class": [f"class {index + 1}" for index in image_class],
        }
    )
    table.to_csv(synthetic_images_file(dataset), index=False, lineterminator="\n")
    return image
