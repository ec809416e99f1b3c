"""An export: the files of a paper, made of single trials."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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
from nsd_prep.exports.folder import README, ExportFolder, opened_export
from nsd_prep.exports.labels import REGIONS_OF_LABELS
from nsd_prep.exports.source import TrialsFile

Like = Literal["mindeye2", "brain-diffuser", "algonauts2023", "deepnsd"]
LIKES: Final[tuple[Like, ...]] = get_args(Like)
_LINE_OF_SUBJECT: Final = re.compile(r"^- subject (\d+): (.*)$", re.MULTILINE)
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
    return path.is_file() or path.suffix in (".nc", ".zarr") or bool(_files_of(path))


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
        There is no such export, the trials or the folder are not fit for it, or another export is
        writing into the folder.
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
    with opened_trials(paths, like) as subjects, opened_export(Path(target), like) as folder:
        return write_export(folder, like, subjects, images)


@contextmanager
def opened_trials(paths: Sequence[Path], like: Like) -> Iterator[list[TrialsFile]]:
    """Give the single trials of subjects, ascending, that are fit for an export.

    Raises
    ------
    ParameterError
        They are not fit for it, or two are of one subject.
    """
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
        _made_from(subjects)
        yield subjects


def write_export(
    folder: ExportFolder,
    like: Like,
    subjects: Sequence[TrialsFile],
    images: str | Path | None,
) -> list[Path]:
    """Write the files of an export into its folder, and return them all."""
    numbers = [trials.subject for trials in subjects]
    made_from = _made_from(subjects)
    _plan(folder, like, subjects, None if images is None else Path(images))
    folder.finish(made_from, numbers)
    readme = _readme(like, folder)
    folder.write(
        [README],
        sha256_of_bytes(readme.encode()),
        lambda: write_text(folder.path / README, readme),
    )
    folder.finish(made_from, numbers)
    return folder.files()


def _made_from(subjects: Sequence[TrialsFile]) -> dict[str, Any]:
    """Return the attributes that single trials of one export have in common."""
    facts = [
        {name: trials.attributes[name] for name in _IN_COMMON if name in trials.attributes}
        for trials in subjects
    ]
    designs = {trials.design for trials in subjects if trials.design is not None}
    if any(own != facts[0] for own in facts) or len(designs) > 1:
        raise ParameterError(
            f"The single trials {', '.join(str(trials.path) for trials in subjects)} cannot be "
            f"exported together: expected the same {', '.join(_IN_COMMON)} and design of the "
            "experiment; export them into folders of their own."
        )
    made_from: dict[str, Any] = json.loads(json.dumps(facts[0], default=float))
    return made_from


def _plan(
    folder: ExportFolder, like: Like, subjects: Sequence[TrialsFile], images: Path | None
) -> None:
    if like == "deepnsd":
        deepnsd.write(folder, subjects)
        return
    for trials in subjects:
        if like == "mindeye2":
            mindeye2.write(folder, trials)
        elif like == "brain-diffuser":
            brain_diffuser.write(folder, trials, images)
        else:
            algonauts2023.write(folder, trials)


def _readme(like: Like, folder: ExportFolder) -> str:
    """Return what there is to say of all files of a folder, whichever export wrote them."""
    files = {name: own for name, own in folder.names().items() if (folder.path / name).exists()}
    subjects = sorted(set().union(*files.values()))
    known = {n: folder.subjects[str(n)] for n in subjects if str(n) in folder.subjects}
    lines = [f"# Responses as {like} reads them", "", _text(like, files, known)]
    lines += [f"Made by nsd-prep {__version__} from single trials:", ""]
    said = dict(_LINE_OF_SUBJECT.findall(folder.readme()))
    for subject in subjects:
        facts = folder.subjects.get(str(subject))
        if facts is None:  # of a version that did not record it
            lines.append(f"- subject {subject}: {said.get(str(subject), 'by an earlier export')}")
        else:
            lines.append(f"- subject {subject}: {_description(facts)}")
    return "\n".join(lines) + "\n"


def _description(facts: Mapping[str, Any]) -> str:
    software = facts.get("software")
    return (
        f"{facts.get('dataset', 'unknown dataset')}, "
        f"{facts.get('preparation', 'unknown preparation')}, {facts.get('trials')} trials, "
        f"{facts.get('sites')} {facts.get('site', 'sites')}"
        + "".join(f", {name} {facts[name]:g}" for name in sorted(facts) if "min_" in name)
        + ("" if software == f"nsd-prep {__version__}" else f", by {software}")
    )


def _text(like: Like, files: Mapping[str, set[int]], known: Mapping[int, Mapping[str, Any]]) -> str:
    texts = {
        "mindeye2": mindeye2.README,
        "deepnsd": deepnsd.README,
        "algonauts2023": algonauts2023.README,
        "brain-diffuser": brain_diffuser.README,
    }
    facts = next(iter(known.values()))
    values = {
        "{trials}": f"{facts.get('trials_per_session', 750):,}",
        "{betas}": algonauts2023.BETAS[facts.get("surface_files", "")],
        "{images}": _without_images(files),
        "{test_images}": "; ".join(
            f"{own['test_images']:,} of the {own['shared_images']:,} that subject {number} saw"
            for number, own in known.items()
            if "test_images" in own
        ),
    }
    text = texts[like]
    for name, value in values.items():
        text = text.replace(name, value)
    return text.rstrip() + "\n"


def _without_images(files: Mapping[str, set[int]]) -> str:
    """Say for brain-diffuser of whom no images were written."""
    subjects = set().union(*files.values())
    without = subjects.difference(*(own for name, own in files.items() if "_stim_" in name))
    if without == subjects:
        return brain_diffuser.NO_IMAGES
    listed = ", ".join(f"subject {subject}" for subject in sorted(without))
    return brain_diffuser.NO_IMAGES_OF.replace("{subjects}", listed) if without else ""
