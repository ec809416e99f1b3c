"""The experiment's design: which image each trial shows, and which images subjects share."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from nsd_prep.core.errors import ParameterError
from nsd_prep.synthetic.plan import REPETITIONS, SUBJECTS_IN_DESIGN, SyntheticPlan
from nsd_prep.synthetic.streams import Purpose, random_stream

# Share of repetitions that follow closely on the one before, and their mean distance in sessions.
# Together they give NSD's some 170 repetitions within a session of 750 trials.
_CLOSE_SHARE = 0.43
_CLOSE_DISTANCE = 0.25

_ATTEMPTS = 1000


@dataclass(frozen=True)
class SyntheticDesign:
    """NSD's design, with the names and the 1-based numbers of ``nsd_expdesign.mat``.

    Attributes
    ----------
    masterordering : (n_planned_trials,) array of int64
        For each trial, the number of the subject's image, 1-based; the same for all subjects.
    subjectim : (8, images_per_subject) array of int64
        For each subject and image number, the 73k id, 1-based. Its first ``n_shared`` columns are
        `sharedix` for everyone.
    sharedix : (n_shared,) array of int64
        The 73k ids of the shared images, 1-based, ascending.
    """

    masterordering: np.ndarray
    subjectim: np.ndarray
    sharedix: np.ndarray

    def nsd_ids(self, subject: int) -> np.ndarray:
        """Give the 0-based nsd id of each planned trial of a subject (1-based), int64."""
        return np.asarray(self.subjectim[subject - 1][self.masterordering - 1] - 1)

    def trials_of_images(self) -> np.ndarray:
        """Give each image number's three trials, 0-based, ascending: (images_per_subject, 3)."""
        order = np.argsort(self.masterordering, kind="stable")
        return order.reshape(-1, REPETITIONS)


def make_design(plan: SyntheticPlan, seed: int) -> SyntheticDesign:
    """Draw a design whose shared images have exactly the repetitions that the plan asks for.

    ParameterError where no drawn order of trials gives them.
    """
    generator = random_stream(seed, Purpose.ORDERING)
    for _ in range(_ATTEMPTS):
        trials = _draw_trials(plan, generator)
        shared = _choose_shared(plan, trials, generator)
        if shared is not None:
            break
    else:
        raise ParameterError(
            f"no order of {plan.planned_trials} trials was found in {_ATTEMPTS} draws in which "
            f"shared images have the repetitions {dict(plan.shared_repetitions)}; ask for fewer "
            f"shared images or more common repetitions"
        )
    own = np.setdiff1d(np.arange(plan.images_per_subject), shared)
    image_of_number = np.concatenate([generator.permutation(shared), generator.permutation(own)])
    masterordering = np.empty(plan.planned_trials, dtype=np.int64)
    numbers = np.arange(1, plan.images_per_subject + 1)
    masterordering[trials[image_of_number]] = numbers[:, np.newaxis]

    generator = random_stream(seed, Purpose.IMAGE_IDS)
    ids = generator.permutation(plan.images) + 1
    sharedix = np.sort(ids[: plan.shared_images])
    own_ids = ids[plan.shared_images :].reshape(SUBJECTS_IN_DESIGN, -1)
    subjectim = np.hstack([np.tile(sharedix, (SUBJECTS_IN_DESIGN, 1)), own_ids])
    return SyntheticDesign(masterordering, subjectim, sharedix)


def _draw_trials(plan: SyntheticPlan, generator: np.random.Generator) -> np.ndarray:
    """Draw three trials, 0-based and ascending, for each image; every trial is used once."""
    shape = (plan.images_per_subject, REPETITIONS)
    sessions = plan.planned_sessions
    times = generator.uniform(0, sessions, shape)
    distance = generator.exponential(_CLOSE_DISTANCE, shape) * generator.choice([-1, 1], shape)
    close = generator.random(shape) < _CLOSE_SHARE
    for repetition in range(1, REPETITIONS):
        after = times[:, repetition - 1] + distance[:, repetition]
        reflected = sessions - np.abs(sessions - np.abs(after))
        times[:, repetition] = np.where(close[:, repetition], reflected, times[:, repetition])
    trials = np.empty(times.size, dtype=np.int64)
    trials[np.argsort(times, axis=None, kind="stable")] = np.arange(times.size)
    return np.sort(trials.reshape(shape), axis=1)


