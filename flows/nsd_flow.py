"""The pipeline: from a copy of NSD to validated assemblies.

Run ``python flows/nsd_flow.py --help``.
"""

if __name__ == "__main__":  # before the libraries: its server starts while they are imported
    from nsd_prep.flows.command import main

    raise SystemExit(main())

from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow, unmapped
from pydantic import BeforeValidator, Field

from nsd_prep.cache import mark_as_cache
from nsd_prep.checks import raise_failed
from nsd_prep.dataset import Preparation
from nsd_prep.exclusive import only_run_in
from nsd_prep.flows.recording import without_success_lines
from nsd_prep.progress import Stopwatch
from nsd_prep.regions import RegionName
from nsd_prep.run import Extracted, Fraction, InvalidVoxels, Seed, ZScoreImages, plan_run
from nsd_prep.stages import session_requests, write_checks
from nsd_prep.summary import describe_preflight, summary_of_run
from nsd_prep.synthetic import synthetic_beside
from nsd_prep.tasks.artifacts import leave_failure, say, show_checks
from nsd_prep.tasks.assembly import assemble_regions, split_images, tabulate_voxels
from nsd_prep.tasks.brainscore import make_stimulus_sets, make_train_and_test
from nsd_prep.tasks.examination import examine_data, write_report
from nsd_prep.tasks.extraction import extract_sessions
from nsd_prep.tasks.masks import load_masks
from nsd_prep.tasks.noise_ceilings import load_noise_ceilings
from nsd_prep.tasks.preflight import check_inputs
from nsd_prep.tasks.runners import RunnerKind, runner_of
from nsd_prep.tasks.trials import map_trials
from nsd_prep.tasks.validation import validate, write_manifest

Subject = Literal[1, 2, 3, 4, 5, 6, 7, 8]
#: A field that a form sends empty is not set: Path("") would be the current folder.
_EMPTY_IS_NONE = BeforeValidator(lambda value: None if value == "" else value)
OptionalPath = Annotated[Path | None, _EMPTY_IS_NONE]


@flow(
    name="nsd-prep",
    validate_parameters=True,
    on_failure=[leave_failure],
    on_crashed=[leave_failure],
)
def nsd_flow(
    nsd_root: OptionalPath = None,
    output_dir: Annotated[Path, _EMPTY_IS_NONE] = Path("nsd-prep-output"),
    subjects: list[Subject] | None = None,
    regions: list[RegionName] = ["V1", "V2", "V4", "IT"],  # noqa: B006 (Prefect shows it in its form)
    regions_file: OptionalPath = None,
    betas: Preparation | None = None,
    cache_dir: OptionalPath = None,
    seed: Seed = 42,
    train_fraction: Fraction = 0.8,
    invalid_voxels: InvalidVoxels = "keep",
    runner: RunnerKind = "threads",
    workers: Annotated[int, Field(ge=1)] = 2,
    dask_address: str | None = None,
    brainscore: bool = True,
    zscore_images: ZScoreImages = "all",
    suffix: str = "",
    features: OptionalPath = None,
    report: bool = True,
    check: bool = False,
    refresh: bool = False,
    synthetic: bool = False,
) -> dict[str, Any]:
    """Turn a copy of NSD into an assembly for each region, validated.

    Args:
        nsd_root: Folder of the dataset, on the machine that runs the flow: it holds 'nsddata'
            (official layout) or 'metadata' (flat layout).
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
        runner: What works on sessions: threads of this process, processes, or Dask. Processes and
            Dask need a Prefect server that they can reach.
        workers: Sessions, or with processes and Dask chunks of sessions, worked on at once.
        dask_address: Scheduler of a running Dask cluster, such as tcp://10.0.0.1:8786; a cluster
            on this machine is started where none is given.
        brainscore: Make the train and test assemblies and stimulus sets that Brain-Score packages.
        zscore_images: Images over which these assemblies are z-scored once more: all, as in the
            published data, or those for training alone.
        suffix: What stands before the extension of these files, such as _8subj.
        features: netCDF file with features of the images (images by features), for the encoding
            baseline in the report.
        report: Write the report: figures, tables and every check on one page.
        check: Only look at the inputs: say all that is wrong, or what a run would do.
        refresh: Extract anew what the cache holds.
        synthetic: Use a small synthetic NSD, written beside the output folder where it is not
            there yet, in place of a dataset: NSD's formats, invented responses.

    Returns:
        Where everything is: paths of the assemblies, and numbers of images, sessions and checks.

    Raises:
        NSDPrepError: Something is wrong with the inputs, or a check of the results failed.
    """
    run = plan_run(
        synthetic_beside(output_dir, nsd_root) if synthetic else nsd_root,
        output_dir,
        subjects,
        regions,
        regions_file,
        betas,
        cache_dir,
        seed,
        train_fraction,
        invalid_voxels,
        zscore_images,
        suffix,
        features,
    )
    tasks_run_on = runner_of(runner, workers, dask_address)
    watch = Stopwatch()
    with only_run_in(run.output_dir), without_success_lines():
        preflight = check_inputs(run)
        say("preflight", "What the run will do", describe_preflight(run, preflight))
        if check:
            return {"checked": str(run.nsd_root)}
        mark_as_cache(run.cache_dir)
        run.manifest_file.unlink(missing_ok=True)
        watch.lap("preflight")

        trials = map_trials(run)
        masks = load_masks.map(unmapped(run), run.subjects).result()
        noise_ceilings = load_noise_ceilings.map(unmapped(run), masks).result()
        watch.lap("trials, masks and noise ceilings")

        requests = session_requests(run, masks, trials, preflight.files)
        with tasks_run_on as entered:
            sessions = extract_sessions(requests, run.cache_dir, entered, runner, workers, refresh)
        extracted = Extracted(
            trials=trials,
            masks=tuple(masks),
            noise_ceilings=tuple(noise_ceilings),
            sessions=tuple(sessions),
        ).write(run.cache_dir)
        watch.lap("extraction")

        split_images(run, trials)
        tabulate_voxels(run, extracted, refresh)
        assemblies = assemble_regions(run, extracted, refresh)
        watch.lap("assembly")

        checks = validate(run, extracted)
        checks += examine_data(run, extracted, assemblies, refresh)
        watch.lap("checks")
        further_files: list[Path] = []
        if brainscore:
            for make in (make_train_and_test, make_stimulus_sets):
                files, found = make(run, extracted, assemblies, refresh)
                further_files += files
                checks += found
            watch.lap("Brain-Score")

        show_checks(checks)
        write_checks(run, checks)
        if report:
            further_files += write_report(run, trials, assemblies, checks, brainscore, refresh)
            watch.lap("report")
        write_manifest(run, preflight, trials, further_files, watch.seconds)

    say("summary", "What came out", summary_of_run(run, trials, assemblies, checks, watch.total))
    raise_failed(checks)
    return {
        "output_dir": str(run.output_dir),
        "images": trials.n_images,
        "assemblies": {of.region: str(of.file) for of in assemblies},
    }
