"""The methods of a run, in sentences that could stand in a paper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from nsd_prep.core.counts import TIMES, counted
from nsd_prep.core.nouns import Noun
from nsd_prep.dataset.published import BETA_SCALE, RELIABLE_NOISE_CEILING, REPETITIONS
from nsd_prep.dataset.space import (
    FSAVERAGE,
    FUNC1MM,
    FUNC1PT8MM,
    NATIVESURFACE,
    SURFACES,
    noun_of,
)

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
    space : str
        Where responses lie.
    surface_files : str
        On fsaverage, what betas are taken from: native or mgh.
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
    space: str = FUNC1PT8MM
    surface_files: str = ""

    @property
    def is_surface(self) -> bool:
        """Whether responses are those of vertices."""
        return self.space in SURFACES

    @property
    def noun(self) -> Noun:
        """What places with a response are called."""
        return noun_of(self.space)

    @property
    def site(self) -> str:
        """What one of them is called."""
        return self.noun.singular

    @property
    def sites(self) -> str:
        """What several of them are called."""
        return self.noun.plural


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
    gaps = "NaN, and 0 in train and test" if facts.is_surface else "0"
    n_sessions, n_read = sum(facts.sessions.values()), sum(facts.sessions_read.values())
    return {
        "Dataset": facts.dataset + ("" if facts.is_nsd else " (not NSD itself)"),
        "Betas": facts.preparation,
        "Subjects": listed([str(subject) for subject in facts.sessions]),
        "Sessions": f"{n_read} read of {n_sessions}"
        + ("; the others hold no trial that is used" if n_read < n_sessions else ""),
        **({} if facts.space == FUNC1PT8MM else {"Space": _space(facts)}),
        "Normalisation": f"z-score of each {facts.site} over the {facts.trials_per_session} trials "
        "of a session (population SD)",
        "Images": f"{facts.images:,} of {facts.shared_images:,} shared images, seen "
        f"{TIMES[REPETITIONS]} by {'every' if len(facts.sessions) > 1 else 'the'} subject; mean "
        "over repetitions",
        "Split": f"{facts.train_images} train, {facts.images - facts.train_images} test "
        f"(seed {facts.seed}, train fraction {facts.train_fraction:g})",
        "Regions": "\n".join(
            f"{name}: {counted(facts.voxels[name], facts.site, facts.sites)} ({definition})"
            f"{_lacking(facts.subjects_without.get(name, ()), '; not found in ')}"
            for name, definition in facts.regions.items()
        ),
        f"{facts.sites.capitalize()} without data in a session": (
            f"kept; their responses there are {gaps}"
            if facts.invalid_voxels == "keep"
            else "left out"
        ),
        "Noise ceiling": f"100 · ncsnr² / (ncsnr² + 1/{REPETITIONS}) percent; reliable above "
        f"{RELIABLE_NOISE_CEILING:g}%",
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


def references(facts: RunFacts) -> tuple[str, ...]:
    """Return what the page of a run cites."""
    cited = [ALLEN_2022, EFRON_1993, KRIEGESKORTE_2008, NILI_2014]
    if len(facts.sessions) == 1:
        cited.remove(NILI_2014)  # of the agreement between subjects
        if len(facts.regions) == 1:
            cited.remove(EFRON_1993)  # of any agreement
    return tuple(cited)


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
    labels = "atlas" if facts.is_surface else "ROI volume"
    taken_from = "vertex labels" if facts.is_surface else "ROI volumes"
    sessions = sorted(set(facts.sessions.values()))
    span = counted(sessions[-1], "session")
    if len(sessions) > 1:
        span = f"{sessions[0]} to {span}"
    regions = "; ".join(
        f"{name} ({labels} and labels: {definition}; "
        f"{counted(facts.voxels[name], facts.site, facts.sites)})"
        for name, definition in facts.regions.items()
    )
    return (
        f"{source}: single-trial betas of the preparation {facts.preparation} {_space(facts)}, "
        f"{plural} {subjects}, {span} of {facts.trials_per_session} trials "
        f"for each. Regions of interest were taken from the {taken_from} of the dataset: "
        f"{regions}{', summed over subjects' * (len(facts.sessions) > 1)}.{_missing_regions(facts)}"
    )


def _space(facts: RunFacts) -> str:
    """Return where responses lie, and what they were taken from, in words."""
    native = "in the native surface space of each subject"
    if facts.space == FSAVERAGE and facts.surface_files == "native":
        return (
            "on the surface fsaverage (betas of each subject's own surface, taken to fsaverage by "
            "the nearest vertex)"
        )
    return {
        FUNC1PT8MM: "in the functional 1.8-mm space",
        FUNC1MM: "in the functional 1-mm space",
        FSAVERAGE: "on the surface fsaverage",
        NATIVESURFACE: native,
    }[facts.space]


def _missing_regions(facts: RunFacts) -> str:
    """Return a sentence for each region that a subject lacks, with a space before it."""
    sentences = []
    for name, subjects in facts.subjects_without.items():
        they_are = "this subject is" if len(subjects) == 1 else "these subjects are"
        left_out = f"; {they_are} not included in analyses of that region."
        sentences.append(_lacking(subjects, f" {name} was not found in ", left_out))
    return "".join(sentences)


def _lacking(subjects: Sequence[int], before: str, after: str = "") -> str:
    """Return the subjects who lack a region, between two texts; nothing where none does."""
    noun = "subject" if len(subjects) == 1 else "subjects"
    return f"{before}{noun} {listed([*map(str, subjects)])}{after}" if subjects else ""


def _responses(facts: RunFacts) -> str:
    if facts.invalid_voxels == "keep" and facts.is_surface:
        invalid = (
            "a vertex without data in a session was left out of means over repetitions there "
            f"({facts.voxel_sessions_without_data:,} vertex-sessions)"
        )
    elif facts.invalid_voxels == "keep":
        invalid = (
            "a voxel without variance within a session has a response of 0 to the trials of that "
            f"session ({facts.voxel_sessions_without_data:,} voxel-sessions)"
        )
    else:
        invalid = f"{facts.sites} without variance within one of the sessions used were left out"
    n_test = facts.images - facts.train_images
    converted = f"were converted to percent signal change (divided by {BETA_SCALE}) and"
    if facts.surface_files == "mgh":
        converted = "are percent signal change;"
    saw = "each of these subjects saw" if len(facts.sessions) > 1 else "the subject saw"
    precision = "double" if facts.is_surface else "single"
    return (
        f"Betas {converted} each {facts.site}'s "
        f"were z-scored within each session, over all of its {facts.trials_per_session} trials "
        f"(population standard deviation, {precision} precision); {invalid}. Of the "
        f"{facts.shared_images:,} images that are shared by all subjects of the dataset we kept "
        f"the {facts.images:,} that {saw} {TIMES[REPETITIONS]}, and "
        f"averaged the {REPETITIONS} z-scored responses of each {facts.site} to each image. Images "
        f"were split at random into {facts.train_images:,} for training and {n_test:,} for testing "
        f"(NumPy RandomState, seed {facts.seed})."
    )


def _ceilings(facts: RunFacts) -> str:
    counts = "; ".join(f"{name} {number:,}" for name, number in facts.voxels.items())
    return (
        f"The noise ceiling of a {facts.site}, in percent of the variance of its averaged "
        f"responses, is NC = 100 · ncsnr² / (ncsnr² + 1/{REPETITIONS}), with ncsnr the noise "
        "ceiling signal-to-noise ratio distributed with the dataset (Allen et al., 2022) and "
        f"{REPETITIONS} the number of repetitions averaged; {facts.sites} without an ncsnr have "
        f"a noise ceiling of 0. {facts.sites.capitalize()} with a noise ceiling above "
        f"{RELIABLE_NOISE_CEILING:g}% are called reliable. "
        f"No {facts.site} was excluded by its noise ceiling ({facts.sites}: {counts})."
    )


def _analysis(facts: RunFacts) -> str:
    software = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    several, mean = len(facts.sessions) > 1, "mean " * (len(facts.sessions) > 1)
    agreements = []
    if len(facts.regions) > 1:
        agreements.append(f"between regions is Pearson r between their {mean}RDMs")
    if several:
        agreements.append(
            f"between subjects {'is ' * (not agreements)}Pearson r between their RDMs in a region, "
            "averaged over pairs of subjects"
        )
    agreement = (
        f" Agreement {', agreement '.join(agreements)}, each over all pairs of images (triangle "
        f"without the diagonal), with all {facts.sites} and with reliable {facts.sites} only; 95% "
        "intervals are those of the jackknife on Fisher's z (Efron & Tibshirani, 1993)."
        if agreements
        else ""
    )
    return (
        "For each subject and region a representational dissimilarity matrix (RDM; Kriegeskorte et "
        "al., 2008) holds 1 - Pearson r between the response patterns of each pair of the "
        f"{facts.images:,} images{'; RDMs were averaged over subjects' * several}.{agreement} "
        f"Images were ordered by hierarchical clustering of the {mean}RDM with average linkage. "
        f"Software: {software}."
    )


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence: ``V1, V2 and IT``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
