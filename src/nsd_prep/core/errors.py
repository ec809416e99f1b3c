"""Errors: what a user can act on, and faults of the network."""

from collections.abc import Sequence


class NSDPrepError(Exception):
    """Anything that a second try with the same inputs would not mend."""


class ParameterError(NSDPrepError, ValueError):
    """A parameter of the run is not possible: an unknown region, subject 9, a bad seed."""


class InputFileError(NSDPrepError, ValueError):
    """A file of the dataset is there and is not what it should be."""


class MissingFilesError(NSDPrepError, FileNotFoundError):
    """Files that the run needs are not there."""

    def __str__(self) -> str:
        """Return the message alone: FileNotFoundError would look for an errno in it."""
        return str(self.args[0])


class OutputError(NSDPrepError, OSError):
    """A file cannot be written: no space, no permission."""

    def __str__(self) -> str:
        """Return the message alone: OSError would look for an errno in it."""
        return str(self.args[0])


class SeveralProblemsError(NSDPrepError):
    """Problems that were looked for to the end, so that all can be said at once.

    Parameters
    ----------
    problems : sequence of str
        One sentence each.
    """

    heading = "problems"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(tuple(problems))

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems, a sentence each."""
        problems: tuple[str, ...] = self.args[0]
        return problems

    def __str__(self) -> str:
        """Return all the problems, a line each."""
        if len(self.problems) == 1:
            return self.problems[0]
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        return f"{len(self.problems)} {self.heading}:\n{lines}"

    def __reduce__(self) -> tuple[type, tuple[tuple[str, ...]]]:
        """Pickle by the problems: errors travel between worker processes."""
        return type(self), (self.problems,)


class PreflightError(SeveralProblemsError):
    """What preflight found wrong with the inputs, all of it."""

    heading = "problems with the inputs"


class ExtractionError(SeveralProblemsError):
    """The sessions that could not be extracted; all the others are, and stay in the cache."""

    heading = "sessions could not be extracted (the others are, and stay in the cache)"


class ExtractionFaultError(OSError):
    """Sessions that could not be extracted, some because of a fault that may pass.

    Parameters
    ----------
    problems : sequence of str
        One sentence each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problems))

    def __reduce__(self) -> tuple[type, tuple[tuple[str, ...]]]:
        """Pickle by the problems: errors travel between worker processes."""
        return type(self), (self.problems,)


class FailedChecksError(SeveralProblemsError):
    """The checks that failed; the assemblies and all that helps to see why are written."""

    heading = "checks failed (the files are written; checks.csv holds all the checks)"


class RemoteFaultError(OSError):
    """A server does not answer, or not as it should; a second try may succeed."""

    def __str__(self) -> str:
        """Return the message alone: OSError would look for an errno in it."""
        return str(self.args[0])


class NotRequestedError(RemoteFaultError):
    """A server did not answer for so long that nothing is requested of it any more."""


class ChangedFileError(RemoteFaultError):
    """A remote file is another one than when its size and ETag were looked up."""
