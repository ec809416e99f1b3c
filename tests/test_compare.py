"""Comparing assemblies: what differs, how much, and why."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rich.console
import xarray as xr

from nsd_prep.analysis.compare.compare import compare, compare_assemblies
from nsd_prep.assemblies.assembly import SubjectVoxels, build_assembly, voxel_table
from nsd_prep.assemblies.assembly_file import write_assembly
from nsd_prep.core.errors import InputFileError, ParameterError
from nsd_prep.dataset.noise_ceiling import noise_ceiling
from nsd_prep.dataset.space import VolumeSpace
from nsd_prep.report.compare_text import as_text

GRID = (11, 13, 17)
N_IMAGES, N_VOXELS, N_SESSIONS = 100, 60, 6
NSD_IDS = np.sort(np.random.default_rng(3).choice(73000, N_IMAGES, replace=False))


class Dataset:
    """Raw trials of two subjects in one region, and ways to prepare them."""

    def __init__(self, seed: int, strongest: float) -> None:
        generator = np.random.default_rng(seed)
        self.ncsnr, self.voxels, self.trials, self.order = {}, {}, {}, {}
        for subject in (1, 2):
            ncsnr = generator.uniform(0.1, strongest, N_VOXELS)
            signal = generator.normal(size=(N_IMAGES, N_VOXELS)) * ncsnr
            order = generator.permutation(np.repeat(np.arange(N_IMAGES), 3))
            trials = signal[order] + generator.normal(size=(len(order), N_VOXELS))
            trials = trials.reshape(N_SESSIONS, -1, N_VOXELS)
            trials = trials * generator.uniform(0.8, 1.3, (N_SESSIONS, 1, 1))
            # Percent signal change: every voxel has its own scale and mean.
            self.trials[subject] = (trials + generator.normal(size=N_VOXELS)) * (
                1.5 * generator.lognormal(0, 0.5, N_VOXELS)
            )
            self.order[subject] = order
            self.ncsnr[subject] = ncsnr.astype(np.float32)
            inside = generator.choice(np.prod(GRID), N_VOXELS, replace=False)
            self.voxels[subject] = np.sort(inside).astype(np.int64)

    def repetitions(self, subject: int, ddof: int = 0) -> np.ndarray:
        trials = self.trials[subject]
        z = (trials - trials.mean(1, keepdims=True)) / trials.std(1, keepdims=True, ddof=ddof)
        return self.sorted(subject, z)

    def sorted(self, subject: int, trials: np.ndarray, shift: int = 0) -> np.ndarray:
        rows = np.argsort(np.roll(self.order[subject], shift), kind="stable").reshape(-1, 3)
        return trials.reshape(-1, N_VOXELS)[rows].astype(np.float32)

    def assembly(self, responses=None, voxels=None, nsd_ids=NSD_IDS, ncsnr=None) -> xr.DataArray:
        responses = responses or {s: self.repetitions(s).mean(1) for s in (1, 2)}
        of_subjects = [
            SubjectVoxels(
                subject,
                VolumeSpace(GRID, np.eye(4)),
                (voxels or self.voxels)[subject],
                (ncsnr or self.ncsnr)[subject],
                noise_ceiling((ncsnr or self.ncsnr)[subject]),
                np.zeros(N_VOXELS, dtype=np.int64),
            )
            for subject in (1, 2)
        ]
        values = np.concatenate([responses[1], responses[2]], axis=1).astype(np.float32)
        return build_assembly(values, np.asarray(nsd_ids), voxel_table("V1", of_subjects), {})


def reasons(first: xr.DataArray, second: xr.DataArray) -> str:
    comparison = compare_assemblies("V1", first, second)
    assert not comparison.equal
    return "; ".join(comparison.reasons)


def flipped(voxels: np.ndarray, axis: int) -> np.ndarray:
    """Where voxels lie in the flipped volume, in the order of the voxels given."""
    places = np.stack(np.unravel_index(voxels, GRID))
    places[axis] = GRID[axis] - 1 - places[axis]
    return np.ravel_multi_index(tuple(places), GRID)


@pytest.fixture(params=[0.7, 1.5], ids=["weak", "strong"])
def data(request: pytest.FixtureRequest) -> Dataset:
    return Dataset(seed=0, strongest=request.param)


@pytest.fixture
def strong() -> Dataset:
    return Dataset(seed=0, strongest=1.5)


class TestEqual:
    def test_an_assembly_equals_itself(self, data: Dataset) -> None:
        comparison = compare_assemblies("V1", data.assembly(), data.assembly())
        assert comparison.equal
        assert comparison.reasons == {}
        assert [one.largest for one in comparison.differences] == [0, 0]

    def test_rounding_in_float32_is_no_difference(self, data: Dataset) -> None:
        other = data.assembly()
        other.values += np.float32(3e-6)
        assert compare_assemblies("V1", data.assembly(), other).equal


def test_hidden_files_of_a_folder_are_not_compared(data: Dataset, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
        write_assembly(data.assembly(), folder / "Allen2022.V1.nc")
        (folder / "._Allen2022.V1.nc").write_bytes(b"Mac OS X")
    comparison = compare(*folders, 1e-5)
    assert [one.name for one in comparison.files] == ["Allen2022.V1.nc"]


class TestDifferences:
    def test_numbers_are_those_of_the_subject_that_differs(self, data: Dataset) -> None:
        other = data.assembly()
        other.values[3, N_VOXELS + 5] += 2
        other.values[4, N_VOXELS + 5] -= 1
        first, second = compare_assemblies("V1", data.assembly(), other).differences
        assert (first.subject, first.images_differ, first.largest) == ("subj01", 0, 0)
        assert (second.subject, second.images_differ, second.voxels_differ) == ("subj02", 2, 1)
        assert second.largest == pytest.approx(2, abs=1e-6)
        assert second.typical == 0

    def test_images_and_voxels_of_one_side_are_listed(self, data: Dataset) -> None:
        whole = data.assembly()
        comparison = compare_assemblies("V1", whole, whole[1:, 2:])
        assert comparison.images_only_in_first == (NSD_IDS[0],)
        places = np.stack(np.unravel_index(data.voxels[1][:2], GRID), axis=1).tolist()
        listed = ", ".join(f"subj01 V1 {tuple(place)}" for place in places)
        assert f"2 voxels only in the first: {listed}" in comparison.problems
        assert not any("only in the second" in problem for problem in comparison.problems)

    def test_a_subject_and_images_of_one_side_only(self, data: Dataset) -> None:
        whole = data.assembly()
        comparison = compare_assemblies("V1", whole[:60], whole[60:, :N_VOXELS])
        assert not comparison.equal
        assert len(comparison.images_only_in_first) == 60
        assert f"{N_VOXELS} voxels only in the first" in comparison.problems[-1]
        assert [one.n_voxels for one in comparison.differences] == [N_VOXELS, 0]
        assert [one.n_images for one in comparison.differences] == [0, 0]

    def test_a_coordinate_that_differs_is_named(self, data: Dataset) -> None:
        other = data.assembly()
        other["nc_testset"].values[7] = 99.5
        comparison = compare_assemblies("V1", data.assembly(), other)
        assert not comparison.equal
        assert any("nc_testset: 1 of 120 values" in problem for problem in comparison.problems)

    def test_a_type_that_differs_is_named(self, data: Dataset) -> None:
        comparison = compare_assemblies("V1", data.assembly(), data.assembly().astype("f8"))
        assert "float32 and" in comparison.problems[0]
        assert not comparison.equal


class TestReasons:
    def test_no_session_zscore(self, data: Dataset) -> None:
        raw = data.assembly({s: data.sorted(s, data.trials[s]).mean(1) for s in (1, 2)})
        assert reasons(data.assembly(), raw) == "the second was not z-scored within sessions"
        assert reasons(raw, data.assembly()) == "the first was not z-scored within sessions"

    def test_sample_deviation(self, data: Dataset) -> None:
        n_trials = 3 * N_IMAGES // N_SESSIONS
        sample = data.assembly({s: data.repetitions(s, ddof=1).mean(1) for s in (1, 2)})
        found = reasons(data.assembly(), sample)
        assert found.startswith("the second was z-scored with the sample's standard deviation")
        assert f"N about {n_trials}" in found
        assert reasons(sample, data.assembly()).startswith("the first was z-scored with")

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_flipped_coordinates(self, data: Dataset, axis: int) -> None:
        voxels, responses, ncsnr = {}, {}, {}
        for subject in (1, 2):
            places = flipped(data.voxels[subject], axis)
            order = np.argsort(places)
            voxels[subject] = places[order]
            responses[subject] = data.repetitions(subject).mean(1)[:, order]
            ncsnr[subject] = data.ncsnr[subject][order]
        found = reasons(data.assembly(), data.assembly(responses, voxels, ncsnr=ncsnr))
        assert found.startswith("the responses lie in a transposed or flipped volume")
        assert f"-voxel_{'xyz'[axis]}" in found
        assert found.count("-") == 1

    def test_transposed_coordinates(self, data: Dataset) -> None:
        other = data.assembly()
        x, z = other["voxel_x"].to_numpy(), other["voxel_z"].to_numpy()
        other = other.assign_coords(voxel_x=("neuroid", z), voxel_z=("neuroid", x))
        found = reasons(data.assembly(), other)
        assert "(voxel_x, voxel_y, voxel_z) became (voxel_z, voxel_y, voxel_x)" in found

    def test_flipped_mask(self, data: Dataset) -> None:
        generator = np.random.default_rng(5)
        voxels = {s: np.sort(flipped(data.voxels[s], 1)) for s in (1, 2)}
        responses = {s: generator.normal(size=(N_IMAGES, N_VOXELS)) for s in (1, 2)}
        ncsnr = {s: generator.uniform(0.3, 1.5, N_VOXELS).astype("f4") for s in (1, 2)}
        found = reasons(data.assembly(), data.assembly(responses, voxels, ncsnr=ncsnr))
        assert found.startswith("the region's mask is transposed or flipped")
        assert "-voxel_y" in found

    def test_responses_from_a_flipped_volume(self, data: Dataset) -> None:
        generator = np.random.default_rng(5)
        responses = {s: data.repetitions(s).mean(1) for s in (1, 2)}
        for of_subject in responses.values():
            # Of the flipped volume, some voxels lie in the region, and some outside the brain.
            of_subject[:] = of_subject[:, generator.permutation(N_VOXELS)]
            of_subject[:, :10] = 0
        assert "transposed or flipped volume" in reasons(data.assembly(), data.assembly(responses))

    def test_flipped_ncsnr(self, data: Dataset) -> None:
        # A block that is its own mirror image, so that every flipped voxel has an ncsnr.
        block = np.arange(N_VOXELS)
        places = np.unravel_index(block, (3, 4, 5))
        inside = np.ravel_multi_index(tuple(place + 3 for place in places), GRID)
        data.voxels = {1: inside, 2: inside}
        mirrored = np.ravel_multi_index((2 - places[0], places[1], places[2]), (3, 4, 5))
        ncsnr = {s: data.ncsnr[s][mirrored] for s in (1, 2)}
        found = reasons(data.assembly(), data.assembly(ncsnr=ncsnr))
        assert found.startswith("the noise ceilings lie in a transposed or flipped volume")
        assert "-voxel_x" in found

    def test_ids_off_by_one(self, data: Dataset) -> None:
        other = data.assembly(nsd_ids=NSD_IDS + 1)
        assert "the ids of the second are off by one" in reasons(data.assembly(), other)
        assert "the ids of the first are off by one" in reasons(other, data.assembly())

    def test_rows_of_neighbours(self, data: Dataset) -> None:
        responses = {s: np.roll(data.repetitions(s).mean(1), 1, axis=0) for s in (1, 2)}
        found = reasons(data.assembly(), data.assembly(responses))
        assert found == "the ids are off by one: each row bears its neighbour's id"

    def test_rows_of_other_images(self, data: Dataset) -> None:
        order = np.random.default_rng(1).permutation(N_IMAGES)
        responses = {s: data.repetitions(s).mean(1)[order] for s in (1, 2)}
        found = reasons(data.assembly(), data.assembly(responses))
        assert found == "the rows of one side bear other images' ids"

    def test_trials_off_by_one(self, data: Dataset) -> None:
        def shifted(subject: int) -> np.ndarray:
            trials = data.trials[subject]
            z = (trials - trials.mean(1, keepdims=True)) / trials.std(1, keepdims=True)
            return data.sorted(subject, z, shift=1).mean(1)

        found = reasons(data.assembly(), data.assembly({s: shifted(s) for s in (1, 2)}))
        assert found == ("the second assigns trials to wrong images: their average holds no signal")

    def test_repetitions_in_rows(self, data: Dataset) -> None:
        whole = data.assembly()
        rows = np.concatenate([data.repetitions(s) for s in (1, 2)], axis=2)
        single = whole.isel(presentation=np.repeat(np.arange(N_IMAGES), 3)).copy(
            data=rows.reshape(-1, 2 * N_VOXELS)
        )
        assert "the second does not average the repetitions" in reasons(whole, single)
        assert "the first does not average the repetitions" in reasons(single, whole)

    def test_one_repetition_instead_of_the_mean(self, data: Dataset) -> None:
        single = data.assembly({s: data.repetitions(s)[:, 0] for s in (1, 2)})
        assert "the second does not average the repetitions" in reasons(data.assembly(), single)
        assert "the first does not average the repetitions" in reasons(single, data.assembly())

    def test_sums_of_repetitions(self, data: Dataset) -> None:
        summed = data.assembly({s: data.repetitions(s).sum(1) for s in (1, 2)})
        assert "the second sums the repetitions" in reasons(data.assembly(), summed)

    def test_fewer_sessions_and_so_fewer_images(self, data: Dataset) -> None:
        whole = data.assembly()
        assert "another set of sessions" in reasons(whole, whole[:80])
        assert "another set of sessions" in reasons(whole[:80], whole)

    def test_fewer_sessions_and_the_same_images(self, data: Dataset) -> None:
        responses = {s: data.repetitions(s).mean(1) for s in (1, 2)}
        for subject, of_subject in responses.items():
            of_subject[5:9] = data.repetitions(subject)[5:9, :2].mean(1)
        found = reasons(data.assembly(), data.assembly(responses))
        assert found.startswith("another set of sessions: 4 of 100 images differ")

    def test_float16(self, data: Dataset) -> None:
        rounded = data.assembly()
        rounded.values[:] = rounded.values.astype(np.float16)
        assert reasons(data.assembly(), rounded) == "the second was stored as float16"
        assert reasons(rounded, data.assembly()) == "the first was stored as float16"

    def test_flipped_sign(self, data: Dataset) -> None:
        assert reasons(data.assembly(), -data.assembly()) == "the sign of one side is flipped"

    @pytest.mark.parametrize("of_first", [False, True])
    def test_noise_ceilings_in_another_form(self, data: Dataset, of_first: bool) -> None:
        def found(change: Callable[[np.ndarray], np.ndarray]) -> str:
            other = data.assembly()
            other["nc_testset"].values[:] = change(other["nc_testset"].values)
            sides = (other, data.assembly()) if of_first else (data.assembly(), other)
            return reasons(*sides)

        side = "the first" if of_first else "the second"
        assert (
            found(lambda nc: nc / 100) == f"the noise ceilings of {side} are fractions, not percent"
        )
        assert found(lambda nc: np.sqrt(nc / (100 - nc) / 3)) == (
            f"{side} has the ncsnr in place of noise ceilings"
        )
        for number, averaged in ((1, "single trials"), (2, "2 trials averaged")):
            assert f"the noise ceilings of {side} are those of {averaged}, where" in found(
                lambda nc, n=number: 100 * (nc / (100 - nc) / 3) / (nc / (100 - nc) / 3 + 1 / n)
            )

    def test_coordinates_counted_from_1(self, data: Dataset) -> None:
        other = data.assembly()
        for axis in "xyz":
            other[f"voxel_{axis}"].values[:] += 1
        found = reasons(data.assembly(), other)
        assert "the coordinates of the second are counted from 1" in found
        assert "the coordinates of the first are counted from 1" in reasons(other, data.assembly())

    @pytest.mark.parametrize(("axis", "step"), [("x", 1), ("y", -2), ("z", 1)])
    def test_coordinates_shifted_along_an_axis(self, data: Dataset, axis: str, step: int) -> None:
        other = data.assembly()
        other[f"voxel_{axis}"].values[:] += step
        found = reasons(data.assembly(), other)
        assert f"shifted volume: {step:+d} along voxel_{axis} in the second" in found

    def test_another_order(self, data: Dataset) -> None:
        whole = data.assembly()
        generator = np.random.default_rng(0)
        voxels = whole[:, generator.permutation(whole.sizes["neuroid"])]
        assert reasons(whole, voxels) == "the same voxels in another order"
        assert compare_assemblies("V1", whole, voxels).problems == ()
        images = whole[generator.permutation(N_IMAGES)]
        assert reasons(whole, images) == "the same images in another order"
        wrong = images.copy()
        wrong.values[:] *= -1
        assert "the sign of one side is flipped" in reasons(whole, wrong)

    def test_median_of_the_repetitions(self, data: Dataset) -> None:
        median = data.assembly({s: np.median(data.repetitions(s), 1) for s in (1, 2)})
        assert reasons(data.assembly(), median) == (
            "the second takes the median of the repetitions instead of their mean"
        )

    def test_two_of_three_repetitions(self, data: Dataset) -> None:
        two = data.assembly({s: data.repetitions(s)[:, :2].mean(1) for s in (1, 2)})
        assert reasons(two, data.assembly()) == "the first averages two of the three repetitions"

    def test_noisier_responses_are_not_single_trials(self, data: Dataset) -> None:
        for noise in (0.1, 0.2, 0.3, 0.5):
            other = data.assembly()
            drawn = np.random.default_rng(2).normal(size=other.shape)
            other.values += (noise * drawn).astype(np.float32)
            assert reasons(data.assembly(), other) == ""

    @pytest.mark.parametrize("how", ["left out", "NaN"])
    def test_voxels_without_data(self, data: Dataset, how: str) -> None:
        zeros, other = {}, {}
        for subject in (1, 2):
            repetitions = data.repetitions(subject)
            gone = np.zeros(repetitions.shape, dtype=bool)
            gone[::4, 0, 3:7] = True
            gone[::8, 1, 3:7] = True
            zeros[subject] = np.where(gone, 0, repetitions).mean(1)
            missing = np.where(gone, np.nan, repetitions)
            other[subject] = (np.nanmean if how == "left out" else np.mean)(missing, axis=1)
        found = reasons(data.assembly(zeros), data.assembly(other))
        expected = "are left out of the average" if how == "left out" else "are NaN"
        assert found == (
            f"in the second, trials of voxels without data {expected}, where they count as 0 in "
            "the other"
        )

    def test_rows_of_one_subject(self, data: Dataset) -> None:
        order = np.random.default_rng(1).permutation(N_IMAGES)
        responses = {s: data.repetitions(s).mean(1) for s in (1, 2)}
        responses[2] = responses[2][order]
        comparison = compare_assemblies("V1", data.assembly(), data.assembly(responses))
        assert comparison.reasons == {"the rows of one side bear other images' ids": ["subj02 V1"]}

    def test_the_example_of_the_documentation(
        self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        ours = Path("nsd-prep-output") / "Allen2022.V1.nc"
        ours.parent.mkdir()
        write_assembly(data.assembly(), ours)
        text = (Path(__file__).parents[1] / "docs" / "compare.md").read_text()
        (example,) = re.findall(r"```python\n(.*?)```", text, re.S)
        exec(example, {})
        (stated,) = re.findall(r"^  Likely \((.*)\): (.*)\.$", text, re.M)
        assert compare(Path("exchanged.nc"), ours).files[0].reasons == {stated[1]: [stated[0]]}

    @pytest.mark.parametrize("n_exchanged", [N_VOXELS, 20])
    def test_subjects_exchanged(self, data: Dataset, n_exchanged: int) -> None:
        responses = {s: data.repetitions(s).mean(1) for s in (1, 2)}
        some = slice(0, n_exchanged)
        for subject in (1, 2):
            responses[subject][:, some] = data.repetitions(3 - subject).mean(1)[:, some]
        comparison = compare_assemblies("V1", data.assembly(), data.assembly(responses))
        assert comparison.reasons == {
            f"its responses in the second are those of subj0{3 - subject} in the first": [
                f"subj0{subject} V1"
            ]
            for subject in (1, 2)
        }

    def test_some_images_of_some_voxels_have_two_reasons(self, data: Dataset) -> None:
        responses = {s: data.repetitions(s).mean(1) for s in (1, 2)}
        responses[1][:4, :5] += 1
        found = reasons(data.assembly(), data.assembly(responses))
        assert "another set of sessions: 4 of 100 images" in found
        assert f"5 of {N_VOXELS} voxels differ" in found

    def test_sessions_exchanged_are_named(self, data: Dataset) -> None:
        def exchanged(subject: int) -> np.ndarray:
            trials = data.trials[subject]
            z = (trials - trials.mean(1, keepdims=True)) / trials.std(1, keepdims=True)
            return data.sorted(subject, z[[0, 4, 2, 3, 1, 5]]).mean(1)

        session = np.arange(3 * N_IMAGES) // (3 * N_IMAGES // N_SESSIONS) + 1
        table = pd.concat(
            pd.DataFrame(
                {"subject": f"subj{s:02d}", "nsd_id": NSD_IDS[data.order[s]], "session": session}
            )
            for s in (1, 2)
        )
        other = data.assembly({1: data.repetitions(1).mean(1), 2: exchanged(2)})
        comparison = compare_assemblies("V1", data.assembly(), other, trials=table)
        assert comparison.reasons == {
            "the images that differ are those seen in sessions 2 and 5: exchanged, or another "
            "file": ["subj02 V1"]
        }

    def test_large_values_that_wrapped_around(self, data: Dataset) -> None:
        def prepared(wrapped: bool, zscored: bool) -> dict[int, np.ndarray]:
            found = {}
            for subject in (1, 2):
                raw = np.round(300 * data.trials[subject]) * np.where(
                    np.arange(N_VOXELS) < 5, 40, 1
                )
                raw = raw.astype(np.int64)
                if wrapped:
                    raw = raw.astype(np.int16).astype(np.int64)
                values = raw / 300
                if zscored:
                    values = (values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)
                found[subject] = data.sorted(subject, values).mean(1)
            return found

        whole, wrong = (data.assembly(prepared(wrapped, True)) for wrapped in (False, True))
        assert "wrapped around int16" in reasons(whole, wrong)
        whole, wrong = (data.assembly(prepared(wrapped, False)) for wrapped in (False, True))
        assert "multiples of 65536 raw units" in reasons(whole, wrong)

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            (lambda v: -v, "the sign of these is flipped on one side"),
            (lambda v: 2 * v, "in these the second is 2 times the first"),
            (
                lambda v: v * np.arange(2, 2 + v.shape[1]),
                "in these the second is a multiple of the first, a different one in each",
            ),
            (lambda v: 0 * v, "the second has 0 in these, as for voxels without data"),
            (lambda v: np.roll(v, 7, axis=0), "or they are of other voxels or other trials there"),
        ],
    )
    def test_what_some_voxels_have_in_common_is_told(
        self, data: Dataset, change: Callable[[np.ndarray], np.ndarray], found: str
    ) -> None:
        responses = {s: data.repetitions(s).mean(1) for s in (1, 2)}
        responses[2][:, 10:14] = change(responses[2][:, 10:14])
        told = reasons(data.assembly(), data.assembly(responses))
        assert told.startswith(f"4 of {N_VOXELS} voxels differ and the others agree: ")
        assert told.endswith(found)

    def test_values_that_are_clipped(self, data: Dataset) -> None:
        clipped = data.assembly()
        clipped.values[:] = np.clip(clipped.values, -1, 1)
        found = "the values of the second are clipped at -1 and 1"
        assert reasons(data.assembly(), clipped) == found
        assert reasons(clipped, data.assembly()) == found.replace("second", "first")
        clipped.values[:] = np.minimum(data.assembly().values, 1)
        assert reasons(data.assembly(), clipped) == found.replace("-1 and ", "")

    def test_a_single_smaller_value_is_no_clipping(self, data: Dataset) -> None:
        other = data.assembly()
        other.values.flat[other.values.argmax()] -= 0.01
        assert "clipped at" not in reasons(data.assembly(), other)

    def test_a_side_without_any_data(self, data: Dataset) -> None:
        nothing = data.assembly()
        nothing.values[:] = 0
        found = "the second has 0 everywhere, as without data"
        assert reasons(data.assembly(), nothing).startswith(found)

    def test_a_single_nan_is_no_session_without_data(self, data: Dataset) -> None:
        damaged = data.assembly()
        damaged.values[3, 5] = np.nan
        found = "1 value of the second is NaN, where the other has responses"
        assert reasons(data.assembly(), damaged) == found

    def test_zscored_once_more(self, data: Dataset) -> None:
        again = data.assembly()
        again.values[:] = (again.values - again.values.mean(0)) / again.values.std(0)
        assert "z-scored a second time" in reasons(data.assembly(), again)

    def test_noise_has_no_known_reason(self, data: Dataset) -> None:
        other = data.assembly()
        noise = np.random.default_rng(2).normal(size=other.shape)
        other.values += (0.01 * noise).astype(np.float32)
        assert reasons(data.assembly(), other) == ""


class TestOtherZScores:
    """Sessions with trials of further images, drifting from run to run and session to session."""

    RUNS, TRIALS_OF_RUN = 5, 30

    def assembly(self, data: Dataset, over: str, seed: int = 0) -> xr.DataArray:
        responses = {}
        for subject in (1, 2):
            generator = np.random.default_rng([seed, subject])
            ncsnr = data.ncsnr[subject]
            n_trials = self.RUNS * self.TRIALS_OF_RUN
            # The shared images' trials are a third of all.
            place = np.sort(generator.permutation(N_SESSIONS * n_trials)[: 3 * N_IMAGES])
            values = generator.normal(size=(N_SESSIONS * n_trials, N_VOXELS))
            values += generator.normal(size=values.shape) * ncsnr
            signal = generator.normal(size=(N_IMAGES, N_VOXELS)) * ncsnr
            own = generator.normal(size=(3 * N_IMAGES, N_VOXELS))
            values[place] = signal[data.order[subject]] + own
            values = values.reshape(N_SESSIONS, self.RUNS, -1, N_VOXELS)
            values += 0.5 * generator.normal(size=(N_SESSIONS, self.RUNS, 1, N_VOXELS))
            values += 0.6 * generator.normal(size=(N_SESSIONS, 1, 1, N_VOXELS))
            if over == "shared":
                flat = values.reshape(-1, N_VOXELS)
                for session in range(N_SESSIONS):
                    rows = place[place // n_trials == session]
                    mean, deviation = flat[rows].mean(0), flat[rows].std(0)
                    flat[rows] = (flat[rows] - mean) / deviation
            else:
                axis = {"runs": 2, "sessions": (1, 2), "all": (0, 1, 2)}[over]
                values -= values.mean(axis, keepdims=True)
                values /= values.std(axis, keepdims=True)
            shared = values.reshape(-1, N_VOXELS)[place]
            responses[subject] = data.sorted(subject, shared).mean(1)
        return data.assembly(responses)

    @pytest.mark.parametrize("seed", range(3))
    def test_the_shared_trials_alone(self, data: Dataset, seed: int) -> None:
        sound, other = self.assembly(data, "sessions", seed), self.assembly(data, "shared", seed)
        assert "the second was z-scored over the trials of the shared images" in reasons(
            sound, other
        )

    @pytest.mark.parametrize("seed", range(3))
    def test_all_sessions_together(self, data: Dataset, seed: int) -> None:
        sound, other = self.assembly(data, "sessions", seed), self.assembly(data, "all", seed)
        assert reasons(sound, other).startswith("the second was z-scored over larger groups")
        assert reasons(other, sound).startswith("the first was z-scored over larger groups")

    @pytest.mark.parametrize("seed", range(3))
    def test_runs(self, data: Dataset, seed: int) -> None:
        sound, other = self.assembly(data, "sessions", seed), self.assembly(data, "runs", seed)
        found = reasons(sound, other)
        assert found.startswith("the first was z-scored over larger groups")
        assert "sessions instead of runs" in found


class TestFiles:
    @pytest.mark.parametrize("subject", ["subj01", 1])  # as tables of older versions have it
    def test_sessions_are_named_from_the_table_of_trials(
        self, strong: Dataset, tmp_path: Path, subject: str | int
    ) -> None:
        responses = {s: strong.repetitions(s).mean(1) for s in (1, 2)}
        seen = np.unique(strong.order[1][:50])  # the first of six sessions
        responses[1][seen] += 1
        for folder, assembly in (
            ("ours", strong.assembly()),
            ("theirs", strong.assembly(responses)),
        ):
            (tmp_path / folder).mkdir()
            write_assembly(assembly, tmp_path / folder / "Allen2022.V1.nc")
        table = pd.DataFrame(
            {
                "subject": subject,
                "nsd_id": NSD_IDS[strong.order[1]],
                "session": np.arange(300) // 50 + 1,
            }
        )
        table.to_csv(tmp_path / "ours" / "trials.csv", index=False)
        (found,) = compare(tmp_path / "ours", tmp_path / "theirs").files
        assert any("seen in session 1:" in reason for reason in found.reasons)

    def test_noise_ceilings_within_the_tolerance_are_equal(
        self, strong: Dataset, tmp_path: Path
    ) -> None:
        other = strong.assembly()
        other["nc_testset"].values[:] += 1e-4
        write_assembly(strong.assembly(), tmp_path / "a.nc")
        write_assembly(other, tmp_path / "b.nc")
        assert compare(tmp_path / "a.nc", tmp_path / "b.nc", 1e-3).equal
        assert not compare(tmp_path / "a.nc", tmp_path / "b.nc", 1e-8).equal

    def test_where_nothing_fits_the_text_names_what_was_looked_at(
        self, strong: Dataset, tmp_path: Path
    ) -> None:
        other = strong.assembly()
        other.values += np.random.default_rng(2).normal(size=other.shape).astype(np.float32) / 50
        write_assembly(strong.assembly()[:, :N_VOXELS], tmp_path / "a.nc")
        write_assembly(other, tmp_path / "b.nc")
        console = rich.console.Console(width=300, record=True, file=io.StringIO())
        console.print(as_text(compare(tmp_path / "a.nc", tmp_path / "b.nc")))
        text = console.export_text()
        assert "No known reason fits; considered: order of rows and voxels" in text
        assert "nan" not in text

    def test_folders(self, strong: Dataset, tmp_path: Path) -> None:
        for folder in ("ours", "theirs"):
            (tmp_path / folder).mkdir()
            write_assembly(strong.assembly(), tmp_path / folder / "Allen2022.V1.nc")
        assert compare(tmp_path / "ours", tmp_path / "theirs").equal
        other = strong.assembly()
        other.values[0, 0] += 1
        write_assembly(other, tmp_path / "theirs" / "Allen2022.V2.nc")
        comparison = compare(tmp_path / "ours", tmp_path / "theirs")
        assert comparison.only_in_second == ("Allen2022.V2.nc",)
        assert not comparison.equal
        files = [tmp_path / "ours" / "Allen2022.V1.nc", tmp_path / "theirs" / "Allen2022.V2.nc"]
        assert compare(files[0], files[0]).equal
        assert not compare(*files).equal

    def test_what_cannot_be_compared(self, strong: Dataset, tmp_path: Path) -> None:
        file = tmp_path / "Allen2022.V1.nc"
        write_assembly(strong.assembly(), file)
        with pytest.raises(ParameterError, match="does not exist"):
            compare(file, tmp_path / "none")
        with pytest.raises(ParameterError, match="are not of the same kind"):
            compare(file, tmp_path)
        (tmp_path / "empty").mkdir()
        with pytest.raises(ParameterError, match="no assembly name in common"):
            compare(tmp_path, tmp_path / "empty")
        (tmp_path / "text.nc").write_text("no netCDF")
        with pytest.raises(InputFileError, match="cannot be read as an assembly"):
            compare(file, tmp_path / "text.nc")
        xr.DataArray(np.zeros((2, 2)), dims=("a", "b"), name="data").to_netcdf(tmp_path / "b.nc")
        with pytest.raises(InputFileError, match="lacks the coordinates stimulus_id"):
            compare(file, tmp_path / "b.nc")

    def test_text_says_what_the_record_says(self, strong: Dataset, tmp_path: Path) -> None:
        first, second = tmp_path / "a.nc", tmp_path / "b.nc"
        rounded = strong.assembly()
        rounded.values[:] = rounded.values.astype(np.float16)
        write_assembly(strong.assembly(), first)
        write_assembly(rounded, second)
        console = rich.console.Console(width=200, record=True, file=io.StringIO())
        console.print(as_text(compare(first, second)))
        text = console.export_text()
        assert "a.nc and b.nc: different" in text
        assert "stored as float16" in text
        assert "largest difference" in text
        assert "median difference" in text
        assert text.rstrip().endswith("Not equal.")
        console.print(as_text(compare(first, first)))
        assert console.export_text().rstrip().endswith("Equal.")
