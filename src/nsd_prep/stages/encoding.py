"""What the encoding baseline of a report is fitted with and to."""

from dataclasses import dataclass
from pathlib import Path

from nsd_prep.files import FileRecord, sha256_of_file, sha256_of_json
from nsd_prep.made import Made


@dataclass(frozen=True)
class Encoding:
    """What the encoding baseline is fitted with and to.

    Attributes
    ----------
    train_and_test : Made
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

    train_and_test: Made
    suffix: str
    features: FileRecord | None
    truth: Path | None
    truth_digest: str = ""

    @property
    def digest(self) -> str:
        """What stands for this in a cache key."""
        features = None if self.features is None else self.features.digest
        return sha256_of_json([self.train_and_test.digest, features, self.truth_digest])


def digest_of_truth(folder: Path) -> str:
    """Return the SHA-256 of the content of a synthetic dataset's truth."""
    files = sorted(folder.glob("*.npz"))
    return sha256_of_json([[file.name, sha256_of_file(file)] for file in files])
