"""The terms of the Natural Scenes Dataset, accepted before its own bucket is asked for anything.

Nothing is sent anywhere, and no form is filled in: the acceptance is kept in a file of the user's,
and goes into the manifest of the run.
"""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, TextIO

from pydantic import BaseModel, ConfigDict, ValidationError

from nsd_prep.core.atomic import write_text
from nsd_prep.core.errors import ParameterError

#: Raise this when the text changes in substance: acceptances of older ones then count no more.
TERMS_VERSION: Final = 1
VARIABLE: Final = "NSD_ACCEPT_TERMS"
TERMS: Final = """\
The Natural Scenes Dataset (NSD) is distributed by its authors (Allen et al. 2022, Nature
Neuroscience 25:116-126), not by nsd-prep, under terms of use:

  - for research and education only;
  - no distribution of the data, or of parts of them, to others;
  - no attempt to identify the people who were scanned;
  - cite the paper in what you publish.

Everyone who uses the data is expected to fill in the NSD Data Access Agreement, a form that
http://naturalscenesdataset.org links to. The terms there are the ones that bind you; this is a
summary. nsd-prep does not fill in the form, and tells nobody your answer.
"""

Way = Literal["answer", "parameter", "environment"]


class Consent(BaseModel):
    """That the terms of NSD were accepted, as the manifest holds it.

    Attributes
    ----------
    terms_version : int
        Of `TERMS`.
    accepted : str
        When, in UTC, to the second.
    way : {"answer", "parameter", "environment"}
        An answer on a terminal, the parameter of a run, or the variable NSD_ACCEPT_TERMS.
    """

    model_config = ConfigDict(frozen=True)

    terms_version: int
    accepted: str
    way: Way


def accepted_terms(
    accept_nsd_terms: bool | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    terminal: tuple[TextIO, TextIO] | None = None,
) -> Consent:
    """Return that the terms were accepted: earlier, by a parameter, a variable, or an answer.

    Parameters
    ----------
    accept_nsd_terms : bool, optional
        True accepts them. False does not, whatever was accepted before.
    environment : mapping, optional
        Variables: ``NSD_ACCEPT_TERMS=1`` accepts; ``XDG_CONFIG_HOME`` says where the acceptance is
        kept. The process's own where not given.
    terminal : (text file, text file), optional
        Where a question can be answered, and asked; standard input and error where not given.

    Returns
    -------
    Consent
        It is kept for the next time.

    Raises
    ------
    ParameterError
        The terms were not accepted.
    """
    environment = os.environ if environment is None else environment
    file = consent_file(environment)
    if accept_nsd_terms is False:
        raise _not_accepted()
    if (consent := _recorded(file)) is not None:
        return consent
    if accept_nsd_terms:
        return _keep(file, "parameter")
    if environment.get(VARIABLE, "").strip().lower() in ("1", "true", "yes"):
        return _keep(file, "environment")
    answers, questions = terminal or (sys.stdin, sys.stderr)
    if answers.isatty() and questions.isatty():
        questions.write(f"{TERMS}\nDo you accept these terms? [y/N] ")
        questions.flush()
        if answers.readline().strip().lower() in ("y", "yes"):
            return _keep(file, "answer")
    raise _not_accepted()


def consent_file(environment: Mapping[str, str]) -> Path | None:
    """Return where an acceptance is kept: below ``XDG_CONFIG_HOME``, or ``~/.config``.

    None where there is no home folder.
    """
    base = environment.get("XDG_CONFIG_HOME", "")
    try:
        folder = Path(base) if base and Path(base).is_absolute() else Path.home() / ".config"
    except RuntimeError:
        return None
    return folder / "nsd-prep" / "nsd-terms.json"


def _recorded(file: Path | None) -> Consent | None:
    if file is None:
        return None
    try:
        consent = Consent.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
    return consent if consent.terms_version == TERMS_VERSION else None


def _keep(file: Path | None, way: Way) -> Consent:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    consent = Consent(terms_version=TERMS_VERSION, accepted=now, way=way)
    if file is not None:
        with suppress(OSError):  # a home that cannot be written: the next run asks again
            write_text(file, consent.model_dump_json(indent=2) + "\n")
    return consent


def _not_accepted() -> ParameterError:
    return ParameterError(
        f"{TERMS}\nThe terms of the Natural Scenes Dataset were not accepted, so its bucket is not "
        f"read: accept them with accept_nsd_terms=True, {VARIABLE}=1, or a yes on a terminal."
    )
