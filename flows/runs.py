"""What the commands ``run`` and ``trials`` do with the options of a command line."""

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from nsd_prep import __version__
from nsd_prep.core.counts import counted
from nsd_prep.core.folders import absolute
from nsd_prep.core.parameters import RegionName, parameters
from nsd_prep.core.progress import Stages
from nsd_prep.core.terminal import print_rendered, say
from nsd_prep.flows.configured import may_be_configured
from nsd_prep.flows.options import UsageError
from nsd_prep.flows.server import end_workers, without_telemetry
from nsd_prep.flows.terminal import in_words_of_the_terminal, lines_on_terminal

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

#: Options of 'trials' that apply to NSD's two other experiments too.
_OF_EXPERIMENTS: Final = (
    "nsd_root",
    "subjects",
    "regions",
    "regions_file",
    "betas",
    "accept_nsd_terms",
    "output_dir",
    "cache_dir",
    "space",
    "surface_files",
    "missing_regions",
    "normalise",
    "dtype",
    "format",
    "experiment",
)


def run_trials(options: dict[str, Any]) -> int:
    """Run the flow for single trials in place of assemblies; or write another experiment."""
    experiment = options.pop("experiment")
    if experiment != "nsd":
        return _experiment(options, experiment)
    if options["normalise"] == "run":
        raise UsageError(
            "--normalise run applies only to --experiment imagery and synthetic: choose session, "
            "none or train-only."
        )
    return run(options | {"single_trials": True, "assemblies": False})


def _experiment(options: dict[str, Any], experiment: Literal["imagery", "synthetic"]) -> int:
    """Write the rows of NSD-imagery or NSD-synthetic, without Prefect."""
    usual = parameters()
    for name, value in options.items():
        if name not in _OF_EXPERIMENTS and value != usual[name]:
            option = f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
            raise UsageError(
                f"{option} applies only to NSD's main experiment: leave it out with --experiment "
                f"{experiment}."
            )
    root = options["nsd_root"] or os.environ.get("NSD_ROOT")
    if not root:
        raise UsageError(f"--experiment {experiment} needs --nsd-root: give the dataset.")
    from nsd_prep.checks.registry import as_table
    from nsd_prep.core.check_table import raise_failed
    from nsd_prep.notebook import open_nsd

    output = absolute(options["output_dir"])
    with lines_on_terminal():
        nsd = open_nsd(
            root,
            subjects=options["subjects"],
            preparation=options["betas"],
            regions_file=options["regions_file"],
            cache_dir=options["cache_dir"] or output / "cache",
            accept_nsd_terms=options["accept_nsd_terms"],
            space=options["space"],
            surface_files=options["surface_files"],
            missing_regions=options["missing_regions"],
        )
        own = [name for name in nsd.regions if name not in get_args(RegionName)]
        try:
            files, checks = nsd.write_experiment(
                experiment,
                output,
                [*options["regions"], *own],
                normalise=options["normalise"],
                dtype=options["dtype"],
                format=options["format"],
            )
        finally:
            nsd.close()
    print(f"Written: {counted(len(files), 'file')} in {output}")  # noqa: T201
    raise_failed(as_table(checks))
    return 0


def run(options: dict[str, Any]) -> int:
    """Run the flow with the parameters of a command line."""
    without_telemetry()
    with lines_on_terminal():
        if not options["synthetic"]:
            options["nsd_root"] = options["nsd_root"] or os.environ.get("NSD_ROOT") or None
        if options["synthetic"] or options["nsd_root"] is None:
            options["nsd_root"] = _synthetic(options)
            options["synthetic"] = False
        root, output = options["nsd_root"], options["output_dir"]
        say(f"nsd-prep {__version__}: {root} to {output}")
        if options["check"]:
            return _check(options)
        # A run with a server of one's own is one for its history, whatever it has to do.
        if not may_be_configured() and _is_unchanged(options):
            return 0
        return _flow(options)


def _check(options: dict[str, Any]) -> int:
    """Look at the inputs without a Prefect server, which takes seconds to start."""
    from nsd_prep.pipeline.check_inputs import check_inputs
    from nsd_prep.pipeline.run import plan_run

    planned = plan_run(**options)
    if planned.runner == "dask":  # whose library may be missing, and its scheduler out of reach
        from nsd_prep.tasks.runners import task_runner

        task_runner(planned.runner, planned.workers, planned.dask_address)
    _, found = check_inputs(planned)
    print_rendered(in_words_of_the_terminal(found))
    return 0


def _is_unchanged(options: dict[str, Any]) -> bool:
    """Show what the same run showed before, where nothing has changed, and raise as it did."""
    from nsd_prep.core.check_table import raise_failed
    from nsd_prep.pipeline.observer import TerminalObserver
    from nsd_prep.pipeline.unchanged import unchanged_run

    observer = TerminalObserver()
    earlier = unchanged_run(options)
    if earlier is None:
        return False
    observer.show_unchanged(earlier)
    raise_failed(earlier.checks)
    return True


def _flow(options: dict[str, Any]) -> int:
    from nsd_prep.core.atomic import remove_stale_partials
    from nsd_prep.pipeline.locks import only_run_in
    from nsd_prep.pipeline.run import plan_run

    planned = plan_run(**options)
    with only_run_in(planned.output_dir):
        pass  # that another run is there is reported before a server is started
    # The flow runs in the temporary server's folder.
    paths = {name: value for name, value in options.items() if isinstance(value, Path)}
    options |= {name: absolute(path) for name, path in paths.items()}
    options["nsd_root"] = planned.nsd_root

    import gc

    from nsd_prep.flows.server import temporary_server
    from nsd_prep.pipeline.libraries import import_array_libraries, import_report

    with ExitStack() as stack:
        with Stages().stage("starting"):
            wait_until_it_answers = stack.enter_context(temporary_server())
            # Both take seconds, the server's start and the import of what the flow needs.
            from nsd_prep.flows.recording import log_to_server, silence_console

            silence_console()
            from nsd_prep.flows.nsd_flow import nsd_flow

            import_array_libraries()
            if options["report"]:
                import_report()
            gc.freeze()  # what was imported stays: not to be looked through again and again
            wait_until_it_answers()
        try:
            with log_to_server():
                silence_console()  # whose handler Prefect makes anew with other settings
                state: State[Any] = nsd_flow(**options, return_state=True)  # type: ignore[assignment]
                state.result()
        finally:
            end_workers()
            with suppress(OSError):  # a later run removes them too
                remove_stale_partials(planned.cache_dir)  # of workers ended while they wrote
    return 0


def _synthetic(options: dict[str, Any]) -> Path:
    from nsd_prep.pipeline.synthetic_beside import synthetic_beside

    if not options["synthetic"]:
        say("No --nsd-root given: using a synthetic dataset.")
    root = synthetic_beside(options["output_dir"], options["nsd_root"])
    say(
        f"Using the synthetic dataset at {root}: NSD's formats, simulated responses. Give "
        "--nsd-root to use real data."
    )
    return root
