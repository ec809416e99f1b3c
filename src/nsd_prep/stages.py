"""The stages of a run, from files to files.

Each stage reads what the stages before it left, calls the functions that compute, writes whole
files, and returns a small record.
"""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep import __version__, checks
from nsd_prep.assembly import (
    SubjectVoxels,
    build_assembly,
    read_assembly,
    stimulus_ids,
    voxel_table,
    write_assembly,
)
from nsd_prep.extraction import (
    SessionRecord,
    SessionRequest,
    digest_of_voxels,
    read_voxels_file,
    write_voxels,
)
from nsd_prep.files import (
    FileIdentity,
    replaced,
    sha256_of_file,
    sha256_of_json,
    write_json,
    write_text,
)
from nsd_prep.masks import select_voxels
from nsd_prep.noise_ceiling import noise_ceiling
from nsd_prep.preflight import Preflight, trials_of_subjects
from nsd_prep.published import RELIABLE_NOISE_CEILING, REPETITIONS
from nsd_prep.regions import definition_as_text
from nsd_prep.responses import SessionResponses, averaged, repetitions_of_images
from nsd_prep.run import AssemblyRecord, MasksRecord, NoiseCeilingsRecord, Run, TrialsRecord
from nsd_prep.split import train_images
from nsd_prep.trials import needed_sessions, read_design, repetition_counts
from nsd_prep.volumes import read_ncsnr

_LIBRARIES: Final = ("numpy", "pandas", "xarray", "h5py", "netCDF4", "nibabel", "scipy", "prefect")


def map_trials(run: Run) -> TrialsRecord:
    """Find the trials of the shared images, and write them to ``trials.csv``.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    TrialsRecord
        Which images are usable, and which sessions hold them.
    """
    dataset = run.dataset()
    design = read_design(dataset.design_file)
    trials = trials_of_subjects(run, dataset, design)
    write_text(run.trials_file, trials.to_csv(index=False, lineterminator="\n"))
    nsd_ids = _usable_nsd_ids(trials)
    counts = repetition_counts(trials, design.shared_nsd_ids)
    return TrialsRecord(
        file=run.trials_file,
        n_images=len(nsd_ids),
        images_digest=sha256_of_json(nsd_ids.tolist()),
        sessions=needed_sessions(trials),
        repetition_counts={
            subject: tuple(int(count) for count in counts.loc[subject]) for subject in run.subjects
        },
    )


def load_masks(run: Run, subject: int) -> MasksRecord:
    """Find the voxels of a subject's regions, and write them to the cache.

    Parameters
    ----------
    run : Run
        The run.
    subject : int
        1-based.

    Returns
    -------
    MasksRecord
        Where they are, and how many.
    """
    selection = select_voxels(run.dataset(), subject, run.regions)
    return MasksRecord(
        subject=subject,
        file=write_voxels(run.cache_dir / "voxels", subject, selection.grid, selection.regions),
        digests={
            region: digest_of_voxels(voxels, selection.grid)
            for region, voxels in selection.regions.items()
        },
        n_voxels={region: len(voxels) for region, voxels in selection.regions.items()},
    )


def load_noise_ceilings(run: Run, masks: MasksRecord) -> NoiseCeilingsRecord:
    """Read the ncsnr of the voxels of a subject's regions, and write it to the cache.

    Parameters
    ----------
    run : Run
        The run.
    masks : MasksRecord
        The subject's voxels.

    Returns
    -------
    NoiseCeilingsRecord
        Where they are.
    """
    volume = read_ncsnr(run.dataset().ncsnr_file(masks.subject))
    _, regions = read_voxels_file(masks.file)
    ncsnr = {region: volume.flat[voxels] for region, voxels in regions.items()}
    digest = sha256_of_json(
        {region: np.nan_to_num(values, nan=-1).tolist() for region, values in ncsnr.items()}
    )
    path = masks.file.with_name(f"{masks.file.stem}-ncsnr-{digest[:16]}.npz")
    with replaced(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **{f"region {name}": of for name, of in ncsnr.items()})
    return NoiseCeilingsRecord(subject=masks.subject, file=path, sha256=sha256_of_file(path))


