"""Region definitions, label tables, and the voxels that labels choose."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from nsd_prep.core.errors import InputFileError, ParameterError
from nsd_prep.core.parameters import RegionName
from nsd_prep.dataset.regions import (
    BUILT_IN_REGIONS,
    RegionDefinition,
    VoxelSelection,
    chosen_regions,
    definition_as_text,
    merge_hemispheres,
    numbered_labels,
    read_regions_file,
    voxels_with_labels,
)
from nsd_prep.dataset.space import VolumeSpace
from nsd_prep.dataset.volumes import read_label_table


class TestBuiltIn:
    def test_the_labels_are_those_of_the_manual(self) -> None:
        labels = {name: dict(definition.labels) for name, definition in BUILT_IN_REGIONS.items()}
        assert labels == {
            "V1": {"prf-visualrois": (1, 2)},
            "V2": {"prf-visualrois": (3, 4)},
            "V3": {"prf-visualrois": (5, 6)},
            "V4": {"prf-visualrois": (7,)},
            "IT": {"streams": (5,)},
            "IT-glasser": {"HCP_MMP1": (18, 126, 127, 133, 136, 154, 155, 160, 163)},
            "nsdgeneral": {"nsdgeneral": (1,)},
            "early": {"streams": (1,)},
            "midventral": {"streams": (2,)},
            "midlateral": {"streams": (3,)},
            "midparietal": {"streams": (4,)},
            "ventral": {"streams": (5,)},
            "lateral": {"streams": (6,)},
            "parietal": {"streams": (7,)},
        }
        assert all(definition.hemisphere is None for definition in BUILT_IN_REGIONS.values())

    def test_forms_offer_the_same_names(self) -> None:
        assert get_args(RegionName) == tuple(BUILT_IN_REGIONS)


class TestRegionsFile:
    def test_numbers_names_and_hemispheres(self, tmp_path: Path) -> None:
        path = tmp_path / "regions.toml"
        path.write_text(
            '[FFA-left]\nhemisphere = "lh"\nlabels = { floc-faces = [2, "FFA-2"] }\n'
            "[early-and-V4]\nlabels = { streams = [1], prf-visualrois = [7] }\n"
        )
        regions = read_regions_file(path)
        assert list(regions) == ["FFA-left", "early-and-V4"]
        assert regions["FFA-left"] == RegionDefinition(
            labels={"floc-faces": (2, "FFA-2")}, hemisphere="lh"
        )
        assert regions["early-and-V4"].labels == {"streams": (1,), "prf-visualrois": (7,)}
        assert regions["early-and-V4"].hemisphere is None

    @pytest.mark.parametrize(
        ("content", "where"),
        [
            ("[FFA]\nlabel = { floc-faces = [1] }", "FFA.labels"),
            ("[FFA]\nlabels = { floc-faces = 1 }", "FFA.labels.floc-faces"),
            ("[FFA]\nlabels = {}", "FFA.labels"),
            ('[FFA]\nhemisphere = "left"\nlabels = { streams = [1] }', "FFA.hemisphere"),
            ("[FFA]\nlabels = { streams = [1] }\ncolour = 3", "FFA.colour"),
            ("FFA = 3", "FFA"),
        ],
    )
    def test_a_table_that_is_no_region(self, tmp_path: Path, content: str, where: str) -> None:
        path = tmp_path / "regions.toml"
        path.write_text(content)
        with pytest.raises(ParameterError) as raised:
            read_regions_file(path)
        assert f"{path} is wrong at {where}" in str(raised.value)
        assert "labels = {" in str(raised.value)

    def test_a_file_that_is_not_toml(self, tmp_path: Path) -> None:
        path = tmp_path / "regions.toml"
        path.write_text("[FFA\n")
        with pytest.raises(ParameterError, match="is not TOML"):
            read_regions_file(path)
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ParameterError, match="is not TOML"):
            read_regions_file(path)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ParameterError, match=r"nowhere\.toml is not there.*regions_file="):
            read_regions_file(tmp_path / "nowhere.toml")


class TestChosenRegions:
    own = RegionDefinition(labels={"floc-faces": (1,)})

    def test_built_in_ones_in_the_order_given_then_own(self) -> None:
        chosen = chosen_regions(["IT", "V1"], {"FFA": self.own})
        assert list(chosen) == ["IT", "V1", "FFA"]
        assert chosen["V1"] == BUILT_IN_REGIONS["V1"]

    def test_own_regions_alone(self) -> None:
        assert list(chosen_regions([], {"FFA": self.own})) == ["FFA"]

    def test_an_unknown_region(self) -> None:
        with pytest.raises(ParameterError) as raised:
            chosen_regions(["V1", "V9"], {})
        assert "V9" in str(raised.value)
        assert all(name in str(raised.value) for name in BUILT_IN_REGIONS)
        assert "regions_file=" in str(raised.value)

    @pytest.mark.parametrize(("name", "meant"), [("v1", "V1"), ("nsd-general", "nsdgeneral")])
    def test_the_nearest_region_is_named(self, name: str, meant: str) -> None:
        with pytest.raises(ParameterError, match=f"Did you mean {meant}\\?"):
            chosen_regions([name], {})

    def test_a_region_given_twice(self) -> None:
        with pytest.raises(ParameterError, match="V1 is given more than once"):
            chosen_regions(["V1", "IT", "V1"], {})

    def test_no_region(self) -> None:
        with pytest.raises(ParameterError, match="No region is chosen"):
            chosen_regions([], {})

    @pytest.mark.parametrize("name", ["V1", "v1", "it-GLASSER"])
    def test_an_own_region_with_a_built_in_name(self, name: str) -> None:
        with pytest.raises(ParameterError, match=f"Your own region {name} has the name"):
            chosen_regions(["IT"], {name: self.own})

    def test_own_regions_whose_files_would_overwrite_each_other(self) -> None:
        with pytest.raises(ParameterError, match="another region"):
            chosen_regions([], {"FFA": self.own, "ffa": self.own})

    @pytest.mark.parametrize("name", ["../FFA", "F FA", "", "F.FA", ".hidden", "FFA\n", "-FFA"])
    def test_an_own_name_that_cannot_be_in_a_file_name(self, name: str) -> None:
        with pytest.raises(ParameterError, match="cannot be part of a file name"):
            chosen_regions([], {name: self.own})


class TestLabelTable:
    def test_any_white_space_separates(self, tmp_path: Path) -> None:
        path = tmp_path / "names.ctab"
        path.write_text("#No. Label\n\n0 Unknown 0 0 0 0\n1\tV1v  255 0 0\n  12   hV4\r\n-1 out\n")
        assert read_label_table(path) == {"Unknown": 0, "V1v": 1, "hV4": 12, "out": -1}

    @pytest.mark.parametrize("line", ["one V1v", "3", "1.5 V1v", "--3 V1v", "² V1v"])
    def test_a_line_that_is_no_label(self, tmp_path: Path, line: str) -> None:
        path = tmp_path / "names.ctab"
        path.write_text(f"0 Unknown\n{line}\n", encoding="utf-8")
        with pytest.raises(InputFileError) as raised:
            read_label_table(path)
        assert f"{path}, line 2" in str(raised.value)
        assert line in str(raised.value)

    def test_names_become_numbers_ascending_and_once(self) -> None:
        table = {"V1v": 1, "V1d": 2, "hV4": 7}
        assert numbered_labels(["hV4", 2, "V1d", 1], table) == (1, 2, 7)

    def test_an_unknown_name(self) -> None:
        with pytest.raises(ParameterError, match=r"V9.*holds V1v, V1d"):
            numbered_labels([1, "V9"], {"V1v": 1, "V1d": 2})


class TestVoxels:
    def test_the_left_hemisphere_where_cortex_else_the_right(self) -> None:
        rng = np.random.default_rng(4)
        left, right = rng.integers(-1, 3, size=(2, 3, 4, 5)).astype(np.int16)
        merged, _ = merge_hemispheres(left, right)
        for at in np.ndindex(3, 4, 5):
            assert merged[at] == (left[at] if left[at] != -1 else right[at])

    def test_voxels_are_in_the_order_of_the_file(self) -> None:
        volume = np.random.default_rng(5).integers(-1, 4, size=(3, 5, 4)).astype(np.int16)
        expected = [
            (z * 5 + y) * 4 + x
            for z in range(3)
            for y in range(5)
            for x in range(4)
            if volume[z, y, x] in (1, 3)
        ]
        voxels = voxels_with_labels(volume, (3, 1))
        assert voxels.dtype == np.int64
        assert voxels.tolist() == expected

    def test_a_voxel_in_two_regions_is_once_in_their_union(self) -> None:
        regions = {
            "V4": np.array([2, 5, 9]),
            "IT": np.array([3, 5, 11]),
            "V1": np.array([0]),
        }
        selection = VoxelSelection(VolumeSpace((2, 2, 3), np.eye(4)), regions)
        assert selection.union().tolist() == [0, 2, 3, 5, 9, 11]


def test_a_definition_in_one_line() -> None:
    one = RegionDefinition(labels={"prf-visualrois": (1, 2)})
    two = RegionDefinition(labels={"floc-faces": (2, "FFA-2"), "streams": (5,)}, hemisphere="lh")
    assert definition_as_text(one) == "prf-visualrois 1 2"
    texts = {definition_as_text(two), definition_as_text(one)}
    assert len(texts) == 2
    assert all(
        part in definition_as_text(two) for part in ("lh", "floc-faces 2 FFA-2", "streams 5")
    )
