"""When a request that failed is tried again, and what is said when it is not.

Nothing else tries a request twice: obstore does not, and a task whose request failed here is not
run again by Prefect.
"""

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

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
    NotRequestedError,
    RemoteFaultError,
)

#: Seconds for which an address is tried again while it answers none of the requests for any of its
#: files: at first, and once it has answered.
FIRST_CONTACT_SECONDS: Final = 10.0
OUTAGE_SECONDS: Final = 60.0
#: Seconds after which one more request finds out whether an address answers again.
PROBE_SECONDS: Final = 30.0
#: While an address answers others, a request is tried so often; the pauses grow from the first to
#: the last, in seconds, each drawn between half of it and the whole.
ATTEMPTS: Final = 16
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
#: Statuses below 500 that may pass, and one above that does not.
_PASSING: Final = ("408", "425", "429")
_LASTING: Final = ("501", "511")

_KEPT: Final = "check the network and run the same command again; extracted sessions are kept"

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


class Budget:
    """The time for which an address may fail to answer, whichever of its files are asked for.

    When it is spent, nothing is tried again. Where it was spent on more than one file, every
    request fails at once, but for one now and then that finds out whether the address answers.
    """

    def __init__(self) -> None:
        self._has_answered = False
        self._failing_since: float | None = None
        self._last_failure = 0.0
        self._reason = ""
        self._urls: set[str] = set()
        self._probing = threading.Lock()

    def answered(self) -> None:
        """Note an answer, also one that says that a file is not there."""
        self._has_answered, self._failing_since = True, None
        self._urls.clear()

    def failed(self, url: str, reason: str) -> None:
        """Note that there was no answer, and why."""
        self._urls.add(url)
        self._reason, self._last_failure = reason, time.monotonic()
        if self._failing_since is None:
            self._failing_since = self._last_failure

    @property
    def silence(self) -> float:
        """Seconds since the first failure that no answer followed."""
        since = self._failing_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def is_spent(self) -> bool:
        """Whether nothing is tried again."""
        return self.silence > (OUTAGE_SECONDS if self._has_answered else FIRST_CONTACT_SECONDS)

    @property
    def _is_given_up(self) -> bool:
        return self.is_spent and len(self._urls) > 1

    @contextmanager
    def turn(self, url: str) -> Iterator[None]:
        """Let a request be made; where there is no hope for it, raise `NotRequestedError`."""
        if not self._is_given_up:
            yield
            return
        with self._probing:  # the others wait for what one finds out
            if self._is_given_up and time.monotonic() - self._last_failure < PROBE_SECONDS:
                raise NotRequestedError(
                    f"{url} and the files after it were not requested: the server has not "
                    f"responded for {self.silence:.0f} s ({self._reason}); {_KEPT}."
                )
            yield


