"""From responses to the files of a run: assemblies, split and tables."""

from pathlib import Path

import numpy as np
import pandas as pd

from nsd_prep import __version__
from nsd_prep.assembly import build_assembly, stimulus_ids, voxel_table, write_assembly
from nsd_prep.files import read_table, sha256_of_file, write_text
from nsd_prep.published import RELIABLE_NOISE_CEILING, REPETITIONS
from nsd_prep.regions import definition_as_text
from nsd_prep.responses import averaged
from nsd_prep.run import AssemblyRecord, Extracted, Run, TrialsRecord
from nsd_prep.split import train_images
from nsd_prep.stages.responses import (
    kept_voxels,
    repetitions_of_subject,
    voxels_of_region,
)
from nsd_prep.threads import each_in_threads
from nsd_prep.trials import usable_nsd_ids


def assemble_region(run: Run, extracted: Extracted, region: str) -> AssemblyRecord:
    """Average a region's responses, and write its assembly.

    Parameters
    ----------
    run : Run
        The run.
    extracted : Extracted
        What was extracted.
    region : str
        Which.

    Returns
    -------
    AssemblyRecord
        Where it lies.
    """
    trials = read_table(extracted.trials.file)
    nsd_ids = usable_nsd_ids(trials)
    of_subjects = voxels_of_region(extracted, region)
    keep = [kept_voxels(run, of) for of in of_subjects]
    ends = np.cumsum([0, *(int(kept.sum()) for kept in keep)])
    responses = np.empty((len(nsd_ids), int(ends[-1])), dtype=np.float32)

    def fill(position: int) -> None:
        repetitions = repetitions_of_subject(extracted, trials, run.subjects[position], region)
        start, stop = ends[position : position + 2]
        responses[:, start:stop] = averaged(repetitions)[:, keep[position]]

    each_in_threads(fill, range(len(run.subjects)))
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
    definition = definition_as_text(run.regions[region])
    return run_attributes(run) | {"region": region, "region_definition": definition}


def run_attributes(run: Run) -> dict[str, str | int | float]:
    """Return what determines the data of all of a run's assemblies; nothing of when or where.

    Parameters
    ----------
    run : Run
        The run.

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
    nsd_ids = usable_nsd_ids(read_table(trials.file))
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


def tabulate_voxels(run: Run, extracted: Extracted) -> list[Path]:
    """Write the tables of neuroids and of noise ceilings.

    ``voxels.csv`` has a row for each neuroid, ``noise_ceilings.csv`` for each subject and region.

    Parameters
    ----------
    run : Run
        The run.
    extracted : Extracted
        What was extracted.

    Returns
    -------
    list of Path
        The two files.
    """
    tables = []
    for region in run.regions:
        of_subjects = voxels_of_region(extracted, region)
        tables.append(voxel_table(region, [of.kept(kept_voxels(run, of)) for of in of_subjects]))
    voxels = pd.concat(tables, ignore_index=True)
    write_text(run.voxels_file, voxels.to_csv(index=False, lineterminator="\n"))
    ceilings = noise_ceiling_table(voxels)
    write_text(run.noise_ceilings_file, ceilings.to_csv(index=False, lineterminator="\n"))
    return [run.voxels_file, run.noise_ceilings_file]


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
