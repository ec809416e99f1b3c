"""Numbers of things in words."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

#: How often something happened, most often first.
TIMES: Final[Mapping[int, str]] = MappingProxyType(
    {3: "three times", 2: "twice", 1: "once", 0: "never"}
)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number of things: ``1 image``, ``1,000 images``, ``3 vertices``."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def first_and_others(first: object, number: int, noun: str) -> str:
    """Return the first of a number of things, and how many others: ``7 and 2 other images``."""
    return f"{first} and {counted(number - 1, f'other {noun}')}" if number > 1 else str(first)
