"""What a run will do, and what came out of it, in words and tables for people."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from nsd_prep.checks.causes import likeliest_causes
from nsd_prep.checks.images import STIMULUS_SETS
from nsd_prep.checks.registry import describe
from nsd_prep.core.check import Check
from nsd_prep.core.counts import TIMES, counted
from nsd_prep.dataset.beta_files import read_of_files
from nsd_prep.dataset.betas import MGH
from nsd_prep.dataset.spaces import describe_spaces
from nsd_prep.dataset.trials import shows_images
from nsd_prep.pipeline.inputs import Inputs
from nsd_prep.pipeline.prepared import Prepared
from nsd_prep.pipeline.run import Run
from nsd_prep.pipeline.steps.tables import neuroids, noise_ceiling_table
from nsd_prep.pipeline.summary import size_as_text
from nsd_prep.sources.estimate import SessionsToFetch, estimate


def describe_inputs(run: Run, inputs: Inputs) -> str:
    """Return what a run will do, in two lines: dataset, regions, images, sessions and sizes."""
    dataset = inputs.dataset
    subjects = ", ".join(map(str, run.subjects))
    noun = "subject" if len(run.subjects) == 1 else "subjects"
    voxels = ", ".join(f"{region} {number}" for region, number in inputs.n_voxels.items())
    location = ", ".join(["", *run.space_facts().values()])
    return (
        f"{dataset.name} ({dataset.layout} layout, {dataset.preparation}{location}) at "
        f"{run.nsd_root}: {noun} {subjects}; {dataset.noun.plural} {voxels}.\n"
        f"{_images(run, inputs)}: {size_as_text(inputs.bytes_to_read)} to read if the cache is "
        f"empty, {size_as_text(_bytes_to_write(run, inputs))} to write beside tables and report."
        f"{_missing_regions(inputs)}{_no_images(inputs)}{_fetching(inputs)}{_spaces(run, inputs)}"
    )


def _images(run: Run, inputs: Inputs) -> str:
    """Return which images and trials are written, and the sessions that hold them."""
    n_images = len(inputs.trials.nsd_ids)
    by = "all" if len(run.subjects) > 1 else "the subject"
    seen = f"{counted(n_images, 'image was', 'images were')} seen three times by {by}"
    if not run.single_trials:
        holding = counted(len(inputs.betas), "session holds", "sessions hold")
        return f"{seen}; {holding} {'it' if n_images == 1 else 'them'}"
    shown = list(_trials_written(run, inputs).values())
    n_images_shown = len(np.unique(np.concatenate([trials["nsd_id"] for trials in shown])))
    trials = counted(sum(map(len, shown)), "trial")
    n_sessions = counted(len(inputs.betas), "session")
    written = f"{trials} of {counted(n_images_shown, 'image')} in {n_sessions}"
    return f"{seen}; {written}" if run.assemblies else written


def _trials_written(run: Run, inputs: Inputs) -> dict[int, pd.DataFrame]:
    """Return the single trials that will be written of each subject (1-based)."""
    return {
        subject: trials[shows_images(trials, run.images)]
        for subject, trials in inputs.trials.all_trials.items()
    }


def _bytes_to_write(run: Run, inputs: Inputs) -> int:
    """Return the bytes of what is extracted and made, if the cache is empty."""
    n_bytes = inputs.bytes_to_write if run.assemblies else 0
    if not run.single_trials:
        return n_bytes
    for subject, trials in _trials_written(run, inputs).items():
        n_rows = trials["nsd_id"].nunique() if run.average else len(trials)
        n_voxels = len(inputs.masks[subject].selection.union())
        n_bytes += n_rows * n_voxels * np.dtype(run.dtype).itemsize
    return n_bytes + inputs.bytes_of_all_trials


def _missing_regions(inputs: Inputs) -> str:
    """Return which subjects lack a region, a line each; nothing where every subject has all."""
    sites = inputs.dataset.noun.plural
    return "".join(
        f"\nRegion {region}: no {sites} in subject{'s' if len(subjects) > 1 else ''} "
        f"{', '.join(map(str, subjects))}."
        for region, subjects in inputs.subjects_without.items()
    )


def _no_images(inputs: Inputs) -> str:
    """Return why no stimulus sets will be made; nothing where they will, or are not asked for."""
    return f"\nNo stimulus sets will be made: {inputs.no_images}" if inputs.no_images else ""


def _spaces(run: Run, inputs: Inputs) -> str:
    """Return which spaces a folder can be read in, where inputs are only looked at."""
    dataset = inputs.dataset
    if not run.check or dataset.layout == "flat" or dataset.source.transfer is not None:
        return ""
    return f"\n{describe_spaces(dataset, run.subjects)}"


def _fetching(inputs: Inputs) -> str:
    """Return what reading the sessions from an address takes; nothing for a folder."""
    if inputs.dataset.source.transfer is None:
        return ""
    n_trials = inputs.dataset.trials_per_session
    sessions = Counter(subject for subject, _ in inputs.betas)
    estimated = estimate(
        SessionsToFetch(sessions[subject], own, file.shape, n_trials, file.path.suffix == MGH)
        for subject, masks in inputs.masks.items()
        for file, own in read_of_files(inputs.beta_files(subject, 1), masks.voxels)
    )
    times = ", ".join(f"{seconds:.0f} s at {link}" for link, seconds in estimated.seconds.items())
    return (
        f"\nTo fetch if the cache is empty: {counted(estimated.requests, 'request')}, "
        f"{size_as_text(estimated.bytes)}; {times}."
    )


def tables_of_assemblies(run: Run, prepared: Prepared) -> list[tuple[str, pd.DataFrame]]:
    """Return a table of the regions and one of the subjects, with their titles."""
    train, images = int(prepared.is_train.sum()), len(prepared.is_train)
    title = (
        f"Assemblies of {images} images ({train} train, {images - train} test), median noise "
        "ceilings"
    )
    return [
        (title, _assemblies(run, prepared)),
        ("Shared images seen", _repetitions(prepared)),
    ]


def _assemblies(run: Run, prepared: Prepared) -> pd.DataFrame:
    ceilings = noise_ceiling_table(neuroids(prepared)).set_index(["region", "subject"])
    rows, without = [], prepared.subjects_without
    for region in run.regions:
        pooled = ceilings.loc[(region, "all")]
        name = prepared.assembly_file(region)
        rows.append(
            {
                "region": region,
                **({"not in subjects": _listed(without.get(region, ()))} if without else {}),
                "neuroids": f"{pooled['voxels']:.0f}",
                "noise ceiling": f"{pooled['median_noise_ceiling']:.1f}%",
                "above 30%": f"{pooled['reliable_voxels']:.0f}",
                "size": size_as_text((run.output_dir / name).stat().st_size),
                "file": name,
            }
        )
    return pd.DataFrame(rows)


def _listed(subjects: Sequence[int]) -> str:
    return ", ".join(map(str, subjects)) or "-"


def _repetitions(prepared: Prepared) -> pd.DataFrame:
    counts = prepared.repetition_counts
    table = counts.rename(columns=TIMES)
    read = [
        sum(record.subject == subject for record in prepared.sessions) for subject in counts.index
    ]
    return table.assign(**{"sessions used": read}).reset_index().astype(str)


def remarks(checks: Sequence[Check]) -> list[str]:
    """Return what people should know of the checks, a line each, the worst first.

    Those that a person should look at, by their likeliest causes; and why no stimulus sets were
    made.
    """
    lines: list[str] = []
    for cause in likeliest_causes(checks):
        lines += map(_problem, cause.checks)
        if cause.others:
            lines.append(f"  the likeliest cause of {_explained(cause.others)}")
    return lines + [
        f"no stimulus sets were made: {STIMULUS_SETS.value_of(check)}"
        for check in checks
        if check.name == STIMULUS_SETS.name and check.verdict == "not decidable"
    ]


def _problem(check: Check) -> str:
    described = describe(check)
    where = f" ({check.where})" if check.where else ""
    return (
        f"{check.verdict}: {check.name}{where}: found {described.value}, expected "
        f"{described.expectation}"
    )


def _explained(checks: Sequence[Check]) -> str:
    """Return the checks by kind and verdict, with the regions that each is about."""
    regions: dict[tuple[str, str], list[str]] = {}
    for check in checks:
        of_kind = regions.setdefault((check.name, check.verdict), [])
        of_kind += [check.region] if check.region else []
    parts = [
        f"{name} ({', '.join([verdict, *names])})" for (name, verdict), names in regions.items()
    ]
    return f"{counted(len(checks), 'other')}: {'; '.join(parts)}"