def _choose_shared(
    plan: SyntheticPlan, trials: np.ndarray, generator: np.random.Generator
) -> np.ndarray | None:
    """Choose which images are the shared ones, or give None where too few are of some kind."""
    ends = np.array(plan.session_counts) * plan.trials_per_session
    repetitions = (trials[:, :, np.newaxis] < ends).sum(axis=1)
    chosen = []
    for wanted, count in plan.shared_repetitions.items():
        candidates = np.flatnonzero((repetitions == np.array(wanted)).all(axis=1))
        if len(candidates) < count:
            return None
        chosen.append(generator.choice(candidates, count, replace=False))
    return np.concatenate(chosen)


def expdesign_variables(plan: SyntheticPlan, design: SyntheticDesign) -> dict[str, np.ndarray]:
    """Give the variables of ``nsd_expdesign.mat``, unsigned as loadmat gives NSD's own.

    ``stimpattern`` (sessions, runs, slots) is 1 where a slot of a run shows an image;
    ``basiccnt`` (3, sessions) counts the images shown at least 1, 2, 3 times by a session's end.
    """
    runs, slots = plan.runs
    stimpattern = np.zeros((plan.planned_sessions, runs, slots), dtype=np.uint8)
    for run in range(runs):
        # The trials that do not divide evenly go to the first, third, ... run, as in NSD.
        position = run // 2 if run % 2 == 0 else (runs + 1) // 2 + run // 2
        trials = plan.trials_per_session // runs + (position < plan.trials_per_session % runs)
        blank = np.linspace(0, slots - 1, slots - trials + 2).round().astype(int)[1:-1]
        stimpattern[:, run, :] = 1
        stimpattern[:, run, blank] = 0
    ends = np.arange(1, plan.planned_sessions + 1) * plan.trials_per_session
    shown = (design.trials_of_images()[:, :, np.newaxis] < ends).sum(axis=1)
    basiccnt = np.array([(shown >= times).sum(axis=0) for times in range(1, REPETITIONS + 1)])
    return {
        "masterordering": design.masterordering[np.newaxis].astype(np.uint16),
        "subjectim": design.subjectim.astype(np.uint32),
        "sharedix": design.sharedix[np.newaxis].astype(np.uint32),
        "stimpattern": stimpattern,
        "basiccnt": basiccnt.astype(np.uint16),
    }


def stimulus_table(plan: SyntheticPlan, design: SyntheticDesign, seed: int) -> pd.DataFrame:
    """Make the table of ``nsd_stim_info_merged.csv``: a row an image, indexed by the 0-based id.

    The trials in ``subjectS_repR`` are 1-based. They are the planned ones, also for trials in
    sessions that a subject does not have: what NSD itself holds there is not certain.
    """
    generator = random_stream(seed, Purpose.STIMULUS_TABLE)
    n_images = plan.images
    crop = generator.integers(0, 30, n_images) / 100
    sideways = generator.random(n_images) < 0.7
    table = {
        "cocoId": np.sort(generator.choice(600_000, n_images, replace=False)) + 1,
        "cocoSplit": np.where(generator.random(n_images) < 0.9, "train2017", "val2017"),
        "cropBox": [
            f"(0, 0, {amount}, {amount})" if side else f"({amount}, {amount}, 0, 0)"
            for amount, side in zip(crop.tolist(), sideways.tolist(), strict=True)
        ],
        "loss": generator.random(n_images).round(6) / 2,
        "nsdId": np.arange(n_images),
        "flagged": generator.random(n_images) < 0.01,
        "BOLD5000": generator.random(n_images) < 0.02,
        "shared1000": np.isin(np.arange(1, n_images + 1), design.sharedix),
    }
    trials = design.trials_of_images() + 1
    for subject in range(1, SUBJECTS_IN_DESIGN + 1):
        shown = np.zeros(n_images, dtype=np.int64)
        shown[design.subjectim[subject - 1] - 1] = 1
        table[f"subject{subject}"] = shown
    for subject in range(1, SUBJECTS_IN_DESIGN + 1):
        for repetition in range(REPETITIONS):
            column = np.zeros(n_images, dtype=np.int64)
            column[design.subjectim[subject - 1] - 1] = trials[:, repetition]
            table[f"subject{subject}_rep{repetition}"] = column
    return pd.DataFrame(table)
