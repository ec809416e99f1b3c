"""The dataset in a notebook, against the plain reference and the files of the flow's stages."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
from library_stages import prepare
from small_nsd import SmallNSD

import nsd_prep
from nsd_prep.assembly import read_assembly
from nsd_prep.errors import ParameterError
from nsd_prep.stages.assemblies import assemble_region


@pytest.fixture
def nsd(official: SmallNSD, tmp_path: Path) -> "nsd_prep.NSD":
    return nsd_prep.open_nsd(official.root, cache_dir=tmp_path / "cache")


def test_what_is_there_is_shown(nsd: "nsd_prep.NSD", official: SmallNSD) -> None:
    assert nsd.subjects == (1, 2, 5)
    assert nsd.sessions == official.sessions
    assert "nsdgeneral" in nsd.regions
    assert "1: 4, 2: 4, 5: 3" in repr(nsd)


def test_responses_are_the_references_bit_for_bit(
    nsd: "nsd_prep.NSD", official: SmallNSD, tmp_path: Path
) -> None:
    responses = nsd.responses(subject=1, region="V1")
    assert responses.dims == ("image", "repetition", "voxel")
    nsd_ids = responses["nsd_id"].values.tolist()
    expected = reference.responses(official, 1, "prf-visualrois", (1, 2), nsd_ids)
    np.testing.assert_array_equal(responses.values, expected)
    _, _, prepared, output = prepare(official.root, tmp_path / "out", subjects=[1], regions=["V1"])
    assemble_region(prepared, "V1", output)
    rows = read_assembly(output.path / "Allen2022.V1.nc")
    np.testing.assert_array_equal(responses.mean("repetition").values, rows.values)


def test_voxels_have_their_places_and_noise_ceilings(
    nsd: "nsd_prep.NSD", official: SmallNSD
) -> None:
    voxels = nsd.voxels(2, "V4")
    places = tuple(voxels[f"nifti_{axis}"].values for axis in "ijk")
    np.testing.assert_array_equal(voxels["ncsnr"].values, official.ncsnr[2][places])
    assert (official.labels[2, "prf-visualrois"][places] == 7).all()


def test_single_trials_hold_every_trial(nsd: "nsd_prep.NSD") -> None:
    with nsd.single_trials(1, ["V1", "nsdgeneral"]) as trials:
        assert trials.sizes["trial"] == 4 * 24
        assert trials["session"].values.tolist() == np.repeat([1, 2, 3, 4], 24).tolist()


def test_an_unknown_region_is_named(nsd: "nsd_prep.NSD") -> None:
    with pytest.raises(ParameterError, match="V9"):
        nsd.responses(1, "V9")


def test_importing_the_package_is_cheap() -> None:
    program = "import nsd_prep, sys; print('numpy' in sys.modules, 'prefect' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert ran.stdout == b"False False\n"
