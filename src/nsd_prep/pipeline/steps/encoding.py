"""What the encoding baseline of a report is fitted with and to."""

from dataclasses import dataclass
from pathlib import Path

from nsd_prep.core.digests import sha256_of_bytes, sha256_of_json
from nsd_prep.core.records import FileRecord, StepOutput
from nsd_prep.dataset.layout import Dataset


@dataclass(frozen=True)
class Encoding:
    """What the encoding baseline is fitted with and to.

    Attributes
    ----------
    train_and_test : StepOutput
        The train and test assemblies.
    suffix : str
        Of their files.
    features : FileRecord or None
        The user's file of features.
    truth : Path or None
        Where the truth of a synthetic dataset lies, whose latents are features.
    truth_digest : str
        Of the truth's content.
    """

    train_and_test: StepOutput
    suffix: str
    features: FileRecord | None
    truth: Path | None
    truth_digest: str = ""

    @property
    def digest(self) -> str:
        """What stands for this in a cache key."""
        features = None if self.features is None else self.features.digest
        return sha256_of_json([self.train_and_test.digest, features, self.truth_digest])


def truth_and_digest(dataset: Dataset) -> tuple[Path | None, str]:
    """Return the root of a synthetic dataset, for `read_truth`, and the SHA-256 of its truth.

    None and "" for a dataset that is not synthetic.
    """
    if dataset.truth_folder is None:
        return None, ""
    dataset.source.fetch_files(dataset.truth_files)
    digests = [sha256_of_bytes(dataset.read(path)) for path in dataset.truth_files]
    return dataset.root, sha256_of_json(digests)
