"""Checks as data: what a check is about, what was measured, and the verdict; and their kinds."""

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, Final, Literal, SupportsFloat

from nsd_prep.core.nouns import VERTEX, VOXEL, Noun

Verdict = Literal["passed", "suspicious", "failed", "not decidable"]
#: Verdicts, the one to look at first in front. A failed check ends a run with exit status 1; a
#: suspicious one is shown at the top and ends it with 0.
VERDICTS: Final[tuple[Verdict, ...]] = ("failed", "suspicious", "not decidable", "passed")
#: Verdicts that a person should look at.
PROBLEMS: Final[tuple[Verdict, ...]] = ("failed", "suspicious")

#: What a number may be estimated from: another draw of these gives another number.
Draw = Literal["images", "trials", "voxels", "sessions", "subjects"]

#: The detail that says what places with a response are called, where these are no voxels.
_SITES: Final = "sites"

#: What a text names beside the fields of a check: words, or a number.
Detail = str | int | float


@dataclass(frozen=True)
class Check:
    """One thing that must hold, and whether it did.

    `nsd_prep.checks.registry.describe` puts it into words.

    Attributes
    ----------
    name : str
        Of its kind.
    verdict : {"passed", "suspicious", "failed", "not decidable"}
        Whether it holds. Suspicious: unlikely in sound data, and a person should look.
    region : str
        The region that it is about, or two joined by a hyphen; empty for none.
    subject : str
        The subject that it is about ("subj01"); empty for none.
    data : str
        What else it is about, where that is not the regions' assemblies: "single trials", or the
        name of an assembly.
    session, run : int, optional
        Where `measured` was found (1-based), if in one session, or in one run of it.
    measured : float, optional
        What was measured; None where it is no number, or none could be computed.
    lower, upper : float, optional
        Bounds of `measured`, within which it is as expected.
    unit : str
        What the three are: "%", "r", "p", "share of voxels".
    reason : str
        Which of its kind's meanings applies.
    details : mapping of str to str, int or float
        What else the kind's texts name.
    """

    name: str
    verdict: Verdict
    region: str = ""
    subject: str = ""
    data: str = ""
    session: int | None = None
    run: int | None = None
    measured: float | None = None
    lower: float | None = None
    upper: float | None = None
    unit: str = ""
    reason: str = ""
    details: Mapping[str, Detail] = field(default_factory=dict, hash=False)

    @property
    def noun(self) -> Noun:
        """What the places with a response are called that it is about."""
        return VERTEX if self.details.get(_SITES) == VERTEX.plural else VOXEL

    @property
    def where(self) -> str:
        """Region, subject and data that it is about; empty for the whole run."""
        return ", ".join(filter(None, (self.region, self.subject, self.data)))


