"""The encoding baseline of a run, for its report.

Not one of `nsd_prep.stages` itself: what it imports takes seconds, and only a report needs it.
"""

from nsd_prep.analysis.style import picture
from nsd_prep.brainscore.encoding import (
    Features,
    draw_encoding,
    latent_features,
    read_features,
    score_encoding,
    summarise_encoding,
)
from nsd_prep.report.record import Section, Table
from nsd_prep.run import Run
from nsd_prep.stages.brainscore import read_train_and_test
from nsd_prep.synthetic import read_truth


def encoding_sections(run: Run) -> list[Section]:
    """Score a ridge regression from the images' features to the test assembly.

    Parameters
    ----------
    run : Run
        A run whose train and test assemblies are written.

    Returns
    -------
    list of Section
        One for the report; none where there are no features: neither a file of the user's, nor
        the latents of a synthetic dataset.
    """
    features = _features(run)
    if features is None:
        return []
    assemblies = read_train_and_test(run)
    scores = score_encoding(assemblies.train, assemblies.test, features)
    of = f"the features of {run.features}" if run.features else "the synthetic latents"
    caption = "Fraction of the noise ceiling that a ridge regression reaches, reliable voxels."
    return [
        Section(
            name="encoding",
            title="Encoding baseline",
            text=f"Ridge regression from {of} to the train assembly, scored on the test assembly. "
            "A model that knows all that drives the voxels comes close to 1.",
            pictures=(picture(draw_encoding(scores), "encoding", "Encoding baseline", caption),),
            tables=(Table("Medians over reliable voxels.", summarise_encoding(scores)),),
            files={"encoding": scores},
        )
    ]


def _features(run: Run) -> dict[int, Features] | None:
    if run.features:
        return dict.fromkeys(run.subjects, read_features(run.features))
    if (run.nsd_root / "truth").is_dir():
        truth = read_truth(run.nsd_root)
        return {subject: latent_features(truth, subject) for subject in run.subjects}
    return None
