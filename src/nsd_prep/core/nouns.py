"""What places with a response are called: voxels, or vertices on a surface."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Noun:
    """What places with a response are called."""

    singular: str
    plural: str

    @property
    def fields(self) -> dict[str, str]:
        """The words by the names that templates give them: ``{site}``, ``{Sites}`` and so on."""
        return {
            "site": self.singular,
            "sites": self.plural,
            "Site": self.singular.capitalize(),
            "Sites": self.plural.capitalize(),
        }


VOXEL: Final = Noun("voxel", "voxels")
VERTEX: Final = Noun("vertex", "vertices")
