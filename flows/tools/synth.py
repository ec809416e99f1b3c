"""The command ``synth``: a synthetic dataset."""

from pathlib import Path
from typing import Literal


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
