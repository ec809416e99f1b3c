"""An export: the files of a paper, made of single trials."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, get_args

from nsd_prep import __version__
from nsd_prep.core.atomic import write_text
from nsd_prep.core.digests import sha256_of_bytes
from nsd_prep.core.errors import MissingFilesError, ParameterError
from nsd_prep.core.parameters import Normalise, SpaceName
from nsd_prep.dataset.regions import BUILT_IN_REGIONS, RegionDefinition
from nsd_prep.dataset.space import FUNC1PT8MM
from nsd_prep.exports import algonauts2023, brain_diffuser, deepnsd, mindeye2
from nsd_prep.exports.labels import REGIONS_OF_LABELS
from nsd_prep.exports.record import ExportFolder
from nsd_prep.exports.source import TrialsFile

Like = Literal["mindeye2", "brain-diffuser", "algonauts2023", "deepnsd"]
LIKES: Final[tuple[Like, ...]] = get_args(Like)
#: Attributes of single trials that are the same in all files of an export.
_IN_COMMON: Final = (
    "dataset",
    "preparation",
    "space",
    "surface_files",
    "min_ncsnr",
    "min_noise_ceiling",
    "min_reliability",
)


class Needs(NamedTuple):
    """The single trials that an export is made of.

    Attributes
    ----------
    normalise : {"session", "none"}
        Their values.
    regions : mapping of str to RegionDefinition
        Their regions; a subject, or a space, may lack some.
    space : str
        Where they lie.
    """

    normalise: Normalise
    regions: Mapping[str, RegionDefinition]
    space: SpaceName = FUNC1PT8MM

    def require_space(self, like: str, space: str) -> None:
        """Raise a ParameterError where responses lie in another space than an export's."""
        if space != self.space:
            raise ParameterError(
                f"The export {like} needs responses in the space {self.space}, found {space}: "
                "open the dataset in that space."
            )


_NSDGENERAL: Final = {"nsdgeneral": BUILT_IN_REGIONS["nsdgeneral"]}
NEEDS: Final[Mapping[Like, Needs]] = MappingProxyType(
    {
        "mindeye2": Needs("session", _NSDGENERAL),
        "brain-diffuser": Needs("none", _NSDGENERAL),
        "algonauts2023": Needs("none", _NSDGENERAL | dict(REGIONS_OF_LABELS), "fsaverage"),
        "deepnsd": Needs("session", dict(REGIONS_OF_LABELS)),
    }
)


def require_like(like: str) -> None:
    """Raise a ParameterError where there is no such export."""
    if like not in LIKES:
        raise ParameterError(
            f"There is no export like {like!r}: give one of {', '.join(LIKES)} with like=."
        )


def is_trials(path: Path) -> bool:
    """Return whether a path is single trials, or a folder that holds some."""
    return path.is_file() or path.suffix == ".zarr" or bool(_files_of(path))


def _files_of(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.glob("subj[0-9][0-9].*") if path.suffix in (".nc", ".zarr")
    )


