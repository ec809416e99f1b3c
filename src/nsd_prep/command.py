"""The command ``nsd-prep``: everything around a run that needs no server."""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from nsd_prep.brainscore.index import PackageIndex
from nsd_prep.brainscore.package import write_packages
from nsd_prep.brainscore.plugin import PLUGIN_FOLDER, write_plugin
from nsd_prep.brainscore.publish import (
    NSD_TERMS,
    Destination,
    plan_upload,
    refusal,
    s3_client,
    upload,
)
from nsd_prep.cache import CONTENTS, cache_sizes, clear_cache
from nsd_prep.compare import TOLERANCE, compare
from nsd_prep.compare_text import as_text
from nsd_prep.errors import NSDPrepError, OutputError
from nsd_prep.summary import print_rendered, size_as_text
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
    _add_cache(commands)
    _add_compare(commands)
    _add_package(commands)
    _add_publish(commands)
    return command


def _add_cache(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    cache = commands.add_parser(
        "cache",
        help="show the size of a run's cache, or clear it",
        description="Show how large a cache is. A cleared cache is filled again by the next run.",
    )
    cache.add_argument("folder", type=Path, metavar="DIR", help="a cache or output folder")
    cache.add_argument("--clear", action="store_true", help="remove what it holds")
    cache.set_defaults(run=_cache)


def _cache(given: argparse.Namespace) -> int:
    for part, (n_files, n_bytes) in cache_sizes(given.folder).items():
        print(f"{part}: {size_as_text(n_bytes)} in {n_files} files ({CONTENTS[part]})")  # noqa: T201
    if given.clear:
        clear_cache(given.folder)
        print("cleared")  # noqa: T201
    return 0


def _add_compare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    compare = commands.add_parser(
        "compare",
        help="compare two assemblies, or two output folders",
        description="Say where two assemblies, or the assemblies of two folders, differ: shapes, "
        "coordinates, images, voxels, values by subject and region, and a guess at the reason. The "
        "exit status is 0 when they are equal, 1 when they differ.",
    )
    compare.add_argument("first", type=Path, metavar="A", help="a .nc file, or a folder of them")
    compare.add_argument("second", type=Path, metavar="B", help="the same, of the other side")
    compare.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help="largest difference that counts as equal; %(default)g by default",
    )
    compare.set_defaults(run=_compare)


def _compare(given: argparse.Namespace) -> int:
    comparison = compare(given.first, given.second, given.tolerance)
    print_rendered(as_text(comparison))
    return comparison.exit_status


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


def _add_package(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    package = commands.add_parser(
        "package",
        help="package a run's output for Brain-Score",
        description="Write the packaged assemblies and stimulus sets of a run with their SHA-1, an "
        "index, and a plugin folder that is ready to register. Same inputs, same bytes.",
    )
    package.add_argument("output", type=Path, metavar="OUT", help="output folder of a run")
    package.add_argument(
        "--target", type=Path, metavar="DIR", help="where to; 'packages' with the suffix, in OUT"
    )
    package.add_argument("--suffix", default="", help="the run's; nothing by default")
    package.add_argument(
        "--unchecked",
        action="store_true",
        help="package without a look at the run's manifest and checks; the package says so",
    )
    package.set_defaults(run=_package)


def _package(given: argparse.Namespace) -> int:
    target = given.target or given.output / f"packages{given.suffix}"
    index = write_packages(
        given.output / "brainscore", target, suffix=given.suffix, unchecked=given.unchecked
    )
    write_plugin(index, target / PLUGIN_FOLDER)
    for file in index.files:
        print(f"{file.sha1}  {file.file}")  # noqa: T201
    print(f"Written: {target}")  # noqa: T201
    return 0


def _add_publish(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    publish = commands.add_parser(
        "publish",
        help="upload packages to an S3-compatible bucket",
        description="Say what an upload would do; with --upload, do it: each object is verified, "
        "an interrupted upload goes on, and version ids are written to the index and the plugin.",
    )
    publish.add_argument("packages", type=Path, metavar="DIR", help="what 'package' wrote")
    publish.add_argument("destination", metavar="s3://BUCKET/PREFIX")
    publish.add_argument("--endpoint", metavar="URL", help="of the server; Amazon's by default")
    publish.add_argument("--upload", action="store_true", help="upload, in place of a dry run")
    publish.add_argument(
        "--overwrite", action="store_true", help="replace objects that hold other bytes"
    )
    publish.add_argument(
        "--allow-non-nsd",
        action="store_true",
        help="upload also what was made from a dataset that is not NSD, such as a synthetic one",
    )
    publish.add_argument(
        "--unchecked", action="store_true", help="upload also what was packaged with --unchecked"
    )
    publish.set_defaults(run=_publish)


def _publish(given: argparse.Namespace) -> int:
    destination = Destination.parse(given.destination)
    allowed = {"allow_non_nsd": given.allow_non_nsd, "unchecked": given.unchecked}
    if PackageIndex.read(given.packages).is_nsd:
        print(NSD_TERMS)  # noqa: T201
    if given.upload:
        client = s3_client(given.endpoint)
        steps = upload(given.packages, destination, client, overwrite=given.overwrite, **allowed)
    else:
        client = s3_client(given.endpoint) if find_spec("boto3") else None
        try:
            steps = plan_upload(given.packages, destination, client, overwrite=given.overwrite)
        except OutputError as error:  # no credentials, say: the files can be listed all the same
            print(f"warning: {error}", file=sys.stderr)  # noqa: T201
            steps = plan_upload(given.packages, destination, None)
    for step in steps:
        size = size_as_text(step.file.bytes)
        print(f"{step.action:13} {size:>9}  s3://{destination.bucket}/{step.key}")  # noqa: T201
    print(f"{size_as_text(sum(step.file.bytes for step in steps))} in all")  # noqa: T201
    if not given.upload:
        refused = refusal(given.packages, **allowed)
        print(refused or "Nothing was uploaded: give --upload to do it.")  # noqa: T201
    return 0


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