def attempt(
    url: str,
    request: Callable[[], _Answer],
    *,
    deadline: Deadline,
    budget: Budget,
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
    budget : Budget
        Of the address: nor after it is spent.
    on_failure : callable
        Is given each error that may pass.

    Returns
    -------
    object
        The answer.

    Raises
    ------
    RemoteFaultError
        No attempt succeeded, or the address does not answer any more.
    ChangedFileError
        The file is not the one whose size and ETag were looked up.
    MissingFilesError
        The server says that there is no such file, or that it may not be read.
    InputFileError
        The server does not answer ranges, or is not the one it should be.
    """
    for count in range(1, ATTEMPTS + 1):
        try:
            with budget.turn(url) if count == 1 else nullcontext():
                answer = request()
                budget.answered()
        except NotRequestedError:
            raise
        except (BaseError, OSError, ShortAnswerError) as error:
            if (judged := _judged(url, error)) is not None:
                budget.answered()
                raise judged from error
            reason = _reason(url, error)
            budget.failed(url, reason)
            on_failure(error)
            pause = min(_FIRST_PAUSE * 2 ** (count - 1), _LONGEST_PAUSE)
            pause *= random.uniform(0.5, 1)
            is_late = deadline.remaining < pause
            if count < ATTEMPTS and not is_late and not budget.is_spent:
                time.sleep(pause)
                if not budget.is_spent:
                    continue
            spent = deadline.seconds - deadline.remaining
            allowed = f", of {deadline.seconds:.0f} s that it may take" if is_late else ""
            raise RemoteFaultError(
                f"{url} could not be read in {count} attempts, {spent:.0f} s after the first "
                f"request for it{allowed} ({reason}): {_KEPT}."
            ) from error
        else:
            return answer
    raise AssertionError(ATTEMPTS)


def _judged(url: str, error: Exception) -> Exception | None:
    """Return what an error means that will not pass; None for one that may."""
    if isinstance(error, (ChangedFileError, MissingFilesError)):
        return error
    if isinstance(error, FileNotFoundError):
        return MissingFilesError(
            f"{url} is missing (404 Not Found): check the address, and that the file is there."
        )
    if isinstance(error, PreconditionError):
        return changed(url)
    if isinstance(error, NotSupportedError):
        return InputFileError(
            f"{url} cannot be read in ranges: its server returns the whole file when a range is "
            "requested; use another server, or download the files and give their folder."
        )
    if "certificate" in str(error) and "Connect" in str(error):
        return InputFileError(
            f"{url} cannot be read: its server has no valid certificate for this name "
            f"({_certificate_problem(error)}); check the address and this machine's date, and if "
            "a proxy inspects the traffic, give its certificate with SSL_CERT_FILE."
        )
    refused = isinstance(error, (PermissionDeniedError, UnauthenticatedError))
    status = re.search(r"status code: (\d{3})", str(error))
    if status is not None and status[1] not in _PASSING:
        refused |= status[1] < "500" or status[1] in _LASTING
    if refused:
        return MissingFilesError(
            f"{url} cannot be read ({_status(error)}): it is missing or not public; check the "
            "address, and the credentials if any are needed."
        )
    return None


def changed(url: str) -> ChangedFileError:
    """Return the error for a file that is not the one that was looked up."""
    return ChangedFileError(
        f"{url} has changed since its size and ETag were looked up: expected the same file "
        "throughout a run; run the same command again."
    )


def is_overload(error: Exception) -> bool:
    """Return whether an error means that fewer requests at once would fare better."""
    text = str(error)
    return any(sign in text for sign in (" 503 ", " 429 ", " 500 ", "timed out", "TimedOut"))


def _reason(url: str, error: Exception) -> str:
    """Return why there was no answer, in the words of who can do something about it."""
    text = str(error)
    host = urlsplit(url).hostname or url
    if "dns error" in text:
        return f"the name {host} is not known: check the address"
    if "connect error" in text and (proxy := _proxy(url)) is not None:
        return f"the proxy {proxy} cannot be reached: check http_proxy, https_proxy and all_proxy"
    if "connect error" in text:
        return f"{host} accepts no connection"
    if "TimedOut" in text:
        return "no answer in time"
    if "error sending request" in text:
        return "the connection was closed without an answer"
    return _status(error)


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment sets for a URL, without user and password."""
    parts = urlsplit(url)
    proxies = getproxies_environment()
    proxy = proxies.get("https" if parts.scheme == "s3" else parts.scheme) or proxies.get("all")
    if proxy is None or proxy_bypass(parts.netloc):
        return None
    return proxy.rpartition("@")[2]


def _certificate_problem(error: Exception) -> str:
    match = re.search(r"certificate: (\w+)|InvalidCertificate\(\s*(\w+)", str(error))
    return next(filter(None, match.groups()), "invalid") if match else "invalid"


def _status(error: Exception) -> str:
    """Return the first line of an error, without the address that obstore repeats in it."""
    line = str(error).partition("\n")[0].strip() or type(error).__name__
    return line.rpartition(" - ")[2].rpartition("status code: ")[2].rstrip(": ")
