"""A run from a server of ranges: the same bytes as from the folder, whatever happens."""

import contextlib
import functools
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import Request, urlopen

import h5py
import numpy as np
import psutil
import pytest
from range_server import ServerProcess
from small_nsd import SmallNSD, write_betas, write_small_nsd

import nsd_prep
from nsd_prep.core.errors import FailedChecksError, NSDPrepError, PreflightError, RemoteFaultError
from nsd_prep.dataset.source import Transfer
from nsd_prep.extraction import prefetch
from nsd_prep.flows.command import main
from nsd_prep.flows.nsd_flow import nsd_flow
from nsd_prep.pipeline import extraction
from nsd_prep.report.stamp import without_stamp
from nsd_prep.sources import client as client_module
from nsd_prep.sources import retry as attempts
from nsd_prep.sources.bucket import BucketSource
from nsd_prep.sources.consent import TERMS

FLOW = Path(__file__).parents[1] / "flows" / "nsd_flow.py"
SILENT = functools.partial(nsd_prep.prepare, progress=False)
V1_VENTRAL = "[V1-ventral]\nlabels.prf-visualrois = [1]\n"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_FIRST_PAUSE", 0.002)
    monkeypatch.setattr(attempts, "_LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(attempts, "FIRST_CONTACT_SECONDS", 0.3)
    monkeypatch.setattr(attempts, "OUTAGE_SECONDS", 0.3)


@pytest.fixture(autouse=True)
def no_acceptance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no acceptance of NSD's terms be found on this machine, nor be kept on it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("NSD_ACCEPT_TERMS", raising=False)


def write_dataset(root: Path) -> SmallNSD:
    """Write a small dataset with images, in which nsdgeneral holds all of V1."""
    small = write_small_nsd(root)
    images = small.root / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"
    images.parent.mkdir(parents=True)
    with h5py.File(images, "w") as file:
        file["imgBrick"] = np.arange(144 * 48, dtype=np.uint8).reshape(144, 4, 4, 3)
    for subject in small.sessions:
        for side in ("", "lh.", "rh."):
            source, target = (
                small.roi_path(subject, f"{side}{name}")
                for name in ("prf-visualrois", "nsdgeneral")
            )
            target.write_bytes(_as_one_label(source))
    return small


def _as_one_label(path: Path) -> bytes:
    import nibabel

    image = nibabel.load(path)
    values = image.get_fdata()
    return nibabel.Nifti1Image(np.where(values > 0, 1.0, values), image.affine).to_bytes()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SmallNSD:
    return write_dataset(tmp_path_factory.mktemp("remote") / "nsd")


@pytest.fixture
def server(original: SmallNSD) -> Iterator[ServerProcess]:
    """Return a server of the small dataset; tests do not change its files."""
    with ServerProcess(original.root) as server:
        yield server


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[tuple[SmallNSD, ServerProcess]]:
    """Return a dataset that the test may change, and its server."""
    small = write_dataset(tmp_path / "changing" / "nsd")
    with ServerProcess(small.root) as server:
        yield small, server


def run(
    root: str | Path, out: Path, way: Callable[..., Any] = SILENT, **asked: Any
) -> dict[str, str]:
    """Prepare, or run the flow; return the SHA-256 of every output but the manifest."""
    options = {"regions": ["V1", "IT"], "report": False, "single_trials": True} | asked
    with contextlib.suppress(FailedChecksError):  # the data are noise, and the checks find that
        way(nsd_root=root, output_dir=out, **options)
    return digests(out)


def digests(out: Path) -> dict[str, str]:
    """Return the SHA-256 of every output but the manifest; of a page without its date and root."""
    return {
        str(path.relative_to(out)): hashlib.sha256(
            without_stamp(path.read_bytes()) if path.suffix == ".html" else path.read_bytes()
        ).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
        and "cache" not in path.relative_to(out).parts
        and path.name not in ("manifest.json", ".nsd-prep.lock")
    }


@pytest.fixture(scope="module")
def expected(original: SmallNSD, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the outputs of a run from the folder."""
    return run(original.root, tmp_path_factory.mktemp("folder") / "out")


@pytest.fixture(params=["prepare", pytest.param("flow", marks=pytest.mark.slow)])
def way(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return how a run is made."""
    if request.param == "prepare":
        return SILENT
    request.getfixturevalue("prefect_server")
    return nsd_flow


def test_a_look_at_the_labels_keeps_copies_in_the_user_s_cache_alone(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["regions", server.url, "--subjects", "1"]) == 0
    assert not list(Path().iterdir())
    assert main(["cache", str(tmp_path / "cache" / "nsd-prep"), "--clear"]) == 0
    assert not (tmp_path / "cache" / "nsd-prep" / "mirror").exists()


class TestSameBytes:
    def test_as_from_the_folder_and_again_without_the_sessions(
        self,
        server: ServerProcess,
        expected: dict[str, str],
        tmp_path: Path,
        way: Callable[..., Any],
    ) -> None:
        out = tmp_path / "out"
        assert run(server.url, out, way) == expected
        assert any(name.startswith("brainscore/stimuli_train") for name in expected)
        first = json.loads((out / "manifest.json").read_text())["source"]
        requests = first["transfer"]["requests"]
        assert first["terms"] is None
        assert sum(requests.values()) == server.counters["requests"]
        assert sum(first["transfer"]["bytes"].values()) == server.counters["bytes"]
        assert set(requests) == {"betas", "images", "sizes", "small files"}

        server.reset_counters()
        assert run(server.url, out, way) == expected
        times = Counter(name for _, name in server.requested)
        assert set(times.values()) == {1}
        assert not any(name.endswith(".hdf5") for name in times)
        assert server.counters["bytes"] == 0
        again = json.loads((out / "manifest.json").read_text())["source"]["transfer"]
        assert again["requests"] == {"sizes": len(times)}

    def test_nothing_sparse_lies_under_the_datasets_names(
        self, server: ServerProcess, original: SmallNSD, tmp_path: Path
    ) -> None:
        run(server.url, tmp_path / "out", brainscore=False, subjects=[1])
        mirror = tmp_path / "out" / "cache" / "mirror"
        copies = [
            path for path in mirror.rglob("*") if path.is_file() and ".remote" not in path.parts
        ]
        assert copies
        for path in copies:
            assert path.read_bytes() == (original.root / path.relative_to(mirror)).read_bytes()

    def test_503s_and_cut_bodies(
        self, server: ServerProcess, expected: dict[str, str], tmp_path: Path
    ) -> None:
        for kind, where in (
            ("503", "roi/"),
            ("cut", "session01"),
            ("reset", "session02"),
            ("short", "session03"),
            ("short", "streams"),
            ("short", "csv"),
            ("cut", "stimuli"),
        ):
            server.fail(kind, times=4, where=where, method="GET")
        assert run(server.url, tmp_path / "out") == expected
        failures = json.loads((tmp_path / "out" / "manifest.json").read_text())["source"]
        assert sum(failures["transfer"]["failures"].values()) >= 28

    @pytest.mark.slow
    @pytest.mark.usefixtures("prefect_server")
    def test_with_processes(
        self, server: ServerProcess, expected: dict[str, str], tmp_path: Path
    ) -> None:
        assert run(server.url, tmp_path / "out", nsd_flow, runner="processes") == expected
        source = json.loads((tmp_path / "out" / "manifest.json").read_text())["source"]
        assert "betas" not in source["transfer"]["requests"]  # the workers' are not counted

    def test_what_other_processes_read_is_fetched_by_them_alone(
        self, server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(extraction, "_are_worth_processes", lambda _: True)
        requests = {}
        for workers in (1, 2):  # a thread, and processes
            out = tmp_path / f"out{workers}"
            run(server.url, out, brainscore=False, single_trials=False, workers=workers)
            manifest = json.loads((out / "manifest.json").read_text())
            requests[workers] = manifest["source"]["transfer"]["requests"]
        assert requests[1]["betas"] > 0
        assert "betas" not in requests[2]


class TestWithoutANetwork:
    @pytest.mark.slow
    def test_a_second_run_uses_the_copies_and_says_so(
        self,
        server: ServerProcess,
        expected: dict[str, str],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        run(server.url, tmp_path / "out")
        server.down()
        caplog.clear()
        assert run(server.url, tmp_path / "out") == expected
        assert caplog.text.count("the copies in") == 1
        # What is made of what is stored needs no network either.
        cache = tmp_path / "out" / "cache"
        assert run(server.url, tmp_path / "v1", regions=["V1"], brainscore=False, cache_dir=cache)

    def test_a_first_run_stops_with_a_sentence(
        self, server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        server.down()
        with pytest.raises(RemoteFaultError, match="check the network"):
            run(server.url, tmp_path / "out")
        words = ["run", "--nsd-root", server.url, "--output-dir", str(tmp_path / "out"), "--check"]
        assert main(words) == 1
        shown = capsys.readouterr().err
        assert "check the network and run the same command again" in shown
        assert "disk" not in shown

    @pytest.mark.slow
    def test_sessions_that_are_not_stored_are_named(
        self, server: ServerProcess, tmp_path: Path
    ) -> None:
        options = {"subjects": [1], "single_trials": False, "brainscore": False}
        run(server.url, tmp_path / "out", regions=["V1"], **options)
        server.down()
        with pytest.raises(NSDPrepError, match=r"betas_session01\.hdf5 could not be read"):
            run(server.url, tmp_path / "out", regions=["V2"], **options)


class TestKeptVoxels:
    @pytest.mark.slow
    def test_a_region_inside_them_needs_no_network(
        self, original: SmallNSD, server: ServerProcess, tmp_path: Path
    ) -> None:
        regions = tmp_path / "regions.toml"
        regions.write_text(V1_VENTRAL)
        inside = {"regions": ["V4"], "regions_file": regions, "brainscore": False}
        inside["single_trials"] = False  # these need the sessions without shared images too
        expected = run(original.root, tmp_path / "folder", **inside)
        run(
            server.url,
            tmp_path / "out",
            regions=["V1"],
            keep_voxels="nsdgeneral",
            brainscore=False,
            single_trials=False,
        )
        server.down()
        cache = tmp_path / "out" / "cache"
        assert run(server.url, tmp_path / "inside", cache_dir=cache, **inside) == expected

    @pytest.mark.slow
    def test_the_outputs_are_those_without_it(
        self, original: SmallNSD, expected: dict[str, str], tmp_path: Path
    ) -> None:
        assert run(original.root, tmp_path / "out", keep_voxels="nsdgeneral") == expected


class TestChangedFiles:
    @pytest.mark.slow
    def test_a_session_that_changes_during_the_run_is_never_mixed(
        self,
        changing: tuple[SmallNSD, ServerProcess],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        small, server = changing
        options = {"brainscore": False, "single_trials": False, "subjects": [1]}
        expected = run(small.root, tmp_path / "folder", **options)
        read_voxels = BucketSource.read_voxels
        changed: list[Path] = []

        def read_after_a_change(source: BucketSource, path: Path, *rest: Any) -> Any:
            if path.name == "betas_session02.hdf5" and not changed:
                changed.append(path)
                server.change_etag(path.name)
            return read_voxels(source, path, *rest)

        monkeypatch.setattr(BucketSource, "read_voxels", read_after_a_change)
        # What was prefetched before the change is whole, and no error.
        monkeypatch.setattr(BucketSource, "prefetch", lambda *_: False)
        assert run(server.url, tmp_path / "out", **options) == expected
        assert changed
        assert "session02.hdf5 changed during the run" in caplog.text
        inputs = json.loads((tmp_path / "out" / "manifest.json").read_text())["inputs"]
        (session,) = (one for one in inputs if one["path"].endswith("session02.hdf5"))
        with urlopen(Request(session["path"], method="HEAD")) as answer:
            assert session["etag"] == answer.headers["ETag"]
        before = len(server.requested)
        assert run(server.url, tmp_path / "out", **options) == expected
        assert not any(".hdf5" in name for _, name in server.requested[before:])

    @pytest.mark.slow
    def test_a_session_that_never_stays_the_same_is_given_up(
        self,
        changing: tuple[SmallNSD, ServerProcess],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        _, server = changing
        read_voxels = BucketSource.read_voxels

        def read_after_a_change(source: BucketSource, path: Path, *rest: Any) -> Any:
            if path.name == "betas_session02.hdf5":
                server.change_etag(path.name)
            return read_voxels(source, path, *rest)

        monkeypatch.setattr(BucketSource, "read_voxels", read_after_a_change)
        monkeypatch.setattr(BucketSource, "prefetch", lambda *_: False)
        with pytest.raises(NSDPrepError, match=r"session02\.hdf5 changed during the run"):
            run(server.url, tmp_path / "out", brainscore=False, subjects=[1], regions=["V1"])

    @pytest.mark.slow
    def test_a_session_that_changed_between_runs(
        self, changing: tuple[SmallNSD, ServerProcess], tmp_path: Path
    ) -> None:
        small, server = changing
        options = {"brainscore": False, "single_trials": False, "subjects": [1], "regions": ["V1"]}
        before = run(server.url, tmp_path / "out", **options)
        write_betas(small.betas_path(1, 2), -small.betas[1, 2] // 2)
        # What is stored is used, without a request, until more of this session is asked for.
        assert run(server.url, tmp_path / "out", **options) == before
        more = options | {"regions": ["V1", "IT"]}
        # Nothing of the former file is mixed with the new one.
        found = run(server.url, tmp_path / "out", **more)
        assert found == run(small.root, tmp_path / "folder", **more)


class TestMissingFiles:
    def test_all_are_reported_together_before_anything_is_computed(
        self, changing: tuple[SmallNSD, ServerProcess], tmp_path: Path
    ) -> None:
        small, server = changing
        small.betas_path(1, 2).unlink()
        small.ncsnr_path(2).unlink()
        for labels in small.root.glob("nsddata/ppdata/subj05/func1pt8mm/roi/*prf-visualrois*"):
            labels.unlink()
        server.fail("403", times=100, where="subj05/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas")
        with pytest.raises(PreflightError) as raised:
            run(server.url, tmp_path / "out")
        shown = str(raised.value)
        address = f"{server.url}/nsddata_betas/ppdata"
        assert f"{address}/subj02" in shown
        roi = f"{server.url}/nsddata/ppdata/subj05/func1pt8mm/roi"
        assert f"expected {roi}/prf-visualrois.nii.gz" in shown
        assert str(tmp_path / "out") not in shown
        assert (
            "subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session02.hdf5 is missing (404"
            in (shown)
        )
        for session in (1, 2, 3):
            name = f"subj05/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session0{session}.hdf5"
            assert f"{name} cannot be read (403" in shown
        assert not any(
            name.endswith(".hdf5") and method == "GET" for method, name in server.requested
        )
        assert not (tmp_path / "out" / "cache" / "responses").exists()


class TestCommandLine:
    def test_check_tells_requests_bytes_and_times(
        self, server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["run", "--nsd-root", server.url, "--output-dir", str(tmp_path / "out"), "--check"]
        assert main(words) == 0
        shown = capsys.readouterr().out
        assert "To fetch if the cache is empty:" in shown
        for unit in (" requests, ", "at 100 Mbit/s", "at 1 Gbit/s"):
            assert unit in shown
        looked_at = [name for method, name in server.requested if method == "GET"]
        assert not any("betas_session" in name for name in looked_at if "hdf5" not in name)

    @pytest.mark.parametrize("command", ["run", "trials"])
    def test_the_bucket_of_nsd_is_not_asked_before_its_terms_are_accepted(
        self,
        command: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise AssertionError("a request was made")

        for name in ("get", "head", "list"):
            monkeypatch.setattr(client_module.obstore, name, fail)
        words = [command, "--nsd-root", "s3://natural-scenes-dataset"]
        words += ["--output-dir", str(tmp_path / "out")]
        for more in ([], ["--check"]):
            assert main([*words, *more]) == 1
            assert TERMS.strip() in capsys.readouterr().err.strip().removeprefix("error: ")
        assert not (tmp_path / "config").exists()
        with pytest.raises(AssertionError, match="a request was made"):
            main([*words, "--check", "--accept-nsd-terms"])

    def test_acceptance_is_a_parameter(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise FileNotFoundError("nothing is there")

        monkeypatch.setattr(client_module.obstore, "head", fail)
        monkeypatch.setattr(client_module.obstore, "get", fail)
        options = {"synthetic": False, "subjects": [1]}
        root = "s3://natural-scenes-dataset"
        with pytest.raises(NSDPrepError, match="terms of the Natural Scenes Dataset"):
            run(root, tmp_path / "out", **options)
        with pytest.raises(PreflightError, match=r"nsd_expdesign\.mat is missing \(404"):
            run(root, tmp_path / "out", accept_nsd_terms=True, **options)
        # It is kept: the next run needs no parameter.
        with pytest.raises(PreflightError, match=r"nsd_expdesign\.mat is missing \(404"):
            run(root, tmp_path / "out", **options)


def test_progress_has_requests_bytes_rate_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(prefetch.time, "monotonic", lambda: now)
    transfer = Transfer({"betas": 30, "sizes": 10}, {"betas": 50_000_000}, {})
    request: Any = SimpleNamespace(source=SimpleNamespace(transfer=transfer))
    ahead = prefetch.Prefetch([request] * 8)
    now = 110.0
    assert ahead.traffic(0) == "40 requests, 50.0 MB, 5.0 MB/s"
    assert ahead.traffic(2) == "40 requests, 50.0 MB, 5.0 MB/s, 30 s left"
    assert ahead.traffic(8) == "40 requests, 50.0 MB, 5.0 MB/s"
    of_a_folder: Any = SimpleNamespace(source=SimpleNamespace(transfer=None))
    assert prefetch.Prefetch([of_a_folder]).traffic(1) == ""


@pytest.mark.slow
def test_single_trials_by_their_command(
    original: SmallNSD, server: ServerProcess, tmp_path: Path
) -> None:
    found = {}
    for root in (str(original.root), server.url):
        out = tmp_path / root.rpartition("/")[2]
        words = ["trials", "--nsd-root", root, "--output-dir", str(out), "--regions", "V1"]
        done = subprocess.run(
            [sys.executable, "-m", "nsd_prep", *words, "--subjects", "1", "2"],
            env=_environment(tmp_path),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1  # the responses are noise, and the checks say so
        assert "checks failed (the files are written" in done.stderr
        found[root] = digests(out)
    assert found[server.url] == found[str(original.root)]
    assert {"subj01.nc", "subj02.nc"} <= set(found[server.url])


@pytest.mark.interruption
def test_a_killed_run_resumes(tiny_nsd: Path, tmp_path: Path) -> None:
    def start(root: str, out: Path) -> subprocess.Popen[bytes]:
        words = ["--nsd-root", root, "--output-dir", str(out), "--no-report"]
        with out.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(FLOW), *words],
                stdout=log,
                stderr=log,
                env=_environment(tmp_path),
                start_new_session=True,
            )

    assert start(str(tiny_nsd), tmp_path / "folder").wait(240) == 0
    with ServerProcess(tiny_nsd, latency=0.02) as server:
        out = tmp_path / "out"
        killed = start(server.url, out)
        family = psutil.Process(killed.pid)
        responses = out / "cache" / "responses"
        while len(list(responses.rglob("*.json"))) < 6 and killed.poll() is None:
            time.sleep(0.01)
        assert killed.poll() is None, out.with_suffix(".log").read_text()
        children = family.children(recursive=True)
        killed.kill()
        killed.wait()
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        stored = {path: path.stat().st_mtime_ns for path in responses.rglob("*.json")}
        assert start(server.url, out).wait(240) == 0, out.with_suffix(".log").read_text()
        after = {path: path.stat().st_mtime_ns for path in responses.rglob("*.json")}
    assert digests(out) == digests(tmp_path / "folder")
    assert stored.items() <= after.items()
    assert len(after) > len(stored)


def _environment(folder: Path) -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return mine | {"PREFECT_HOME": str(folder / "prefect"), "DO_NOT_TRACK": "1"}
