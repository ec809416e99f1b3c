"""Write a synthetic NSD, whole or not at all."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal

from threadpoolctl import threadpool_limits

from nsd_prep.core.atomic import explained_write_errors, partial_path, remove_stale_partials
from nsd_prep.core.errors import OutputError, ParameterError
from nsd_prep.core.folders import visible
from nsd_prep.core.processes import worker_processes
from nsd_prep.dataset.experiments import Experiment
from nsd_prep.dataset.layout import DESCRIPTION_FILE, Dataset
from nsd_prep.dataset.published import DEFAULT_PREPARATION, PREPARATION_FOLDERS
from nsd_prep.sources.folder import FolderSource
from nsd_prep.synthetic.design import (
    SyntheticDesign,
    expdesign_variables,
    make_design,
    stimulus_table,
)
from nsd_prep.synthetic.experiments import EXPERIMENTS, write_experiments
from nsd_prep.synthetic.formats import STORAGE_FORMS, Storage, write_mat, write_pictures
from nsd_prep.synthetic.latents import draw_pictures, shared_latents
from nsd_prep.synthetic.plan import PLANS, SyntheticPlan
from nsd_prep.synthetic.subject import write_synthetic_subject
from nsd_prep.synthetic.surface_files import write_fsaverage
from nsd_prep.synthetic.truth import TRUTH_FOLDER, SyntheticTruth, read_truth, write_common_truth

Layout = Literal["official", "flat"]
Scale = Literal["tiny", "demo", "full"]
Progress = Callable[[str, int, int], None]


def write_synthetic_nsd(
    root: Path,
    *,
    scale: Scale | SyntheticPlan = "tiny",
    layout: Layout = "official",
    seed: int = 0,
    subjects: Sequence[int] | None = None,
    full_sessions: Sequence[tuple[int, int]] = (),
    storage: Storage = "voxel_chunks",
    volumes: bool = True,
    surfaces: bool | None = None,
    experiments: Sequence[Experiment] = (),
    progress: Progress | None = None,
) -> SyntheticTruth:
    """Write a synthetic NSD: its file formats to the letter, with a known truth.

    Parameters
    ----------
    root : Path
        The dataset's folder; must not exist yet, or be empty. It gets its name only when
        everything is written; what a killed process left in its place is removed.
    scale : {"tiny", "demo", "full"} or SyntheticPlan
        ``tiny``: 3 subjects, for tests (5 MB). ``demo``: all eight, small (30 MB). ``full``:
        NSD's grids, sessions and voxels of V1, V2, V4 and IT (5 GB); two processes write it, so a
        script that calls this must guard it with ``if __name__ == "__main__"``. Or a shape of
        one's own.
    layout : {"official", "flat"}
        How the files lie below the root.
    seed : int
        0 or more. Same seed, same bytes.
    subjects : sequence of int, optional
        Which of the scale's subjects (1-based) to write; all where none are given. A subject's
        files are the same whichever others are written.
    full_sessions : sequence of (subject, session)
        Sessions (both 1-based) in which every chunk is allocated, as in a real file, with noise
        in the brain's other voxels and vertices. Elsewhere only those with a label in some family
        have data.
    storage : str
        How the betas lie in their HDF5 files: ``voxel_chunks`` as in NSD, or ``contiguous``,
        ``gzip``, ``trial_chunks``, ``odd_chunks``, for tests.
    volumes : bool
        Write func1pt8mm: betas, ncsnr, labels and masks of voxels.
    surfaces : bool, optional
        Write fsaverage and the subjects' own surfaces, with transforms between all spaces, as the
        official layout has them. Where nothing is said the tiny scale has them, and the others do
        not (demo: 140 MB, full: 16 GB more). At full scale the ``.mgh`` of fsaverage, 0.5 GB a
        hemisphere, are written of `full_sessions` alone.
    experiments : sequence of {"imagery", "synthetic"}
        NSD's two other experiments, in the volumes of the official layout.
    progress : callable, optional
        Called as ``progress("session files", done, total)``.

    Returns
    -------
    SyntheticTruth
        What is true of the data; `read_truth` gives the same later.

    Raises
    ------
    ParameterError
        A scale, layout, storage, seed, subject or session that there is not; surfaces in the flat
        layout, or neither volumes nor surfaces.
    OutputError
        The root exists and is not empty, or cannot be written.
    """
    if isinstance(scale, str) and scale not in PLANS:
        raise ParameterError(
            f"There is no scale {scale!r}: give one of {', '.join(PLANS)} with scale=."
        )
    plan = PLANS[scale] if isinstance(scale, str) else scale
    chosen = _chosen_subjects(plan, subjects)
    _check_choices(plan, chosen, layout, storage, seed, full_sessions)
    _check_experiments(experiments, layout, volumes)
    with_surfaces = _chosen_surfaces(plan, layout, volumes, surfaces)
    design = make_design(plan, seed)
    root = Path(root).expanduser().absolute()
    # Sums of several threads of BLAS depend on how many there are: the bytes would, too.
    with threadpool_limits(1, "blas"), _new_folder(root) as folder:
        dataset = Dataset(
            root=folder,
            layout=layout,
            name=plan.name,
            is_nsd=False,
            preparation=PREPARATION_FOLDERS[DEFAULT_PREPARATION],
            trials_per_session=plan.trials_per_session,
            sessions={s: plan.subjects[s].sessions for s in chosen},  # travels to other processes
            source=FolderSource(folder),
        )
        _write_experiment(dataset, plan, design, seed)
        if with_surfaces and plan.surfaces is not None:
            write_fsaverage(dataset, plan.surfaces, seed)
        options = {"seed": seed, "storage": storage}
        kinds = {"volumes": volumes, "surfaces": with_surfaces}
        _write_subjects(dataset, plan, design, full_sessions, {**options, **kinds}, progress)
        write_experiments(dataset, plan, experiments, seed)
        _write_description(dataset, options, full_sessions)
    return read_truth(root)


def _check_experiments(experiments: Sequence[str], layout: str, volumes: bool) -> None:
    unknown = [name for name in experiments if name not in EXPERIMENTS]
    if unknown:
        raise ParameterError(
            f"There is no experiment {unknown[0]!r}: give some of {', '.join(EXPERIMENTS)} with "
            "experiments=."
        )
    if experiments and (layout != "official" or not volumes):
        raise ParameterError(
            "Experiments are written in the volumes of the official layout alone: choose "
            'layout="official" with volumes=True, or leave experiments= out.'
        )


def _chosen_subjects(plan: SyntheticPlan, subjects: Iterable[int] | None) -> tuple[int, ...]:
    chosen = tuple(sorted(plan.subjects)) if subjects is None else tuple(sorted(subjects))
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(plan.subjects):
        raise ParameterError(
            f"The subjects {list(chosen)} cannot be written: expected some of "
            f"{sorted(plan.subjects)}, those of {plan.name}, each once; choose other subjects=."
        )
    return chosen


def _check_choices(
    plan: SyntheticPlan,
    subjects: tuple[int, ...],
    layout: str,
    storage: str,
    seed: int,
    full_sessions: Sequence[tuple[int, int]],
) -> None:
    if layout not in ("official", "flat"):
        raise ParameterError(f"There is no layout {layout!r}: give official or flat with layout=.")
    if storage not in STORAGE_FORMS:
        raise ParameterError(
            f"There is no storage {storage!r}: give one of {', '.join(STORAGE_FORMS)} with "
            "storage=."
        )
    if seed < 0:
        raise ParameterError(f"The seed {seed} is negative: give 0 or more with seed=.")
    for subject, session in full_sessions:
        if subject not in subjects or not 1 <= session <= plan.subjects[subject].sessions:
            raise ParameterError(
                f"Every chunk of subject {subject}, session {session} was asked for, and that "
                "session is not written: give sessions that are."
            )


def _chosen_surfaces(
    plan: SyntheticPlan, layout: str, volumes: bool, surfaces: bool | None
) -> bool:
    """Return whether surfaces are written."""
    possible = plan.surfaces is not None and layout == "official"
    if surfaces and not possible:
        raise ParameterError(
            f"Surfaces of {plan.name} cannot be written in the layout {layout}: expected a scale "
            "that has them, and the official layout; choose another scale=, or "
            'layout="official".'
        )
    if surfaces is None:
        surfaces = possible and plan.surfaces is not None and plan.surfaces.by_default
    if not volumes and not surfaces:
        raise ParameterError(
            "Neither volumes nor surfaces would be written: choose volumes=True, surfaces=True or "
            "both."
        )
    return surfaces


@contextmanager
def _new_folder(root: Path) -> Iterator[Path]:
    """Give a temporary folder beside `root`, which becomes `root` when the block ends well."""
    if root.exists() and not (root.is_dir() and not visible(root)):
        raise OutputError(
            f"{root} exists and is not an empty folder: a synthetic dataset is only written to a "
            "new one; give another folder, or remove this one."
        )
    with explained_write_errors(root):
        root.parent.mkdir(parents=True, exist_ok=True)
        remove_stale_partials(root.parent, root.name)
        unfinished = partial_path(root)
        try:
            unfinished.mkdir()
            yield unfinished
            hidden = list(root.iterdir()) if root.exists() else []
            for path in hidden:
                path.replace(unfinished / path.name)
            try:
                unfinished.replace(root)
            except OSError:
                for path in hidden:
                    (unfinished / path.name).replace(path)
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _write_experiment(
    dataset: Dataset, plan: SyntheticPlan, design: SyntheticDesign, seed: int
) -> None:
    """Write what belongs to no subject: design, stimulus table, pictures, shared truth."""
    for path in (dataset.design_file, dataset.stimulus_table, dataset.images_file):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_mat(dataset.design_file, expdesign_variables(plan, design))
    table = stimulus_table(plan, design, seed)
    table.to_csv(dataset.stimulus_table, lineterminator="\n")
    latents = shared_latents(plan, seed)
    write_pictures(dataset.images_file, draw_pictures(latents, plan.image_size, seed))
    write_common_truth(dataset.root, design, latents)


def _write_subjects(
    dataset: Dataset,
    plan: SyntheticPlan,
    design: SyntheticDesign,
    full_sessions: Sequence[tuple[int, int]],
    options: Mapping[str, Any],
    progress: Progress | None,
) -> None:
    """Write subjects, in processes of their own where the plan has several; the longest first."""
    files_of_session = options["volumes"] + 2 * options["surfaces"]
    total = sum(dataset.sessions.values()) * files_of_session
    report = partial(progress or (lambda *_: None), "session files")
    jobs = [
        partial(
            write_synthetic_subject,
            dataset,
            plan,
            design,
            subject,
            full_sessions=[session for owner, session in full_sessions if owner == subject],
            **options,
        )
        for subject in sorted(dataset.subjects, key=lambda subject: -dataset.sessions[subject])
    ]
    if plan.processes == 1 or len(jobs) == 1:
        written = count(1)
        for job in jobs:
            job(on_file=lambda: report(next(written), total))
        return
    with worker_processes(plan.processes) as call:
        pending = {call(job) for job in jobs}
        while pending:
            finished, pending = wait(pending, timeout=1.0, return_when="FIRST_COMPLETED")
            for future in finished:
                future.result()
            files = sum(1 for _ in dataset.root.rglob("*betas_session*.hdf5"))
            report(files, total)


def _write_description(
    dataset: Dataset, options: Mapping[str, object], full_sessions: Sequence[tuple[int, int]]
) -> None:
    description = {
        "name": dataset.name,
        "trials_per_session": dataset.trials_per_session,
        "sessions": {str(subject): dataset.sessions[subject] for subject in dataset.subjects},
        "synthetic": {
            "truth": TRUTH_FOLDER,
            **options,
            "full_sessions": [list(pair) for pair in sorted(full_sessions)],
        },
    }
    text = json.dumps(description, indent=2) + "\n"
    (dataset.root / DESCRIPTION_FILE).write_text(text, encoding="utf-8", newline="\n")
