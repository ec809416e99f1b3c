"""The command ``nsd-prep``: everything around a run that needs no server."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from nsd_prep.errors import NSDPrepError
from nsd_prep.synthetic import write_synthetic_nsd
from nsd_prep.synthetic.formats import STORAGE_FORMS


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, which holds its help."""
    command = argparse.ArgumentParser(
        prog="nsd-prep",
        description="Tools around the flow that prepares the Natural Scenes Dataset.",
    )
    commands = command.add_subparsers(required=True, metavar="COMMAND")
    _add_synth(commands)
    return command


def _add_synth(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    synth = commands.add_parser(
        "synth",
        help="write a synthetic NSD",
        description="Write a dataset in NSD's formats, its responses simulated from a truth that "
        "is kept beside it (ROOT/truth). Same options, same bytes.",
    )
    synth.add_argument(
        "root", type=Path, metavar="ROOT", help="folder to make; it must not hold files"
    )
    synth.add_argument(
        "--scale",
        choices=["tiny", "demo", "full"],
        default="demo",
        help="tiny: three subjects, for tests; demo: eight small subjects; full: NSD's grids, "
        "sessions and voxel counts, about 5 GB, some minutes; %(default)s by default",
    )
    synth.add_argument(
        "--layout",
        choices=["official", "flat"],
        default="official",
        help="how the files lie below ROOT; %(default)s by default",
    )
    synth.add_argument(
        "--seed", type=int, default=0, help="of the simulation; %(default)s by default"
    )
    synth.add_argument(
        "--subjects",
        type=int,
        nargs="+",
        metavar="N",
        help="write only these subjects of the scale; their bytes do not depend on the choice",
    )
    synth.add_argument(
        "--storage",
        choices=STORAGE_FORMS,
        default="voxel_chunks",
        help="how the betas are stored in HDF5; NSD's own way, %(default)s, by default",
    )
    synth.add_argument(
        "--every-chunk",
        nargs="+",
        default=[],
        metavar="SUBJECT:SESSION",
        type=_subject_and_session,
        help="sessions of which every voxel is stored, as in a real file (1.1 GB each at full "
        "scale)",
    )
    synth.set_defaults(run=_synth)


def _subject_and_session(text: str) -> tuple[int, int]:
    subject, _, session = text.partition(":")
    try:
        return int(subject), int(session)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"expected SUBJECT:SESSION such as 1:1, found {text!r}"
        ) from error


def _synth(given: argparse.Namespace) -> int:
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        write_synthetic_nsd(
            given.root,
            scale=given.scale,
            layout=given.layout,
            seed=given.seed,
            subjects=given.subjects,
            full_sessions=given.every_chunk,
            storage=given.storage,
            progress=lambda what, done, total: bar.update(
                task, description=what, completed=done, total=total
            ),
        )
    print(f"Written: {given.root}")  # noqa: T201
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``nsd-prep``.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line's words; the program's own where none are given.

    Returns
    -------
    int
        The exit status: 0 when all is well.
    """
    given = parser().parse_args(arguments)
    try:
        return int(given.run(given))
    except NSDPrepError as error:
        Console(stderr=True).print(f"error: {error}", highlight=False, soft_wrap=True, markup=False)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201
        return 130