def session_requests(
    run: Run, masks: Sequence[MasksRecord], trials: TrialsRecord
) -> list[SessionRequest]:
    """List what is to be extracted: a request for each session that holds a usable trial.

    Parameters
    ----------
    run : Run
        The run.
    masks : sequence of MasksRecord
        The voxels of every subject.
    trials : TrialsRecord
        The sessions.

    Returns
    -------
    list of SessionRequest
        By subject in the run's order, sessions ascending.
    """
    dataset = run.dataset()
    in_session = _trials_of_sessions(trials)
    return [
        SessionRequest(
            dataset=dataset.name,
            preparation=dataset.preparation,
            subject=of.subject,
            session=session,
            betas_file=FileIdentity.of(dataset.session_file(of.subject, session)),
            n_trials=dataset.trials_per_session,
            trials=tuple(in_session[of.subject, session]["trial_in_session"].tolist()),
            voxels_file=str(of.file),
            regions=of.digests,
            store=str(run.cache_dir / "responses"),
        )
        for of in masks
        for session in trials.sessions[of.subject]
    ]


def repetitions_of_subject(
    region: str, masks: MasksRecord, trials: TrialsRecord, sessions: Sequence[SessionRecord]
) -> NDArray[np.float32]:
    """Read a subject's single-trial responses to the usable images from the store.

    Parameters
    ----------
    region : str
        Which.
    masks : MasksRecord
        The subject's voxels.
    trials : TrialsRecord
        The images.
    sessions : sequence of SessionRecord
        What was extracted; other subjects' are passed over.

    Returns
    -------
    ndarray of float32, shape (n_images, 3, n_voxels)
        z-scores.
    """
    table = pd.read_csv(trials.file)
    in_session = dict(iter(table.groupby(["subject", "session"])))

    def stored() -> Iterator[SessionResponses]:
        for record in sessions:
            if record.subject == masks.subject:
                of = in_session[record.subject, record.session]
                yield SessionResponses(
                    record.session,
                    record.parts[region].read(),
                    of["nsd_id"].to_numpy(),
                    of["repetition"].to_numpy(),
                )

    return repetitions_of_images(stored(), _usable_nsd_ids(table), masks.n_voxels[region])


def voxels_of_region(
    region: str,
    masks: Sequence[MasksRecord],
    noise_ceilings: Sequence[NoiseCeilingsRecord],
    sessions: Sequence[SessionRecord],
) -> list[SubjectVoxels]:
    """Put together what is known of a region's voxels in every subject.

    Parameters
    ----------
    region : str
        Which.
    masks, noise_ceilings : sequence of MasksRecord, of NoiseCeilingsRecord
        In the order of the subjects.
    sessions : sequence of SessionRecord
        What was extracted.

    Returns
    -------
    list of SubjectVoxels
        In the order of the subjects; all voxels, also those without data.
    """
    found = []
    for of_masks, of_ceilings in zip(masks, noise_ceilings, strict=True):
        grid, regions = read_voxels_file(of_masks.file)
        with np.load(of_ceilings.file, allow_pickle=False) as arrays:
            ncsnr = arrays[f"region {region}"]
        without_data = np.zeros(len(regions[region]), dtype=np.int64)
        for record in sessions:
            if record.subject == of_masks.subject:
                without_data[list(record.parts[region].constant_voxels)] += 1
        found.append(
            SubjectVoxels(
                subject=of_masks.subject,
                grid=grid,
                voxels=regions[region],
                ncsnr=ncsnr,
                noise_ceiling=noise_ceiling(ncsnr, REPETITIONS),
                sessions_without_data=without_data,
            )
        )
    return found


def kept_voxels(run: Run, voxels: SubjectVoxels) -> NDArray[np.bool_]:
    """Return which of a subject's voxels become neuroids, bool (n_voxels,)."""
    if run.invalid_voxels == "keep":
        return np.ones(len(voxels.voxels), dtype=np.bool_)
    return voxels.sessions_without_data == 0


