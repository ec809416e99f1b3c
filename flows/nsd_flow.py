"""The pipeline: from a copy of NSD to validated assemblies.

Run ``python flows/nsd_flow.py --help``.
"""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from nsd_prep import stages
from nsd_prep.dataset import Preparation
from nsd_prep.errors import FailedChecksError
from nsd_prep.exclusive import only_run_in
from nsd_prep.extraction import forget
from nsd_prep.progress import progress_of
from nsd_prep.regions import RegionName
from nsd_prep.run import Fraction, InvalidVoxels, Seed, plan_run
from nsd_prep.summary import describe_preflight, print_summary, summary_of_run
from nsd_prep.tasks.assembly import assemble_region, split_images, tabulate_voxels
from nsd_prep.tasks.extraction import extract_sessions
from nsd_prep.tasks.masks import load_masks
from nsd_prep.tasks.noise_ceilings import load_noise_ceilings
from nsd_prep.tasks.preflight import check_inputs
from nsd_prep.tasks.trials import map_trials
from nsd_prep.tasks.validation import validate, write_manifest

Subject = Literal[1, 2, 3, 4, 5, 6, 7, 8]


@flow(name="nsd-prep", validate_parameters=True)
def nsd_flow(
    nsd_root: Path,
    output_dir: Path,
    subjects: list[Subject] | None = None,
    regions: list[RegionName] = ["V1", "V2", "V4", "IT"],  # noqa: B006 (Prefect shows it in its form)
    regions_file: Path | None = None,
    betas: Preparation | None = None,
    cache_dir: Path | None = None,
    seed: Seed = 42,
    train_fraction: Fraction = 0.8,
    invalid_voxels: InvalidVoxels = "keep",
    workers: Annotated[int, Field(ge=1)] = 2,
    check: bool = False,
    refresh: bool = False,
) -> dict[str, Any]:
    """Turn a copy of NSD into an assembly for each region, validated.

    Args:
        nsd_root: Folder of the dataset: it holds 'nsddata' (official layout) or 'metadata'
            (flat layout).
        output_dir: Folder that the assemblies, tables and the manifest are written to.
        subjects: Subjects (1 to 8), in the order of the neuroids; all of the dataset where none
            is chosen. The images are those that all of them saw three times.
        regions: Built-in regions; each becomes an assembly.
        regions_file: TOML file with regions of your own, made beside the built-in ones.
        betas: Preparation of the betas in the official layout: b1 (betas_assumehrf), b2
            (betas_fithrf) or b3 (betas_fithrf_GLMdenoise_RR), which is read where none is chosen.
        cache_dir: Folder for extracted responses, used by later runs; 'cache' in the output
            folder where none is given.
        seed: Seed of the split into train and test images.
        train_fraction: Share of the images that are for training.
        invalid_voxels: Whether voxels without data in some session are kept, as in the published
            data (their responses there are 0), or dropped.
        workers: Sessions worked on at once.
        check: Only look at the inputs: say all that is wrong, or what a run would do.
        refresh: Extract anew what the cache holds.

    Returns:
        Where everything is: paths of the assemblies, and numbers of images, sessions and checks.

    Raises:
        NSDPrepError: Something is wrong with the inputs, or a check of the results failed.
    """
    run = plan_run(
        nsd_root,
        output_dir,
        subjects,
        regions,
        regions_file,
        betas,
        cache_dir,
        seed,
        train_fraction,
        invalid_voxels,
    )
    started = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(only_run_in(run.output_dir))
        preflight = check_inputs(run)
        print(describe_preflight(run, preflight))  # noqa: T201
        if check:
            return {"checked": str(run.nsd_root)}
        run.manifest_file.unlink(missing_ok=True)

        runner = stack.enter_context(ThreadPoolTaskRunner(max_workers=workers))
        trials = map_trials(run)
        masks = [load_masks(run, subject) for subject in run.subjects]
        noise_ceilings = [load_noise_ceilings(run, of) for of in masks]
        prepared = time.monotonic()

        requests = stages.session_requests(run, masks, trials)
        if refresh:
            for request in requests:
                forget(request)
        with progress_of("extracting sessions", len(requests)) as advance:
            sessions = extract_sessions(requests, run.cache_dir, runner, advance)
        extracted = time.monotonic()

        split_images(run, trials)
        tabulate_voxels(run, masks, noise_ceilings, sessions)
        with progress_of("assembling regions", len(run.regions)) as advance:
            assemblies = []
            for region in run.regions:
                assemblies.append(
                    assemble_region(run, region, masks, trials, noise_ceilings, sessions)
                )
                advance()
        assembled = time.monotonic()

        checks = validate(run, masks, trials, noise_ceilings, sessions)
        outputs = [of.file for of in assemblies]
        outputs += [run.split_file, run.trials_file, run.voxels_file]
        outputs += [run.noise_ceilings_file, run.checks_file]
        seconds = {
            "preparing": prepared - started,
            "extracting": extracted - prepared,
            "assembling": assembled - extracted,
            "validating": time.monotonic() - assembled,
        }
        write_manifest(run, preflight, trials, outputs, seconds)
    print_summary(summary_of_run(run, trials, assemblies, checks, time.monotonic() - started))
    failed = [f"{of.name} ({of.where})" for of in checks if of.verdict == "failed"]
    if failed:
        raise FailedChecksError(failed)
    return {"output_dir": str(run.output_dir), "images": trials.n_images}


if __name__ == "__main__":
    from nsd_prep.flows.command import main

    raise SystemExit(main(nsd_flow))
