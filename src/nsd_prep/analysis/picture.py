"""A figure as it is written."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Picture:
    """A figure as it is written.

    Attributes
    ----------
    name : str
        Of its files, without ending: lower case, words joined by dashes.
    title : str
        A few words.
    caption : str
        What it shows, in whole sentences.
    width : int
        Natural width on a screen in CSS pixels.
    png : bytes
        For the page.
    pdf : bytes
        For a paper.
    """

    name: str
    title: str
    caption: str
    width: int
    png: bytes
    pdf: bytes