def assemble_region(
    run: Run,
    region: str,
    masks: Sequence[MasksRecord],
    trials: TrialsRecord,
    noise_ceilings: Sequence[NoiseCeilingsRecord],
    sessions: Sequence[SessionRecord],
) -> AssemblyRecord:
    """Average a region's responses, and write its assembly.

    Parameters
    ----------
    run : Run
        The run.
    region : str
        Which.
    masks, trials, noise_ceilings, sessions
        What the stages before left.

    Returns
    -------
    AssemblyRecord
        Where it lies.
    """
    nsd_ids = usable_nsd_ids(trials)
    of_subjects = voxels_of_region(region, masks, noise_ceilings, sessions)
    keep = [kept_voxels(run, of) for of in of_subjects]
    ends = np.cumsum([0, *(int(kept.sum()) for kept in keep)])
    responses = np.empty((len(nsd_ids), int(ends[-1])), dtype=np.float32)
    for of_masks, kept, start, stop in zip(masks, keep, ends, ends[1:], strict=False):
        repetitions = repetitions_of_subject(region, of_masks, trials, sessions)
        responses[:, start:stop] = averaged(repetitions)[:, kept]
    table = voxel_table(region, [of.kept(kept) for of, kept in zip(of_subjects, keep, strict=True)])
    path = run.assembly_file(region)
    assembly = build_assembly(responses, nsd_ids, table, attributes_of(run, region))
    write_assembly(assembly, path)
    return AssemblyRecord(
        region=region,
        file=path,
        sha256=sha256_of_file(path),
        shape=(responses.shape[0], responses.shape[1]),
    )


def attributes_of(run: Run, region: str) -> dict[str, str | int | float]:
    """Return what determines an assembly's data, for its attributes; nothing of when or where.

    Parameters
    ----------
    run : Run
        The run.
    region : str
        Which.

    Returns
    -------
    dict
        Strings and numbers.
    """
    dataset = run.dataset()
    return {
        "software": f"nsd-prep {__version__}",
        "dataset": dataset.name,
        "preparation": dataset.preparation,
        "normalisation": "z-score over the trials of each session (float32, population SD)",
        "region": region,
        "region_definition": definition_as_text(run.regions[region]),
        "subjects": " ".join(str(subject) for subject in run.subjects),
        "repetitions": REPETITIONS,
        "noise_ceiling_k": REPETITIONS,
        "invalid_voxels": run.invalid_voxels,
        "seed": run.seed,
        "train_fraction": run.train_fraction,
    }


def split_images(run: Run, trials: TrialsRecord) -> Path:
    """Write which images are train and which are test.

    Parameters
    ----------
    run : Run
        The run.
    trials : TrialsRecord
        The images.

    Returns
    -------
    Path
        ``train_test_split.csv``: stimulus_id, nsd_id, split.
    """
    nsd_ids = usable_nsd_ids(trials)
    is_train = train_images(len(nsd_ids), run.seed, run.train_fraction)
    table = pd.DataFrame(
        {
            "stimulus_id": stimulus_ids(nsd_ids),
            "nsd_id": nsd_ids,
            "split": np.where(is_train, "train", "test"),
        }
    )
    write_text(run.split_file, table.to_csv(index=False, lineterminator="\n"))
    return run.split_file


def tabulate_voxels(
    run: Run,
    masks: Sequence[MasksRecord],
    noise_ceilings: Sequence[NoiseCeilingsRecord],
    sessions: Sequence[SessionRecord],
) -> None:
    """Write ``voxels.csv``, a row a neuroid, and ``noise_ceilings.csv``, a row a subject and region.

    Parameters
    ----------
    run : Run
        The run.
    masks, noise_ceilings, sessions
        What the stages before left.
    """
    tables = []
    for region in run.regions:
        of_subjects = voxels_of_region(region, masks, noise_ceilings, sessions)
        tables.append(voxel_table(region, [of.kept(kept_voxels(run, of)) for of in of_subjects]))
    voxels = pd.concat(tables, ignore_index=True)
    write_text(run.voxels_file, voxels.to_csv(index=False, lineterminator="\n"))
    ceilings = noise_ceiling_table(voxels)
    write_text(run.noise_ceilings_file, ceilings.to_csv(index=False, lineterminator="\n"))


def noise_ceiling_table(voxels: pd.DataFrame) -> pd.DataFrame:
    """Summarise noise ceilings for each region and subject, and for all subjects pooled.

    Parameters
    ----------
    voxels : DataFrame
        As `nsd_prep.assembly.voxel_table` gives it, of one region or more.

    Returns
    -------
    DataFrame
        region, subject ("all" for the pooled voxels), voxels, median (percent), and
        above_30_percent, the number of reliable voxels.
    """
    rows = []
    for region, of_region in voxels.groupby("region", sort=False):
        groups = [*of_region.groupby("subject", sort=False), ("all", of_region)]
        for subject, of in groups:
            ceilings = of["noise_ceiling"]
            rows.append(
                {
                    "region": region,
                    "subject": subject,
                    "voxels": len(of),
                    "median": float(ceilings.median()),
                    "above_30_percent": int((ceilings > RELIABLE_NOISE_CEILING).sum()),
                }
            )
    return pd.DataFrame(rows)


