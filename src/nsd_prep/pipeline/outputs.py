"""Where everything lies in an output folder."""

import re
from typing import Final

from nsd_prep.core.digests import digest_of_bytes, read_whole
from nsd_prep.core.records import Folder
from nsd_prep.report.stamp import without_stamp

TRIALS: Final = "trials.csv"
SPLIT: Final = "train_test_split.csv"
VOXELS: Final = "voxels.csv"
NOISE_CEILINGS: Final = "noise_ceilings.csv"
CHECKS: Final = "checks.csv"
SESSIONS: Final = "sessions.csv"
RELIABILITY: Final = "reliability.csv"
MANIFEST: Final = "manifest.json"
REPORT: Final = "report"
PAGE: Final = f"{REPORT}/index.html"
SINGLE_TRIALS: Final = "trials"
BRAINSCORE: Final = "brainscore"
#: Folders that runs write.
FOLDERS: Final = (REPORT, BRAINSCORE, SINGLE_TRIALS)


#: The page of a report, also of one that was kept under the identifier of its run.
_A_PAGE: Final = re.compile(rf"({SINGLE_TRIALS}/)?{REPORT}(-[0-9a-f]{{8}})?/index\.html")


class OutputFolder(Folder):
    """The folder that a run writes into."""

    def digest_of(self, name: str, like: str = "") -> str:
        """Return the digest of a file; of a report's page without its date and run."""
        if not _A_PAGE.fullmatch(name):
            return super().digest_of(name, like)
        return digest_of_bytes(without_stamp(read_whole(self.path / name)), like)
