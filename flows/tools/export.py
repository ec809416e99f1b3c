"""The command ``export``: responses as the code of a paper reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from nsd_prep.flows.options import Flag, UsageError


def export(
    source: str | Path,  # text, since an address would not survive as a path
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
    accept_nsd_terms: Flag = False,
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

    of_dataset = {
        "subjects": subjects,
        "betas": betas,
        "surface_files": surface_files,
        "min_ncsnr": min_ncsnr,
        "min_noise_ceiling": min_noise_ceiling,
        "min_reliability": min_reliability,
        "cache_dir": cache_dir,
        "accept_nsd_terms": accept_nsd_terms or None,
    }
    if "://" not in str(source) and is_trials(Path(source)):
        from nsd_prep.core.progress import Stages

        _refuse(
            of_dataset,
            f"a dataset, and {source} is single trials",
            "leave it out, or give it to 'nsd-prep trials'",
        )
        with Stages().stage("exporting"):
            files = export_trials(Path(source), target, like, images=images)
    else:
        from nsd_prep.notebook import open_nsd

        _refuse(
            {"images": images},
            f"single trials, and {source} is a dataset",
            "leave it out, as the dataset's own images are taken",
        )
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


def _refuse(options: Mapping[str, object], applies_to: str, advice: str) -> None:
    """Raise where an option is given that does not apply to the source of an export."""
    for name, value in options.items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} applies only to {applies_to}: {advice}.")
