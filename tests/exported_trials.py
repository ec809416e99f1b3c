"""Single trials that tests export, and what they are compared with."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from single_trials_inputs import Subject
from small_nsd import SmallNSD

from nsd_prep.single_trials.subject import SingleTrialOptions, write_single_trials_of_subject
from nsd_prep.single_trials.writer import write_rows
from nsd_prep.synthetic.formats import write_pictures

SUBJECT = 1
#: Vertices of the left and of the right hemisphere.
VERTICES = (30, 25)
SURFACE_SESSIONS, SURFACE_TRIALS = 5, 12


def shown(small: SmallNSD, subject: int = SUBJECT) -> list[int]:
    """Return the 0-based image of each trial."""
    n_trials = small.sessions[subject] * small.trials_per_session
    return [
        small.subjectim[subject - 1][image - 1] - 1 for image in small.masterordering[:n_trials]
    ]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of images, each another one."""
    n_images = 16 + 8 * 16
    values = np.arange(n_images * 4 * 5 * 3) % 251
    path = tmp_path_factory.mktemp("images") / "nsd_stimuli.hdf5"
    write_pictures(path, values.reshape(n_images, 4, 5, 3).astype(np.uint8))
    return path


def written(small: SmallNSD, folder: Path, normalise: str, **options: object) -> Path:
    """Write single trials of the subject, of V1, IT and nsdgeneral."""
    subject = Subject.load(small, SUBJECT)
    path, _ = write_single_trials_of_subject(
        folder,
        SUBJECT,
        subject.sessions(),
        subject.trials,
        subject.voxels,
        SingleTrialOptions(normalise=normalise, **options),
        subject.space.attributes() | {"dataset": "small", "preparation": "b3"},
    )
    return path


@pytest.fixture(scope="module")
def zscored(official: SmallNSD, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(official, tmp_path_factory.mktemp("zscored"), "session")


@pytest.fixture(scope="module")
def percent(official: SmallNSD, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(official, tmp_path_factory.mktemp("percent"), "none")


@pytest.fixture(scope="module")
def surface(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame, np.ndarray]:
    """Write percent signal change of vertices, and return the file, its trials and the values."""
    rng = np.random.default_rng(5)
    n_trials = SURFACE_SESSIONS * SURFACE_TRIALS
    nsd_id = rng.permutation(np.repeat(np.arange(20), 3)) * 7
    session = np.repeat(np.arange(SURFACE_SESSIONS) + 1, SURFACE_TRIALS)
    early = set(nsd_id[session <= 2].tolist())
    split = np.where(session <= 2, "train", "unused").astype(object)
    split[[one not in early for one in nsd_id]] = "test"
    trials = pd.DataFrame(
        {"nsd_id": nsd_id, "session": session, "is_shared": False, "algonauts2023": split}
    ).rename_axis(index="trial")
    side = np.repeat(["lh", "rh"], [20, 15])
    vertex = np.concatenate([np.arange(20) + 5, np.arange(15) + 3])
    sites = pd.DataFrame(
        {
            "hemisphere": side.astype(object),
            "vertex_index": vertex,
            "ncsnr": rng.random(35).astype(np.float32),
            "in_nsdgeneral": np.arange(35) % 5 != 0,
            "in_V1v": np.arange(35) % 7 == 1,
            "in_hV4": np.arange(35) % 7 == 2,
            "in_EBA": np.arange(35) == 3,
        }
    ).rename_axis(index="voxel")
    values = rng.normal(size=(n_trials, 35)).astype(np.float32)
    values[session == 2, 4] = 0  # no data
    path = tmp_path_factory.mktemp("surface") / "subj01.nc"
    attributes = {
        "subject": 1,
        "normalisation": "none",
        "images": "all",
        "averaged": 0,
        "space": "fsaverage",
        "vertices": list(VERTICES),
    }
    write_rows(path, [values], trials, sites, attributes=attributes)
    return path, trials.join(pd.DataFrame(index=trials.index)), values


def with_attributes(path: Path, folder: Path, **attributes: str) -> Path:
    """Return a copy of single trials that says other things of itself."""
    copy = Path(shutil.copy(path, folder / "subj01.nc"))
    with h5py.File(copy, "a") as file:
        file.attrs.update(attributes)
    return copy


def of_subject(path: Path, folder: Path, subject: int, **attributes: str) -> Path:
    """Return a copy of single trials that is another subject's, or says other things."""
    folder.mkdir(parents=True)
    return with_attributes(path, folder, subject=subject, **attributes)


def content(folder: Path) -> dict[str, bytes]:
    """Return what lies in a folder, but not what is hidden."""
    files = [path for path in folder.rglob("[!.]*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