@dataclass(frozen=True)
class Threshold:
    """A number that decides.

    Attributes
    ----------
    name : str
        What it bounds.
    value : float or tuple of float
        The number, or a range.
    source : str
        Why it is that number.
    """

    name: str
    value: float | tuple[float, float]
    source: str


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of check: what it measures and expects, and what its verdicts mean.

    Templates are those of `str.format`; they name details of a check and its fields ``measured``,
    ``lower`` and ``upper``, and with ``{site}``, ``{sites}``, ``{Site}`` and ``{Sites}`` its noun.

    Attributes
    ----------
    name : str
        What is checked.
    scope : str
        What there is one check for, such as "subject, region".
    measures : str
        What is measured, and how; a phrase in Markdown.
    draws : tuple of str
        What the error of the measured value holds: which of images, trials, voxels, sessions and
        subjects are taken as drawn by chance. Empty where nothing is estimated.
    conditions : mapping of str to str
        By verdict, when it is given; a verdict that is not there is never given. Markdown.
    expectation : str
        Template of what is expected.
    value : str
        Template of what was measured.
    meanings : mapping of str to str
        What it says about the data, and what to do where it failed: templates by reason, each a
        sentence. A check without a reason has its verdict's.
    lower, upper : float, optional
        Bounds of all checks of the kind, where these have none of their own.
    unit : str
        Template of the unit.
    thresholds : tuple of Threshold
        The numbers that decide.
    """

    name: str
    scope: str
    measures: str
    conditions: Mapping[Verdict, str]
    expectation: str
    meanings: Mapping[str, str]
    value: str = "{measured:.4g}"
    lower: float | None = None
    upper: float | None = None
    unit: str = ""
    thresholds: tuple[Threshold, ...] = ()
    draws: tuple[Draw, ...] = ()

    def check(
        self,
        verdict: bool | Verdict | None,
        *,
        region: str = "",
        subject: str = "",
        data: str = "",
        session: int | None = None,
        run: int | None = None,
        measured: SupportsFloat | None = None,
        lower: float | None = None,
        upper: float | None = None,
        unit: str = "",
        reason: str = "",
        **details: object,
    ) -> Check:
        """Make a check of this kind.

        Parameters
        ----------
        verdict : bool or {"passed", "suspicious", "failed", "not decidable"}, optional
            True is passed, False failed, None not decidable.
        region, subject, data, session, run, reason
            As in `Check`.
        measured : float, optional
            What is not finite counts as not measured.
        lower, upper, unit
            In place of the kind's.
        **details
            Numbers, or what is shown as `str` writes it.
        """
        number = _as_float(measured)
        return Check(
            self.name,
            as_verdict(verdict),
            region,
            subject,
            data,
            None if session is None else int(session),
            run,
            number if number is not None and isfinite(number) else None,
            _as_float(self.lower if lower is None else lower),
            _as_float(self.upper if upper is None else upper),
            unit or self.unit.format(**VOXEL.fields),
            reason,
            {name: _detail(value) for name, value in details.items()},
        )

    def value_of(self, check: Check) -> str:
        """Return what was measured, in words."""
        return _fill(self.value, check)

    def expectation_of(self, check: Check) -> str:
        """Return what was expected, in words."""
        return _fill(self.expectation, check)

    def meaning_of(self, check: Check) -> str:
        """Return the sentence that goes with the check's reason or verdict."""
        return _fill(self.meanings[check.reason or check.verdict], check)

    def unit_of(self, check: Check) -> str:
        """Return the unit of what was measured, which may be the check's own, in words."""
        is_own = check.unit != self.unit.format(**VOXEL.fields)
        return check.unit if is_own else self.unit.format(**check.noun.fields)


def _as_float(number: SupportsFloat | None) -> float | None:
    """Return a number as it is read back from a record, which knows floats alone."""
    return None if number is None else float(number)


def of_vertices(check: Check) -> Check:
    """Return a check whose words speak of vertices in place of voxels."""
    return replace(check, details={**check.details, _SITES: VERTEX.plural})


def any_verdict(meaning: str) -> Mapping[str, str]:
    """Return the meanings of a kind that has one, whatever the verdict."""
    return MappingProxyType(dict.fromkeys(VERDICTS, meaning))


def as_verdict(holds: bool | Verdict | None) -> Verdict:
    """Return the verdict in words: True is passed, False failed, None not decidable."""
    if holds is None:
        return "not decidable"
    if isinstance(holds, str):
        return holds
    return "passed" if holds else "failed"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict to look at first; not decidable where there is none."""
    present = set(verdicts)
    return next((verdict for verdict in VERDICTS if verdict in present), "not decidable")


def _detail(value: object) -> Detail:
    """Return a value that JSON can hold: what is not finite as text, such as "nan"."""
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real) and isfinite(value):
        return float(value)
    return str(value)


def number_text(number: float, spec: str) -> str:
    """Return a number as `format` writes it; that it is unknown where it could not be measured."""
    return format(number, spec) if isfinite(number) else "unknown"


class _Texts(string.Formatter):
    """Formats numbers also where they could not be measured, or are kept as text."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if value is None:
            return "unknown"
        return number_text(float(value), format_spec) if format_spec else str(value)


def _fill(template: str, check: Check) -> str:
    numbers = {"measured": check.measured, "lower": check.lower, "upper": check.upper}
    return _Texts().vformat(template, (), check.noun.fields | numbers | dict(check.details))