def validate(
    run: Run,
    masks: Sequence[MasksRecord],
    trials: TrialsRecord,
    noise_ceilings: Sequence[NoiseCeilingsRecord],
    sessions: Sequence[SessionRecord],
) -> list[checks.Check]:
    """Check the files that were written, and write ``checks.csv``.

    Parameters
    ----------
    run : Run
        The run.
    masks, trials, noise_ceilings, sessions
        What the stages before left.

    Returns
    -------
    list of Check
        Failed ones among them; it is the caller's to act on them.
    """
    nsd_ids = usable_nsd_ids(trials)
    is_nsd = run.dataset().is_nsd
    n_sessions = {f"subj{subject:02d}": len(of) for subject, of in trials.sessions.items()}
    found = checks.check_split(nsd_ids, pd.read_csv(run.split_file))
    if is_nsd:
        counts = pd.DataFrame.from_dict(trials.repetition_counts, orient="index")
        found += checks.check_published_repetitions(counts, len(nsd_ids), run.subjects)
    for region in run.regions:
        of_subjects = voxels_of_region(region, masks, noise_ceilings, sessions)
        table = voxel_table(region, of_subjects)
        kept = np.concatenate([kept_voxels(run, of) for of in of_subjects])
        assembly = read_assembly(run.assembly_file(region))
        found += checks.check_form(region, assembly, run.subjects, nsd_ids)
        found += checks.check_signal(region, assembly, table[kept])
        found += checks.check_coverage(region, table, n_sessions)
        if is_nsd:
            found += checks.check_published_region(region, table, run.subjects)
    table_of_checks = checks.as_table(found).to_csv(index=False, lineterminator="\n")
    write_text(run.checks_file, table_of_checks)
    return found


def write_manifest(
    run: Run,
    preflight: Preflight,
    trials: TrialsRecord,
    outputs: Sequence[Path],
    seconds: Mapping[str, float],
) -> Path:
    """Write what was made from what; the last file of a run.

    Parameters
    ----------
    run : Run
        The run.
    preflight : Preflight
        The input files.
    trials : TrialsRecord
        The images.
    outputs : sequence of Path
        The files that the run wrote.
    seconds : mapping of str to float
        How long each stage took.

    Returns
    -------
    Path
        ``manifest.json``.
    """
    manifest: dict[str, Any] = {
        "software": {"nsd-prep": __version__, "python": platform.python_version()}
        | {library: version(library) for library in _LIBRARIES},
        "parameters": json.loads(run.model_dump_json()),
        "dataset": {"name": preflight.dataset, "layout": preflight.layout}
        | {"preparation": preflight.preparation},
        "images": {"number": trials.n_images, "sha256_of_nsd_ids": trials.images_digest},
        "sessions": {str(subject): list(of) for subject, of in trials.sessions.items()},
        "inputs": [identity.model_dump() for identity in preflight.files],
        "outputs": {
            str(path.relative_to(run.output_dir)): {
                "bytes": path.stat().st_size,
                "sha256": sha256_of_file(path),
            }
            for path in outputs
        },
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
    }
    write_json(run.manifest_file, manifest)
    return run.manifest_file


def usable_nsd_ids(trials: TrialsRecord) -> NDArray[np.int64]:
    """Return the usable images of a run: nsd_id (0-based), ascending, int64 (n_images,)."""
    return _usable_nsd_ids(pd.read_csv(trials.file))


def _usable_nsd_ids(trials: pd.DataFrame) -> NDArray[np.int64]:
    return np.unique(trials.loc[trials["usable"], "nsd_id"].to_numpy(dtype=np.int64))


def _trials_of_sessions(trials: TrialsRecord) -> dict[tuple[int, int], pd.DataFrame]:
    table = pd.read_csv(trials.file)
    return {
        (int(subject), int(session)): of  # type: ignore[call-overload, misc]
        for (subject, session), of in table.groupby(["subject", "session"])
    }
