"""The command line of the flow."""

import argparse
import gc
import inspect
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from nsd_prep.dataset import PREPARATION_FOLDERS
from nsd_prep.errors import NSDPrepError
from nsd_prep.exclusive import only_run_in
from nsd_prep.flows.server import end_workers, temporary_server
from nsd_prep.regions import BUILT_IN_REGIONS, DEFAULT_REGIONS
from nsd_prep.run import plan_run
from nsd_prep.synthetic import synthetic_beside

_DEFAULT_OUTPUT: Final = Path("nsd-prep-output")
_EXAMPLES: Final = """\
examples:
  python flows/nsd_flow.py
      try everything on a small synthetic NSD, written beside the output
  python flows/nsd_flow.py --nsd-root /data/nsd --check
      look at the inputs, and say what a run would read and write
  python flows/nsd_flow.py --nsd-root /data/nsd --output-dir allen2022
      all eight subjects; V1, V2, V4 and IT
  python flows/nsd_flow.py --nsd-root /data/nsd --subjects 1 2 5 7 --regions V1 IT
      four subjects, who share 1000 images; what was extracted before is used again

A run that was interrupted goes on where it stopped when the same command is given again.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, which holds its help."""
    command = argparse.ArgumentParser(
        prog="nsd_flow.py",
        description="Turn a copy of the Natural Scenes Dataset into an assembly for each region: "
        "responses to the images that all subjects saw three times, z-scored within the session "
        "and averaged, with each voxel's noise ceiling, validated.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    data = command.add_argument_group("what is read")
    data.add_argument(
        "--nsd-root",
        type=Path,
        metavar="ROOT",
        help="folder of the dataset: it holds 'nsddata' (official layout) or 'metadata' (flat "
        "layout); NSD_ROOT in the environment stands for it; with neither, a small synthetic NSD "
        "is written beside the output and used",
    )
    data.add_argument(
        "--subjects",
        type=int,
        nargs="+",
        metavar="N",
        help="subjects (1 to 8), in the order of the neuroids; all by default",
    )
    data.add_argument(
        "--regions",
        nargs="+",
        metavar="NAME",
        help=f"some of {', '.join(BUILT_IN_REGIONS)}; {' '.join(DEFAULT_REGIONS)} by default",
    )
    data.add_argument(
        "--regions-file",
        type=Path,
        metavar="FILE",
        help="TOML file with regions of your own, made beside those of --regions: a table each, "
        'such as [FFA] with labels = { floc-faces = [2, 3] } and, if wanted, hemisphere = "lh"',
    )
    data.add_argument(
        "--betas",
        choices=list(PREPARATION_FOLDERS),
        help="preparation of the betas, in the official layout: "
        + ", ".join(f"{short} {folder}" for short, folder in PREPARATION_FOLDERS.items())
        + "; b3 by default",
    )
    made = command.add_argument_group("what is made")
    made.add_argument(
        "--output-dir",
        type=Path,
        metavar="OUT",
        default=_DEFAULT_OUTPUT,
        help="folder of the assemblies, tables and the manifest; %(default)s by default",
    )
    made.add_argument(
        "--invalid-voxels",
        choices=["keep", "drop"],
        default="keep",
        help="keep voxels without data in some session, as the published data do (their responses "
        "there are 0), or drop them; %(default)s by default",
    )
    made.add_argument(
        "--seed",
        type=int,
        default=42,
        help="seed of the split into train and test images; %(default)s by default",
    )
    made.add_argument(
        "--train-fraction",
        type=float,
        metavar="SHARE",
        default=0.8,
        help="share of the images that are for training; %(default)s by default",
    )
    made.add_argument(
        "--no-brainscore",
        dest="brainscore",
        action="store_false",
        help="leave out the train and test assemblies and stimulus sets for Brain-Score",
    )
    made.add_argument(
        "--zscore-images",
        choices=["all", "train"],
        default="all",
        help="images over which these assemblies are z-scored once more: all, as in the published "
        "data, or those for training alone; %(default)s by default",
    )
    made.add_argument(
        "--suffix",
        default="",
        help="what stands before the extension of these files, such as _8subj; nothing by default",
    )
    made.add_argument(
        "--features",
        type=Path,
        metavar="FILE",
        help="netCDF file with features of the images (images by features, with a coordinate "
        "nsd_id or stimulus_id), for the encoding baseline in the report",
    )
    made.add_argument(
        "--no-report",
        dest="report",
        action="store_false",
        help="leave out the report (OUT/report/index.html)",
    )
    how = command.add_argument_group("how")
    how.add_argument(
        "--check",
        action="store_true",
        help="only look at the inputs: say all that is wrong, or what a run would do",
    )
    how.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="folder for extracted responses, used by later runs; 'cache' in OUT by default",
    )
    how.add_argument("--refresh", action="store_true", help="extract anew what the cache holds")
    how.add_argument(
        "--workers",
        type=_at_least_one,
        metavar="N",
        default=2,
        help="sessions, or with processes and dask chunks of sessions, worked on at once; "
        "%(default)s by default",
    )
    how.add_argument(
        "--runner",
        choices=["threads", "processes", "dask"],
        default="threads",
        help="what works on sessions: threads of this process, processes, or Dask; the last two "
        "need a Prefect server, which is started for the run where PREFECT_API_URL names none; "
        "%(default)s by default",
    )
    how.add_argument(
        "--dask-address",
        metavar="ADDRESS",
        help="scheduler of a running Dask cluster, such as tcp://10.0.0.1:8786; a cluster on this "
        "machine is started where none is given",
    )
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow from a command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line's words; the program's own where none are given.

    Returns
    -------
    int
        0 when all is well, 1 when something is wrong with the inputs or the results, 130 when
        interrupted.
    """
    given = vars(parser().parse_args(arguments))
    given["regions"] = given["regions"] or ([] if given["regions_file"] else list(DEFAULT_REGIONS))
    # A run that is asked to end ends as it does on Ctrl-C, and its server with it.
    for request in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(request) is not signal.SIG_IGN:  # nohup
            signal.signal(request, signal.default_int_handler)
    with _warnings_on_terminal():
        return _run(given)


def _run(given: dict[str, Any]) -> int:
    try:
        given["nsd_root"] = given["nsd_root"] or _root_from_environment() or _synthetic(given)
        run = plan_run(**{name: given[name] for name in inspect.signature(plan_run).parameters})
        with only_run_in(run.output_dir):
            pass  # another run is said before a server is started
        with temporary_server() as wait_until_it_answers:
            # Both take seconds, the server's start and the import of what the flow needs.
            from nsd_prep.flows.nsd_flow import nsd_flow
            from nsd_prep.flows.recording import quiet_server, wait_until_recorded

            gc.freeze()  # what was imported stays: not to be looked through again and again
            wait_until_it_answers()
            try:
                with quiet_server():
                    state = nsd_flow(**given, return_state=True)
                    if state.state_details.flow_run_id is not None:
                        wait_until_recorded(state.state_details.flow_run_id)
                    state.result()
            finally:
                end_workers()
    except NSDPrepError as error:
        _say_error(error)
        return 1
    except OSError as error:
        _say_error(f"{error}: what is done is kept; mend the disk and run the same command again.")
        return 1
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where it stopped", file=sys.stderr)  # noqa: T201
        return 130
    return 0


def _say_error(error: object) -> None:
    Console(stderr=True).print(f"error: {error}", highlight=False, soft_wrap=True, markup=False)


class _Lines(logging.Handler):
    """Writes what is logged to standard error, above a progress bar where one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)  # noqa: T201


@contextmanager
def _warnings_on_terminal() -> Iterator[None]:
    """Show the library's warnings: Prefect's handlers are silenced, and take them to the server."""
    logger, lines = logging.getLogger("nsd_prep"), _Lines(logging.WARNING)
    logger.addHandler(lines)
    try:
        yield
    finally:
        logger.removeHandler(lines)


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, found {number}")
    return number


def _root_from_environment() -> Path | None:
    root = os.environ.get("NSD_ROOT")
    return Path(root) if root else None


def _synthetic(given: dict[str, Any]) -> Path:
    print("No --nsd-root is given: writing a small synthetic NSD beside the output.")  # noqa: T201
    root = synthetic_beside(given["output_dir"])
    print(  # noqa: T201
        f"Using the synthetic NSD at {root}: NSD's formats, invented responses. Give --nsd-root "
        "for real ones."
    )
    return root
