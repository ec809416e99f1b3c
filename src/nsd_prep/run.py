"""A run: what is asked for, and the small records that its stages hand on."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from nsd_prep.dataset import Dataset, Preparation, chosen_subjects, open_dataset
from nsd_prep.errors import ParameterError
from nsd_prep.extraction import SessionRecord
from nsd_prep.files import read_whole, replaced, sha256_of_json
from nsd_prep.regions import RegionDefinition, chosen_regions, read_regions_file

InvalidVoxels = Literal["keep", "drop"]
ZScoreImages = Literal["all", "train"]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Run(_Record):
    """Everything that determines a run; JSON-able, so that it can travel to any worker.

    Attributes
    ----------
    nsd_root, output_dir, cache_dir : Path
        Absolute.
    betas : {"b1", "b2", "b3"} or None
        The preparation asked for.
    subjects : tuple of int
        1-based, in the order of the neuroids.
    regions : dict of str to RegionDefinition
        In the order asked for.
    seed : int
        Of the split.
    train_fraction : float
        Of the split.
    invalid_voxels : {"keep", "drop"}
        Whether voxels without data in some session are kept.
    zscore_images : {"all", "train"}
        Over which images the train and test assemblies are z-scored once more.
    suffix : str
        What stands before the extension of the files for Brain-Score.
    features : Path or None
        Features of the images for the encoding baseline.
    """

    nsd_root: Path
    output_dir: Path
    cache_dir: Path
    betas: Preparation | None
    subjects: tuple[int, ...]
    regions: dict[str, RegionDefinition]
    seed: Seed
    train_fraction: Fraction
    invalid_voxels: InvalidVoxels
    zscore_images: ZScoreImages = "all"
    suffix: str = ""
    features: Path | None = None

    def dataset(self) -> Dataset:
        """Return the dataset that the run reads."""
        return open_dataset(self.nsd_root, self.betas)

    def assembly_file(self, region: str) -> Path:
        """Return the path of a region's assembly."""
        return self.output_dir / f"Allen2022.{region}.nc"

    @property
    def trials_file(self) -> Path:
        """The path of the table of trials."""
        return self.output_dir / "trials.csv"

    @property
    def split_file(self) -> Path:
        """The path of the split."""
        return self.output_dir / "train_test_split.csv"

    @property
    def voxels_file(self) -> Path:
        """The path of the table of neuroids."""
        return self.output_dir / "voxels.csv"

    @property
    def noise_ceilings_file(self) -> Path:
        """The path of the table of noise ceilings."""
        return self.output_dir / "noise_ceilings.csv"

    @property
    def checks_file(self) -> Path:
        """The path of the table of checks."""
        return self.output_dir / "checks.csv"

    @property
    def brainscore_folder(self) -> Path:
        """The folder of what Brain-Score packages."""
        return self.output_dir / "brainscore"

    @property
    def output_files(self) -> list[Path]:
        """The paths of all that a run writes, but for the manifest."""
        return [
            *(self.assembly_file(region) for region in self.regions),
            self.split_file,
            self.trials_file,
            self.voxels_file,
            self.noise_ceilings_file,
            self.checks_file,
        ]

    @property
    def manifest_file(self) -> Path:
        """The path of the manifest, written last."""
        return self.output_dir / "manifest.json"


def plan_run(
    nsd_root: Path | None,
    output_dir: Path,
    subjects: Sequence[int] | None,
    regions: Sequence[str],
    regions_file: Path | None,
    betas: Preparation | None,
    cache_dir: Path | None,
    seed: int,
    train_fraction: float,
    invalid_voxels: InvalidVoxels,
    zscore_images: ZScoreImages = "all",
    suffix: str = "",
    features: Path | None = None,
) -> Run:
    """Settle what a run's parameters mean for the dataset at hand.

    Parameters
    ----------
    nsd_root, output_dir, subjects, regions, regions_file, betas, cache_dir, seed, train_fraction, \
invalid_voxels, zscore_images, suffix, features
        As in the flow; the cache lies in the output folder where nothing is said.

    Returns
    -------
    Run
        With absolute paths, all subjects where none are named, and the regions' definitions.

    Raises
    ------
    MissingFilesError, InputFileError
        There is no dataset, or it does not say what it is.
    ParameterError
        A parameter is not possible.
    """
    if nsd_root is None or not str(nsd_root).strip():
        raise ParameterError(
            "The NSD root is not set: give the dataset's folder with --nsd-root, or in the "
            "deployment's parameter nsd_root."
        )
    if not 0 <= seed < 2**32:
        raise ParameterError(f"The seed {seed} is not possible: give 0 to {2**32 - 1} with --seed.")
    if not 0 < train_fraction < 1:
        raise ParameterError(
            f"The train fraction {train_fraction} is not possible: give a number above 0 and below "
            "1 with --train-fraction."
        )
    if not re.fullmatch(r"[A-Za-z0-9_-]*", suffix):
        raise ParameterError(
            f"The suffix {suffix!r} cannot be part of a file name: use letters, digits, dashes and "
            "underscores, such as _8subj."
        )
    own = read_regions_file(Path(regions_file).expanduser()) if regions_file else {}
    definitions = chosen_regions(regions, own)
    dataset = open_dataset(nsd_root, betas)
    output_dir = Path(output_dir).expanduser().absolute()
    cache = Path(cache_dir).expanduser().absolute() if cache_dir else output_dir / "cache"
    return Run(
        nsd_root=dataset.root,
        output_dir=output_dir,
        cache_dir=cache,
        betas=betas,
        # A form whose list is cleared sends an empty one.
        subjects=chosen_subjects(dataset, subjects or None),
        regions=definitions,
        seed=seed,
        train_fraction=train_fraction,
        invalid_voxels=invalid_voxels,
        zscore_images=zscore_images,
        suffix=suffix,
        features=_features_file(features),
    )


