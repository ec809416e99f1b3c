"""The methods of a run, in sentences that could stand in a paper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from nsd_prep.dataset.published import BETA_SCALE, RELIABLE_NOISE_CEILING, REPETITIONS

#: The data set's paper.
ALLEN_2022: Final = (
    "Allen, E. J., St-Yves, G., Wu, Y., Breedlove, J. L., Prince, J. S., Dowdle, L. T., Nau, M., "
    "Caron, B., Pestilli, F., Charest, I., Hutchinson, J. B., Naselaris, T., & Kay, K. (2022). A "
    "massive 7T fMRI dataset to bridge cognitive neuroscience and artificial intelligence. Nature "
    "Neuroscience, 25, 116-126. https://doi.org/10.1038/s41593-021-00962-x"
)
EFRON_1993: Final = (
    "Efron, B., & Tibshirani, R. J. (1993). An introduction to the bootstrap. Chapman & Hall."
)
KRIEGESKORTE_2008: Final = (
    "Kriegeskorte, N., Mur, M., & Bandettini, P. (2008). Representational similarity analysis - "
    "connecting the branches of systems neuroscience. Frontiers in Systems Neuroscience, 2, 4. "
    "https://doi.org/10.3389/neuro.06.004.2008"
)
NILI_2014: Final = (
    "Nili, H., Wingfield, C., Walther, A., Su, L., Marslen-Wilson, W., & Kriegeskorte, N. (2014). "
    "A toolbox for representational similarity analysis. PLoS Computational Biology, 10, e1003553. "
    "https://doi.org/10.1371/journal.pcbi.1003553"
)


@dataclass(frozen=True)
class RunFacts:
    """What a run did, as far as its methods depend on it.

    Attributes
    ----------
    dataset : str
        The dataset's name.
    is_nsd : bool
        Whether it is NSD itself.
    preparation : str
        Folder name of the betas' preparation.
    trials_per_session : int
        Over which z-scores are taken.
    sessions : mapping of int to int
        For each subject (1-based, in the order of the run) how many sessions the dataset holds.
    sessions_read : mapping of int to int
        For each subject how many of them hold a usable trial, and were read.
    shared_images, images : int
        Images that the subjects share, and those that each subject saw three times.
    train_images : int
        How many of `images` are for training.
    regions : mapping of str to str
        For each region its definition in one line.
    voxels : mapping of str to int
        For each region its voxels in all subjects.
    voxel_sessions_without_data : int
        How often a voxel was constant within a session, over all voxels and sessions read.
    invalid_voxels : {"keep", "drop"}
        Whether voxels without data in some session were kept.
    seed : int
        Of the split.
    train_fraction : float
        Of the split.
    versions : mapping of str to str
        Software and versions.
    subjects_without : mapping of str to sequence of int
        The subjects (1-based) who lack a region, of each region that one of them lacks.
    """

    dataset: str
    is_nsd: bool
    preparation: str
    trials_per_session: int
    sessions: Mapping[int, int]
    sessions_read: Mapping[int, int]
    shared_images: int
    images: int
    train_images: int
    regions: Mapping[str, str]
    voxels: Mapping[str, int]
    voxel_sessions_without_data: int
    invalid_voxels: Literal["keep", "drop"]
    seed: int
    train_fraction: float
    versions: Mapping[str, str]
    subjects_without: Mapping[str, Sequence[int]] = field(default_factory=dict)


def facts_table(facts: RunFacts) -> dict[str, str]:
    """Return what was run on what, as names and values.

    Parameters
    ----------
    facts : RunFacts
        The run.

    Returns
    -------
    dict of str to str
        In the order of a table.
    """
    n_sessions, n_read = sum(facts.sessions.values()), sum(facts.sessions_read.values())
    return {
        "Dataset": facts.dataset + ("" if facts.is_nsd else " (not NSD itself)"),
        "Betas": facts.preparation,
        "Subjects": listed([str(subject) for subject in facts.sessions]),
        "Sessions": f"{n_read} read of {n_sessions}; the others hold no trial that is used",
        "Normalisation": f"z-score of each voxel over the {facts.trials_per_session} trials of a "
        "session (population SD)",
        "Images": f"{facts.images:,} of {facts.shared_images:,} shared images, seen {REPETITIONS} "
        "times by every subject; mean over repetitions",
        "Split": f"{facts.train_images} train, {facts.images - facts.train_images} test "
        f"(seed {facts.seed}, train fraction {facts.train_fraction:g})",
        "Regions": "\n".join(
            f"{name}: {facts.voxels[name]:,} voxels ({definition})"
            f"{_lacking(facts.subjects_without.get(name, ()), '; not found in ')}"
            for name, definition in facts.regions.items()
        ),
        "Voxels without data in a session": "kept; their responses there are 0"
        if facts.invalid_voxels == "keep"
        else "left out",
        "Noise ceiling": f"100 · ncsnr² / (ncsnr² + 1/{REPETITIONS}) percent; reliable above "
        f"{RELIABLE_NOISE_CEILING:g} %",
        "Software": ", ".join(f"{name} {version}" for name, version in facts.versions.items()),
    }


def methods(facts: RunFacts) -> tuple[str, ...]:
    """Describe what a run did.

    Parameters
    ----------
    facts : RunFacts
        The run.

    Returns
    -------
    tuple of str
        Paragraphs: data, responses, noise ceilings, and representational analysis.
    """
    return (_data(facts), _responses(facts), _ceilings(facts), _analysis(facts))


def references() -> tuple[str, ...]:
    """Return what `methods` cites."""
    return (ALLEN_2022, EFRON_1993, KRIEGESKORTE_2008, NILI_2014)


def _data(facts: RunFacts) -> str:
    subjects = listed([str(subject) for subject in facts.sessions])
    plural = "subjects" if len(facts.sessions) > 1 else "subject"
    if facts.is_nsd:
        source = "We used the Natural Scenes Dataset (NSD; Allen et al., 2022)"
    else:
        source = (
            f"We used the dataset {facts.dataset}, which is in the file formats of the Natural "
            "Scenes Dataset (NSD; Allen et al., 2022)"
        )
    sessions = sorted(set(facts.sessions.values()))
    span = f"{sessions[0]}" if len(sessions) == 1 else f"{sessions[0]} to {sessions[-1]}"
    regions = "; ".join(
        f"{name} (ROI volume and labels: {definition}; {facts.voxels[name]:,} voxels)"
        for name, definition in facts.regions.items()
    )
    return (
        f"{source}: single-trial betas of the preparation {facts.preparation} in the functional "
        f"1.8-mm space, {plural} {subjects}, {span} sessions of {facts.trials_per_session} trials "
        f"for each. Regions of interest were taken from the ROI volumes of the dataset: "
        f"{regions}{', summed over subjects' * (len(facts.sessions) > 1)}.{_missing_regions(facts)}"
    )


def _missing_regions(facts: RunFacts) -> str:
    """Return a sentence for each region that a subject lacks, with a space before it."""
    return "".join(
        _lacking(subjects, f" {name} was not found in ", ", who entered its analyses nowhere.")
        for name, subjects in facts.subjects_without.items()
    )


def _lacking(subjects: Sequence[int], before: str, after: str = "") -> str:
    """Return the subjects who lack a region, between two texts; nothing where none does."""
    noun = "subject" if len(subjects) == 1 else "subjects"
    return f"{before}{noun} {listed([*map(str, subjects)])}{after}" if subjects else ""


def _responses(facts: RunFacts) -> str:
    if facts.invalid_voxels == "keep":
        invalid = (
            "a voxel without variance within a session has a response of 0 to the trials of that "
            f"session ({facts.voxel_sessions_without_data:,} voxel-sessions)"
        )
    else:
        invalid = "voxels without variance within one of the sessions used were left out"
    n_test = facts.images - facts.train_images
    return (
        f"Betas were converted to percent signal change (divided by {BETA_SCALE}) and each voxel's "
        f"were z-scored within each session, over all of its {facts.trials_per_session} trials "
        f"(population standard deviation, single precision); {invalid}. Of the "
        f"{facts.shared_images:,} images that are shared by all subjects of the dataset we kept "
        f"the {facts.images:,} that every one of these subjects saw {REPETITIONS} times, and "
        f"averaged the {REPETITIONS} z-scored responses of each voxel to each image. Images were "
        f"split at random into {facts.train_images:,} for training and {n_test:,} for testing "
        f"(NumPy RandomState, seed {facts.seed})."
    )


def _ceilings(facts: RunFacts) -> str:
    counts = "; ".join(f"{name} {number:,}" for name, number in facts.voxels.items())
    return (
        "The noise ceiling of a voxel, in percent of the variance of its averaged responses, is NC "
        f"= 100 · ncsnr² / (ncsnr² + 1/{REPETITIONS}), with ncsnr the noise ceiling "
        "signal-to-noise ratio distributed with the dataset (Allen et al., 2022) and "
        f"{REPETITIONS} the number of repetitions averaged; voxels without an ncsnr have a noise "
        f"ceiling of 0. Voxels with a noise ceiling above {RELIABLE_NOISE_CEILING:g} % are called "
        f"reliable. No voxel was excluded by its noise ceiling (voxels: {counts})."
    )


def _analysis(facts: RunFacts) -> str:
    software = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    several = len(facts.sessions) > 1
    averaged = (
        "; RDMs were averaged over subjects. Agreement between regions is Pearson r between their "
        "mean RDMs, agreement between subjects Pearson r between their RDMs in a region, averaged "
        "over pairs of subjects"
        if several
        else ". Agreement between regions is Pearson r between their RDMs"
    )
    return (
        "For each subject and region a representational dissimilarity matrix (RDM; Kriegeskorte et "
        "al., 2008) holds 1 - Pearson r between the response patterns of each pair of the "
        f"{facts.images:,} images{averaged}, each over all pairs of images (triangle without the "
        "diagonal), with all voxels and with reliable voxels only; 95 % intervals are those of the "
        "jackknife on Fisher's z (Efron & Tibshirani, 1993). Images were ordered by hierarchical "
        f"clustering of the {'mean ' * several}RDM with average linkage. Software: {software}."
    )


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence: ``V1, V2 and IT``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
