"""Which regions somebody asks for: by name, by definition, or by names of their own."""

import re
from collections.abc import Mapping, Sequence

from nsd_prep.core.parameters import SpaceName
from nsd_prep.dataset.regions import (
    RegionDefinition,
    built_in_regions,
    chosen_regions,
    definition_as_text,
)

#: The name of a region that is known, or the definition of another one.
Region = str | RegionDefinition
#: One or several; those of a mapping get their names from it.
Regions = Region | Sequence[Region] | Mapping[str, RegionDefinition]


def definitions_of(
    regions: Regions, known: Mapping[str, RegionDefinition], space: SpaceName
) -> dict[str, RegionDefinition]:
    """Return the definitions of regions by name; one that has no name is called by its labels.

    Raises
    ------
    ParameterError
        As `chosen_regions`.
    """
    definitions: list[tuple[str, RegionDefinition | None]]
    if isinstance(regions, Mapping):
        definitions = [*regions.items()]
    else:
        several = [regions] if isinstance(regions, str | RegionDefinition) else regions
        definitions = [_named(region, known) for region in several]
    in_space = built_in_regions(space)
    built_in = [name for name, definition in definitions if definition == in_space.get(name)]
    own = {
        name: definition for name, definition in definitions if definition and name not in built_in
    }
    return chosen_regions(built_in, own, space)


def _named(
    region: Region, known: Mapping[str, RegionDefinition]
) -> tuple[str, RegionDefinition | None]:
    if isinstance(region, RegionDefinition):
        return re.sub("[^A-Za-z0-9]+", "-", definition_as_text(region)), region
    return region, known.get(region)
