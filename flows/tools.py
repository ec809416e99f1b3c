"""The tools of ``nsd-prep`` beside ``run``: each function is a command, its docstring the help."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

_Flag = Parameter(negative="")


def synth(
    root: Path,
    *,
    scale: Literal["tiny", "demo", "full"] = "demo",
    layout: Literal["official", "flat"] = "official",
    seed: int = 0,
    subjects: list[int] | None = None,
    storage: Literal[
        "voxel_chunks", "contiguous", "gzip", "trial_chunks", "odd_chunks"
    ] = "voxel_chunks",
    every_chunk: list[str] | None = None,
    experiments: list[Literal["imagery", "synthetic"]] | None = None,
    volumes: bool = True,
    surfaces: bool | None = None,
) -> int:
    """Write a synthetic dataset: NSD's formats, with responses simulated from a known truth.

    The truth is stored with the dataset. The same options always give the same bytes.

    Args:
        root: Folder to create; it must not contain files.
        scale: tiny: three subjects, for tests; demo: eight small subjects; full: NSD's grids,
            sessions and voxel counts, about 5 GB, some minutes.
        layout: Arrangement of the files below ROOT.
        seed: Seed of the simulation.
        subjects: Write only these subjects; which ones you choose does not change their bytes.
        storage: HDF5 layout of the betas; NSD itself uses voxel_chunks.
        every_chunk: Sessions, such as 1:1 for subject 1, session 1, for which every voxel and
            every vertex is stored, as in a real file (1.1 GB each at full scale).
        volumes: Write the voxels of func1pt8mm.
        surfaces: Write fsaverage and each subject's own surface (official layout only). The tiny
            scale includes them by default. At full scale, .mgh files (0.5 GB each) are written
            only for the sessions of --every-chunk.
        experiments: Write NSD's other experiments too, NSD-imagery and NSD-synthetic.
    """
    from rich.progress import Progress

    from nsd_prep.core.terminal import console
    from nsd_prep.synthetic import write_synthetic_nsd

    with Progress(console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        write_synthetic_nsd(
            root,
            scale=scale,
            layout=layout,
            seed=seed,
            subjects=subjects,
            experiments=experiments or (),
            full_sessions=[_subject_and_session(text) for text in every_chunk or ()],
            storage=storage,
            volumes=volumes,
            surfaces=surfaces,
            progress=lambda what, done, total: bar.update(
                task, description=what, completed=done, total=total
            ),
        )
    print(f"Written: {root}")  # noqa: T201
    return 0


def _subject_and_session(text: str) -> tuple[int, int]:
    from nsd_prep.core.errors import ParameterError

    subject, _, session = text.partition(":")
    if not (subject.isdigit() and session.isdigit()):
        raise ParameterError(
            f"--every-chunk takes SUBJECT:SESSION such as 1:1, found {text!r}: correct it."
        )
    return int(subject), int(session)


def cache(folder: Path, *, clear: Annotated[bool, _Flag] = False) -> int:
    """Show the size of a run's cache, or clear it; the next run fills it again.

    Args:
        folder: A cache or output folder.
        clear: Remove its contents.
    """
    from nsd_prep.core.counts import counted
    from nsd_prep.pipeline.cache import CONTENTS, cache_sizes, clear_cache
    from nsd_prep.pipeline.summary import size_as_text

    for part, (n_files, n_bytes) in cache_sizes(folder).items():
        files = counted(n_files, "file")
        print(f"{part}: {size_as_text(n_bytes)} in {files} ({CONTENTS[part]})")  # noqa: T201
    if clear:
        clear_cache(folder)
        print("cleared")  # noqa: T201
    return 0


def compare(first: Path, second: Path, *, tolerance: float = 1e-5) -> int:
    """Compare two assemblies, or the assemblies of two output folders.

    Shows where they differ (shapes, coordinates, images, voxels, values by subject and region) and
    a likely reason. The exit status is 0 if they are equal and 1 if they differ.

    Args:
        first: A .nc file, or a folder of them.
        second: What to compare it with, of the same kind.
        tolerance: Largest difference that counts as equal.
    """
    from nsd_prep.analysis.compare.compare import compare
    from nsd_prep.core.progress import Stages
    from nsd_prep.core.terminal import print_rendered
    from nsd_prep.report.compare_text import as_text

    with Stages().stage("comparing"):
        comparison = compare(first, second, tolerance)
    print_rendered(as_text(comparison))
    return 0 if comparison.equal else 1


def package(
    output: Path,
    *,
    target: Path | None = None,
    suffix: str = "",
    unchecked: Annotated[bool, _Flag] = False,
) -> int:
    """Package a run's output for Brain-Score.

    Writes the packaged assemblies and stimulus sets with their SHA-1, an index, and a plugin
    folder that is ready to be registered. The files must match the run's manifest, and no check
    may have failed. The same inputs always give the same bytes.

    Args:
        output: Output folder of a run, or the folder brainscore-ID that was kept
            from an earlier one.
        target: Folder to write to; by default, 'packages' plus the suffix, in the output folder.
        suffix: Suffix that the run was given.
        unchecked: Ignore the run's manifest and checks; the package records that.
    """
    from nsd_prep.assemblies.brainscore.package import write_packages
    from nsd_prep.assemblies.brainscore.plugin import PLUGIN_FOLDER, write_plugin
    from nsd_prep.core.progress import Stages

    target = target or output / f"packages{suffix}"
    folder = output if output.name.startswith("brainscore-") else output / "brainscore"
    with Stages().stage("packaging"):
        index = write_packages(folder, target, suffix=suffix, unchecked=unchecked)
    write_plugin(index, target / PLUGIN_FOLDER)
    for file in index.files:
        print(f"{file.sha1}  {file.file}")  # noqa: T201
    print(f"Written: {target}")  # noqa: T201
    return 0


def publish(
    packages: Path,
    destination: str,
    *,
    endpoint: str | None = None,
    upload: Annotated[bool, _Flag] = False,
    overwrite: Annotated[bool, _Flag] = False,
    allow_non_nsd: Annotated[bool, _Flag] = False,
    unchecked: Annotated[bool, _Flag] = False,
) -> int:
    """Upload packages to an S3-compatible bucket; a dry run unless --upload is given.

    Each object is verified, interrupted uploads resume, and version ids are written to the index
    and the plugin.

    Args:
        packages: Folder that 'nsd-prep package' wrote.
        destination: s3://BUCKET/PREFIX.
        endpoint: Address of the server; Amazon's by default.
        upload: Upload instead of a dry run.
        overwrite: Replace objects that have different content.
        allow_non_nsd: Allow packages made from a dataset other than NSD, such as a synthetic one.
        unchecked: Allow packages made with --unchecked.
    """
    from importlib.util import find_spec

    from nsd_prep.assemblies.brainscore import publish
    from nsd_prep.assemblies.brainscore.index import PackageIndex
    from nsd_prep.core.errors import OutputError
    from nsd_prep.core.progress import Stages
    from nsd_prep.flows.terminal import print_error
    from nsd_prep.pipeline.summary import size_as_text

    where = publish.Destination.parse(destination)
    if not upload:
        print("dry run: nothing was sent")  # noqa: T201
    if PackageIndex.read(packages).is_nsd:
        print(publish.NSD_TERMS)  # noqa: T201
    refused = publish.refusal(packages, allow_non_nsd=allow_non_nsd, unchecked=unchecked)
    if refused:
        print_error(refused)
        if upload:
            return 1
    if upload:
        client = publish.s3_client(endpoint)
        with Stages().stage("uploading"):
            steps = publish.upload(
                packages,
                where,
                client,
                overwrite=overwrite,
                allow_non_nsd=allow_non_nsd,
                unchecked=unchecked,
            )
    else:
        client = publish.s3_client(endpoint) if find_spec("boto3") else None
        try:
            with Stages().stage("comparing"):
                steps = publish.plan_upload(packages, where, client, overwrite=overwrite)
        except OutputError as error:  # no credentials, say: the files can be listed all the same
            print(f"warning: {publish.not_compared(where.bucket, error)}", file=sys.stderr)  # noqa: T201
            steps = publish.plan_upload(packages, where, None)
    for step in steps:
        size = size_as_text(step.file.bytes)
        print(f"{step.action:13} {size:>9}  s3://{where.bucket}/{step.key}")  # noqa: T201
    print(f"{size_as_text(sum(step.file.bytes for step in steps))} in total")  # noqa: T201
    if refused:
        return 1
    if not upload:
        print("Give --upload to upload it.")  # noqa: T201
    return 0


def map_(
    trials: Path,
    target: Path,
    *,
    values: str = "noise_ceiling",
    outside: float = float("nan"),
    to: Literal["fsaverage"] | None = None,
    nsd_root: str | Path | None = None,
) -> int:
    """Write one value per voxel or vertex of a subject's single trials as a map.

    Voxels become a NIfTI file; vertices, and voxels brought to fsaverage, one file per hemisphere
    (lh.NAME and rh.NAME).

    Args:
        trials: File that 'nsd-prep trials' wrote for a subject, such as trials/subj01.nc.
        target: File to write: .nii.gz or .nii for a volume, .gii, .mgh or .mgz for a surface. If
            it is a .npy file, it holds the values, and the map is written beside it, as .nii.gz
            or .mgh.
        values: A column of the voxels, such as ncsnr, noise_ceiling_1 or in_V1, or a .npy file
            with a number for each voxel, in the order of the file of trials.
        outside: Value of all other voxels of the volume, or vertices of the surface.
        to: Bring the values to this surface, through the dataset's transforms.
        nsd_root: The dataset, for --to; NSD_ROOT by default.
    """
    import os

    from nsd_prep.core.errors import ParameterError
    from nsd_prep.single_trials.maps import map_beside, write_map_of_trials
    from nsd_prep.sources.opening import open_dataset

    dataset = None
    if to is not None:
        root = nsd_root or os.environ.get("NSD_ROOT")
        if not root:
            raise ParameterError(
                "--to fsaverage needs the dataset's transforms: give its root with --nsd-root."
            )
        dataset = open_dataset(str(root))
    if target.suffix == ".npy":
        values, target = str(target), map_beside(target, trials, is_surface=dataset is not None)
    for path in write_map_of_trials(trials, target, values, outside, dataset):
        print(f"Written: {path}")  # noqa: T201
    return 0


def export(
    source: str,
    target: Path,
    *,
    like: Literal["mindeye2", "brain-diffuser", "algonauts2023", "deepnsd"],
    subjects: list[int] | None = None,
    betas: Literal["b1", "b2", "b3"] | None = None,
    images: Path | None = None,
    surface_files: Literal["native", "mgh"] | None = None,
    min_ncsnr: float | None = None,
    min_noise_ceiling: float | None = None,
    min_reliability: float | None = None,
    cache_dir: Path | None = None,
    accept_nsd_terms: Annotated[bool, _Flag] = False,
) -> int:
    """Write responses in the files that the code of a paper reads (docs/exports.md).

    Each folder gets a README.md, which says how the files are computed, in which order rows and
    voxels are, and what differs from the paper's. An interrupted export resumes where it stopped.

    Args:
        source: The dataset, a folder or an address; or single trials that 'trials' wrote: a file,
            or a folder of them.
        target: Folder to write, for this export alone.
        like: Whose files: mindeye2 (z-scored trials in nsdgeneral), brain-diffuser (means and
            images, split by the sessions before 2023), algonauts2023 (the challenge's, of trials
            in the space fsaverage), or deepnsd (tables of the shared images).
        subjects: For a dataset, the subjects to export; all by default.
        betas: For a dataset, the preparation, as for 'run'.
        images: For single trials, nsd_stimuli.hdf5, for the images that brain-diffuser reads.
        surface_files: For a dataset, what algonauts2023 reads: the subject's own surface, which
            NSD's transform maps to fsaverage (native), or the .mgh files of fsaverage, as in the
            challenge (mgh); by default, native if these files exist.
        min_ncsnr: For a dataset, export only voxels with at least this ncsnr.
        min_noise_ceiling: The same for the noise ceiling of means of three trials, in percent.
        min_reliability: The same for the split-half reliability.
        cache_dir: For a dataset, where extracted responses and single trials are kept; nsd-prep in
            your cache folder by default.
        accept_nsd_terms: Accept the terms of NSD, for its own bucket.
    """
    from nsd_prep.core.counts import counted
    from nsd_prep.exports.export import NEEDS, export_trials, is_trials

    if "://" not in source and is_trials(Path(source)):
        from nsd_prep.core.progress import Stages

        with Stages().stage("exporting"):
            files = export_trials(Path(source), target, like, images=images)
    else:
        from nsd_prep.notebook import open_nsd

        nsd = open_nsd(
            source,
            preparation=betas,
            cache_dir=cache_dir,
            accept_nsd_terms=accept_nsd_terms,
            space=NEEDS[like].space,
            surface_files=surface_files,
        )
        try:
            files = nsd.export(
                like,
                target,
                subjects=subjects,
                min_ncsnr=min_ncsnr,
                min_noise_ceiling=min_noise_ceiling,
                min_reliability=min_reliability,
            )
        finally:
            nsd.close()
    print(f"Written: {counted(len(files), 'file')} in {target}")  # noqa: T201
    return 0


def regions(
    root: str | Path,
    *,
    subjects: list[int] | None = None,
    space: Literal["func1pt8mm", "func1mm", "fsaverage", "nativesurface"] = "func1pt8mm",
    format: Literal["table", "csv", "json"] = "table",
    accept_nsd_terms: Annotated[bool, _Flag] = False,
) -> int:
    """List every label of every atlas in a dataset, with its number of voxels in each subject.

    The names are those that a file of regions takes (docs/regions.md). In the table a cell is the
    number of voxels in the left and in the right hemisphere, and '-' where a subject lacks the
    label.

    Args:
        root: The dataset, a folder or an address.
        subjects: The subjects to list; all by default.
        space: Where labels are read; on surfaces, vertices are counted instead of voxels.
        format: What to print: a table, or CSV or JSON with a line or an object for each label of
            each subject.
        accept_nsd_terms: Accept the terms of NSD, for its own bucket.
    """
    from nsd_prep.core.progress import Stages
    from nsd_prep.core.terminal import console
    from nsd_prep.dataset.atlases import as_text, label_table_of_atlases
    from nsd_prep.dataset.layout import chosen_subjects
    from nsd_prep.sources.opening import open_dataset

    dataset = open_dataset(str(root), accept_nsd_terms=accept_nsd_terms or None, space=space)
    with Stages().stage("reading labels"):
        table = label_table_of_atlases(dataset, chosen_subjects(dataset, subjects))
    if format == "csv":
        print(table.to_csv(index=False, lineterminator="\n"), end="")  # noqa: T201
    elif format == "json":
        print(table.to_json(orient="records", indent=1))  # noqa: T201
    else:
        sites = "vertices" if dataset.is_surface else "voxels"
        width = console().width if sys.stdout.isatty() else None
        print(as_text(table, sites, width))  # noqa: T201
    return 0


def deployments(folder: Path = Path("deployments")) -> int:
    """Write a copy of the flow's Prefect deployments for you to edit (see docs/operating.md).

    Args:
        folder: Folder to write to; files that you have edited there are not overwritten.
    """
    from nsd_prep.deployments import write_deployments

    for path in write_deployments(folder):
        print(path)  # noqa: T201
    return 0
