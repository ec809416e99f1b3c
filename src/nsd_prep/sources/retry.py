"""When a request that failed is tried again, and what is said when it is not."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from obstore.exceptions import (
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from nsd_prep.core.errors import (
    ChangedFileError,
    InputFileError,
    MissingFilesError,
    RemoteFaultError,
)

#: A request is tried so often; the pauses grow from the first to the last, in seconds, each drawn
#: between half of it and the whole.
ATTEMPTS: Final = 8
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0

_Answer = TypeVar("_Answer")


class ShortAnswerError(Exception):
    """An answer has another length than was asked for."""


@dataclass(frozen=True)
class Deadline:
    """A point in time after which nothing is tried any more.

    Attributes
    ----------
    seconds : float
        From now on.
    """

    seconds: float
    _begun: float = field(default_factory=time.monotonic)

    @property
    def remaining(self) -> float:
        """Seconds that are left; negative when it has passed."""
        return self._begun + self.seconds - time.monotonic()


def attempt(
    url: str,
    request: Callable[[], _Answer],
    *,
    deadline: Deadline,
    attempts: int = ATTEMPTS,
    on_failure: Callable[[Exception], None] = lambda _: None,
) -> _Answer:
    """Return what a request gives, tried again with growing pauses while its faults may pass.

    Parameters
    ----------
    url : str
        For messages.
    request : callable
        Makes the request, and raises `ShortAnswerError` or obstore's errors.
    deadline : Deadline
        Nothing is tried after it.
    attempts : int
        Nor more often than this.
    on_failure : callable
        Is given each error that may pass.

    Returns
    -------
    object
        The answer.

    Raises
    ------
    RemoteFaultError
        No attempt succeeded.
    ChangedFileError
        The file is not the one whose size and ETag were looked up.
    MissingFilesError
        The server says that there is no such file, or that it may not be read.
    InputFileError
        The server does not answer ranges.
    """
    for count in range(1, attempts + 1):
        try:
            return request()
        except (ChangedFileError, MissingFilesError):
            raise
        except FileNotFoundError as error:
            raise MissingFilesError(
                f"{url} is missing (404 Not Found): check the address, and that the file is there."
            ) from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise MissingFilesError(
                f"{url} may not be read ({_status(error)}): it is missing, or not for everyone; "
                "check the address, and the credentials where some are needed."
            ) from error
        except PreconditionError as error:
            raise changed(url) from error
        except NotSupportedError as error:
            raise InputFileError(
                f"{url} cannot be read in ranges: its server gives the whole file where a range is "
                "asked for; use another server, or download the files and give their folder."
            ) from error
        except (BaseError, OSError, ShortAnswerError) as error:
            on_failure(error)
            pause = min(_FIRST_PAUSE * 2 ** (count - 1), _LONGEST_PAUSE)
            pause *= random.uniform(0.5, 1)
            if count == attempts or deadline.remaining < pause:
                spent = deadline.seconds - deadline.remaining
                raise RemoteFaultError(
                    f"{url} could not be read in {count} attempts, {spent:.0f} s after the first "
                    f"request for it ({_status(error)}): check the network and run the same "
                    "command again; what is extracted is kept."
                ) from error
            time.sleep(pause)
    raise AssertionError(attempts)


def changed(url: str) -> ChangedFileError:
    """Return the error for a file that is not the one that was looked up."""
    return ChangedFileError(
        f"{url} was changed since its size and ETag were looked up: expected the same file "
        "throughout a run; run the same command again."
    )


def is_overload(error: Exception) -> bool:
    """Return whether an error means that fewer requests at once would fare better."""
    text = str(error)
    return any(sign in text for sign in (" 503 ", " 429 ", " 500 ", "timed out", "TimedOut"))


def _status(error: Exception) -> str:
    """Return the first line of an error, without the address that obstore repeats in it."""
    line = str(error).partition("\n")[0].strip() or type(error).__name__
    return line.rpartition(" - ")[2].rpartition("status code: ")[2].rstrip(": ")
