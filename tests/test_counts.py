"""Numbers of things in words: one is not several."""

import pytest

from nsd_prep.core.counts import counted, first_and_others


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (1_000, "1,000 images")]
)
def test_one_is_singular(number: int, text: str) -> None:
    assert counted(number, "image") == text


def test_a_plural_of_its_own() -> None:
    assert counted(1, "vertex", "vertices") == "1 vertex"
    assert counted(3, "image was", "images were") == "3 images were"


@pytest.mark.parametrize(
    ("number", "text"), [(1, "7"), (2, "7 and 1 other image"), (1_001, "7 and 1,000 other images")]
)
def test_others_are_said_where_there_are_some(number: int, text: str) -> None:
    assert first_and_others(7, number, "image") == text