def _features_file(path: Path | None) -> Path | None:
    if path is None:
        return None
    path = Path(path).expanduser().absolute()
    if not path.is_file():
        raise ParameterError(f"The features file {path} is not there: mend --features.")
    return path


class TrialsRecord(_Record):
    """What the design says of a run.

    Attributes
    ----------
    file : Path
        The table of trials.
    n_images : int
        Images that every subject saw three times.
    images_digest : str
        SHA-256 of their ids.
    sessions : dict of int to tuple of int
        Sessions with a usable trial (1-based) of each subject.
    repetition_counts : dict of int to tuple of int
        How many shared images each subject saw 3, 2, 1 and 0 times.
    """

    file: Path
    n_images: int
    images_digest: str
    sessions: dict[int, tuple[int, ...]]
    repetition_counts: dict[int, tuple[int, ...]]

    @property
    def n_sessions(self) -> int:
        """Sessions to be read of all the subjects."""
        return sum(len(sessions) for sessions in self.sessions.values())


class MasksRecord(_Record):
    """The voxels of a subject's regions.

    Attributes
    ----------
    subject : int
        1-based.
    file : Path
        As `nsd_prep.voxels_file.write_voxels` writes it.
    digests : dict of str to str
        Digest of each region's voxels.
    n_voxels : dict of str to int
        Voxels of each region.
    """

    subject: int
    file: Path
    digests: dict[str, str]
    n_voxels: dict[str, int]


class NoiseCeilingsRecord(_Record):
    """The ncsnr of the voxels of a subject's regions.

    Attributes
    ----------
    subject : int
        1-based.
    file : Path
        ``.npz``: for each region the ncsnr of its voxels, float32.
    sha256 : str
        Digest of that file.
    """

    subject: int
    file: Path
    sha256: str


class Extracted(_Record):
    """All that was extracted for a run, from which everything else is made.

    Attributes
    ----------
    trials : TrialsRecord
        The images and sessions.
    masks : tuple of MasksRecord
        Of each subject, in the run's order.
    noise_ceilings : tuple of NoiseCeilingsRecord
        Of each subject, in the run's order.
    sessions : tuple of SessionRecord
        Of all the subjects.
    """

    trials: TrialsRecord
    masks: tuple[MasksRecord, ...]
    noise_ceilings: tuple[NoiseCeilingsRecord, ...]
    sessions: tuple[SessionRecord, ...]

    def write(self, folder: Path) -> Path:
        """Write this to a file that is named by what it holds, and return its path."""
        # What a run read is of no meaning for what is made of it.
        content = self.model_dump(mode="json", exclude={"sessions": {"__all__": {"voxels_read"}}})
        path = folder / f"extracted-{sha256_of_json(content)[:16]}.json"
        with replaced(path) as partial:
            partial.write_text(self.model_dump_json(), encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that `write` wrote."""
        return cls.model_validate_json(read_whole(path))

    def sessions_of(self, subject: int) -> tuple[SessionRecord, ...]:
        """Return the sessions of a subject (1-based)."""
        return tuple(record for record in self.sessions if record.subject == subject)


class AssemblyRecord(_Record):
    """An assembly that was written.

    Attributes
    ----------
    region : str
        Its name.
    file : Path
        Where it lies.
    sha256 : str
        Digest of the file.
    shape : tuple of int
        (n_images, n_neuroids).
    """

    region: str
    file: Path
    sha256: str
    shape: tuple[int, int]
