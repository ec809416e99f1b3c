"""What is wrong with the inputs, collected."""

from collections.abc import Callable
from typing import Any, TypeVar

from nsd_prep.core.errors import (
    NotRequestedError,
    NSDPrepError,
    PreflightError,
    RemoteFaultError,
)

_Value = TypeVar("_Value")


class Problems:
    """Collects what is wrong, so that one look finds it all: a sentence each in `found`.

    What several calls say alike, of a file that they share, is noted once.
    """

    def __init__(self) -> None:
        self.found: list[str] = []
        self._is_given_up = False

    def collect(self, look: Callable[..., _Value], *arguments: Any) -> _Value | None:
        """Return what a call gives, or None where it raises, and note what is wrong."""
        try:
            return look(*arguments)
        except PreflightError as error:
            self._note(*error.problems)
        except NotRequestedError as error:  # once for all that follows
            if not self._is_given_up:
                self._note(str(error))
            self._is_given_up = True
        except (NSDPrepError, RemoteFaultError) as error:
            self._note(str(error))
        except FileNotFoundError as error:
            self._note(f"{error.filename} is missing: download it.")
        except OSError as error:
            self._note(
                f"{error.filename or arguments[0]} cannot be read ({error.strerror or error}): "
                "check the disk and the file's permissions."
            )
        return None

    def _note(self, *problems: str) -> None:
        self.found += [problem for problem in problems if problem not in self.found]