def export_trials(
    trials: str | Path | Sequence[str | Path],
    target: str | Path,
    like: Like,
    *,
    images: str | Path | None = None,
) -> list[Path]:
    """Write the files of a paper from single trials; what is there already is not made again.

    Parameters
    ----------
    trials : str, Path, or sequence of these
        Files or Zarr stores of single trials, a subject each, or a folder of them: of all images,
        and not averaged.
    target : str or Path
        A folder, for this export alone. Its ``README.md`` says how the files are made, and
        ``manifest.json`` lists them.
    like : {"mindeye2", "brain-diffuser", "algonauts2023", "deepnsd"}
        Whose files.
    images : str or Path, optional
        ``nsd_stimuli.hdf5``, for the images that brain-diffuser reads.

    Returns
    -------
    list of Path
        All files of the export.

    Raises
    ------
    ParameterError
        There is no such export, or the trials or the folder are not fit for it.
    MissingFilesError, InputFileError, OSError
        The trials are not there, or hold something else.
    OutputError
        The disk is full or cannot be written.
    """
    require_like(like)
    chosen = [trials] if isinstance(trials, str | Path) else list(trials)
    paths = [
        file
        for path in map(Path, chosen)
        for file in (_files_of(path) if path.is_dir() and path.suffix != ".zarr" else [path])
    ]
    if not paths:
        raise MissingFilesError(
            f"There are no single trials in {', '.join(map(str, chosen))}: expected files like "
            "subj01.nc, as nsd-prep trials writes them."
        )
    images_file = None if images is None else Path(images)
    with ExitStack() as stack:
        subjects = [stack.enter_context(TrialsFile(path)) for path in paths]
        subjects.sort(key=lambda subject: subject.subject)
        numbers = [subject.subject for subject in subjects]
        if len(set(numbers)) < len(numbers):
            raise ParameterError(
                f"The single trials {', '.join(str(subject.path) for subject in subjects)} are of "
                f"the subjects {', '.join(map(str, numbers))}: give one file for each subject."
            )
        for subject in subjects:
            subject.require(like, NEEDS[like].normalise, NEEDS[like].space)
        folder = ExportFolder(Path(target), like, _made_from(subjects))
        text = _write(folder, like, subjects, images_file)
        readme = _readme(like, text, subjects)
        folder.write(
            ["README.md"],
            sha256_of_bytes(readme.encode()),
            lambda: write_text(folder.path / "README.md", readme),
        )
        return folder.files()


def _made_from(subjects: Sequence[TrialsFile]) -> dict[str, Any]:
    """Return the attributes that single trials of one export have in common."""
    facts = [
        {name: trials.attributes[name] for name in _IN_COMMON if name in trials.attributes}
        for trials in subjects
    ]
    if any(own != facts[0] for own in facts):
        raise ParameterError(
            f"The single trials {', '.join(str(trials.path) for trials in subjects)} cannot be "
            f"exported together: expected the same {', '.join(_IN_COMMON)}; export them into "
            "folders of their own."
        )
    made_from: dict[str, Any] = json.loads(json.dumps(facts[0], default=float))
    return made_from


def _write(
    folder: ExportFolder, like: Like, subjects: Sequence[TrialsFile], images: Path | None
) -> str:
    """Write the files, and return what there is to say of them."""
    if like == "deepnsd":
        deepnsd.write(folder, subjects)
        return deepnsd.README
    for trials in subjects:
        if like == "mindeye2":
            mindeye2.write(folder, trials)
        elif like == "brain-diffuser":
            brain_diffuser.write(folder, trials, images)
        else:
            algonauts2023.write(folder, trials)
    if like == "brain-diffuser":
        said = "" if images else brain_diffuser.NO_IMAGES
        text = brain_diffuser.README.replace("{images}", said).rstrip() + "\n"
        return text.replace("{test_images}", brain_diffuser.counts_of_test_images(subjects))
    if like == "algonauts2023":
        files = subjects[0].attributes.get("surface_files", "")
        return algonauts2023.README.replace("{betas}", algonauts2023.BETAS[files])
    return mindeye2.README


def _readme(like: Like, text: str, subjects: Sequence[TrialsFile]) -> str:
    text = text.replace("{trials}", f"{subjects[0].trials_per_session:,}")
    lines = [f"# Responses as {like} reads them", "", text]
    lines += [f"Made by nsd-prep {__version__} from single trials:", ""]
    for trials in subjects:
        facts = trials.attributes
        lines.append(
            f"- subject {trials.subject}: {facts.get('dataset', 'unknown dataset')}, "
            f"{facts.get('preparation', 'unknown preparation')}, {len(trials.trials)} trials, "
            f"{len(trials.sites)} {'vertices' if 'vertices' in facts else 'voxels'}"
            + "".join(f", {name} {facts[name]:g}" for name in sorted(facts) if "min_" in name)
        )
    return "\n".join(lines) + "\n"
