"""The files of the Algonauts 2023 challenge."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.atomic import write_text, written_whole
from nsd_prep.core.coordinates import MEMBERSHIP
from nsd_prep.core.progress import current_stage
from nsd_prep.dataset.noise_ceiling import noise_ceiling_of_unequal_repetitions
from nsd_prep.dataset.splits import TEST, TRAIN, part_of_split
from nsd_prep.exports.files import npy_rows, write_npy
from nsd_prep.exports.folder import ExportFolder
from nsd_prep.exports.labels import ATLASES
from nsd_prep.exports.source import TrialsFile
from nsd_prep.exports.tables import images_as_csv

REGION: Final = "nsdgeneral"
SPLIT: Final = "algonauts2023"
_HEMISPHERES: Final = ("lh", "rh")
#: Of which statistics of a session are taken together, in float64.
_SITES_AT_ONCE: Final = 4096
_FOLDERS: Final = {TRAIN: "training", TEST: "test"}
README: Final = """\
`subj0X/training_split/training_fmri/{lh,rh}_training_fmri.npy` and
`subj0X/test_split/test_fmri/{lh,rh}_test_fmri.npy` are float32, (images, vertices).
`subj0X/test_split/noise_ceiling/{lh,rh}_noise_ceiling.npy` are (vertices,), from 0 to 1.
`subj0X/roi_masks` has the masks: `{lh,rh}.all-vertices_fsaverage_space.npy` (1 at each vertex
that is a column), `{lh,rh}.ATLAS_fsaverage_space.npy` and `{lh,rh}.ATLAS_challenge_space.npy`
(the labels of all vertices of fsaverage, and of the columns), and `mapping_ATLAS.npy` (the name of
each label).

- Rows: the images of the split `algonauts2023`, by ascending id;
  `subj0X/{training,test}_images.csv` has the `nsd_id` (0-based) of each row.
- Columns: the vertices of nsdgeneral in a hemisphere, ascending, without those that lack data in
  some session.
- Values: z-scores over the {trials} trials of each session, computed for each session separately
  in float64 with the population standard deviation, and averaged over the repetitions of each
  image (for training images, only those before the last three sessions); stored as float32.

How these differ from the challenge's files:
{betas}
The challenge's vertices are those of nsdgeneral and of a second mask, nsdgeneralRSC, which is not
part of NSD. Its ROI masks were mapped from each subject's own surface; these are the labels of the
regions in the single trials, and atlases of which the trials have no region are left out. Images
are not written.
"""

#: Where the betas are from, in words, by the single trials' ``surface_files``.
BETAS: Final = {
    "mgh": "Like the challenge's, these betas are from the .mgh files of fsaverage.",
    "native": "The challenge took its betas from the .mgh files of fsaverage; these are from "
    "the\nfiles of the subject's own surface, which hold rounded and clipped integers.",
    "": "The challenge took its betas from the .mgh files of fsaverage.",
}


def write(folder: ExportFolder, trials: TrialsFile) -> None:
    """Plan a subject's responses, noise ceilings and masks."""
    subject_folder = f"subj{trials.subject:02d}"
    digest = trials.digest
    parts = {
        part: trials.images_of(part_of_split(trials.trials, SPLIT, part)) for part in (TRAIN, TEST)
    }
    tables = {part: f"{subject_folder}/{_FOLDERS[part]}_images.csv" for part in parts}
    arrays = {
        (part, side): f"{subject_folder}/{name}_split/{name}_fmri/{side}_{name}_fmri.npy"
        for part, name in _FOLDERS.items()
        for side in _HEMISPHERES
    }
    ceilings = {
        side: f"{subject_folder}/test_split/noise_ceiling/{side}_noise_ceiling.npy"
        for side in _HEMISPHERES
    }
    atlases = [
        atlas
        for atlas, labels in ATLASES.items()
        if any(f"{MEMBERSHIP}{label}" in trials.sites for label in labels)
    ]
    masks = [
        f"{subject_folder}/roi_masks/{side}.{name}.npy"
        for side in _HEMISPHERES
        for name in (
            "all-vertices_fsaverage_space",
            *(
                f"{atlas}_{space}_space"
                for atlas in atlases
                for space in ("fsaverage", "challenge")
            ),
        )
    ]
    mappings = [f"{subject_folder}/roi_masks/mapping_{atlas}.npy" for atlas in atlases]

    def write_files() -> None:
        scales = _Scales(trials, trials.sites_of(REGION))
        columns = {side: scales.columns_of(side) for side in _HEMISPHERES}
        for part, images in parts.items():
            write_text(folder.path / tables[part], images_as_csv(trials, images))
            for side in _HEMISPHERES:
                path = folder.path / arrays[part, side]
                with npy_rows(path, (len(images), len(columns[side])), "<f4") as rows:
                    for block in trials.blocks_of(images):
                        rows.append(scales.means(block, columns[side]))
                        current_stage().advance()
        times = [len(rows) for rows in parts[TEST]]
        for side in _HEMISPHERES:
            ncsnr = trials.sites["ncsnr"].to_numpy()[scales.sites[columns[side]]]
            percent = noise_ceiling_of_unequal_repetitions(
                ncsnr, *(times.count(number) for number in (3, 2, 1))
            )
            write_npy(folder.path / ceilings[side], percent / 100)
            _write_masks(
                folder, trials, f"{subject_folder}/roi_masks/{side}", scales.sites[columns[side]]
            )
        for atlas, name in zip(atlases, mappings, strict=True):
            names = {0: "Unknown", **dict(enumerate(ATLASES[atlas], start=1))}
            with written_whole(folder.path / name) as partial, partial.open("wb") as file:
                np.save(file, np.array(names, dtype=object), allow_pickle=True)

    names = [*tables.values(), *arrays.values(), *ceilings.values(), *masks, *mappings]
    folder.write(names, digest, write_files, [trials])


class _Scales:
    """Mean and standard deviation of each session, and the sites that have data in all of them.

    Attributes
    ----------
    sites : ndarray of int64, shape (n_sites,)
        Columns of the reader; those of nsdgeneral that have data in every session.
    """

    def __init__(self, trials: TrialsFile, sites: NDArray[np.int64]) -> None:
        self._trials = trials
        session = trials.trials["session"].to_numpy()
        self._row_of_session = np.searchsorted(np.unique(session), session)
        means, deviations = [], []
        blocks = np.array_split(sites, -(-len(sites) // _SITES_AT_ONCE) or 1)
        for rows in trials.sessions():
            values = trials.reader[rows]
            mean_of_session, deviation_of_session = [], []
            for block in blocks:
                own = np.take(values, block, axis=1).astype(np.float64)
                mean_of_session.append(own.mean(axis=0))
                deviation_of_session.append(own.std(axis=0))
            means.append(np.concatenate(mean_of_session))
            deviations.append(np.concatenate(deviation_of_session))
            del values  # before the next session is read
            current_stage().advance()
        mean, deviation = np.stack(means), np.stack(deviations)
        has_data = (np.isfinite(mean) & (deviation > 0)).all(axis=0)
        self.sites = sites[has_data]
        self._mean, self._deviation = mean[:, has_data], deviation[:, has_data]

    def columns_of(self, side: str) -> NDArray[np.int64]:
        """Return which of `sites` lie in a hemisphere, int64."""
        hemisphere = self._trials.sites["hemisphere"].to_numpy()[self.sites].astype(str)
        return np.flatnonzero(hemisphere == side)

    def means(
        self, images: list[NDArray[np.int64]], columns: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return mean z-scores (n_images, n_columns) of images that are given by their rows."""
        rows = np.concatenate(images)
        values = np.take(self._trials.reader[rows], self.sites[columns], axis=1).astype(np.float64)
        session = self._row_of_session[rows]
        values -= np.take(self._mean, columns, axis=1)[session]
        values /= np.take(self._deviation, columns, axis=1)[session]
        ends = np.cumsum([len(image) for image in images])[:-1]
        return np.stack([repetitions.mean(axis=0) for repetitions in np.split(values, ends)])


def _write_masks(
    folder: ExportFolder, trials: TrialsFile, start: str, sites: NDArray[np.int64]
) -> None:
    """Write the masks of a hemisphere, of which `sites` are the columns of the responses."""
    side = start.rsplit("/", 1)[1]
    n_vertices = int(np.asarray(trials.attributes["vertices"])[_HEMISPHERES.index(side)])
    own = np.flatnonzero(trials.sites["hemisphere"].to_numpy().astype(str) == side)
    vertex = trials.sites["vertex_index"].to_numpy(dtype=np.int64)
    chosen = np.zeros(n_vertices, dtype=np.int64)
    chosen[vertex[sites]] = 1
    write_npy(folder.path / f"{start}.all-vertices_fsaverage_space.npy", chosen)
    for atlas, names in ATLASES.items():
        members: dict[int, Any] = {
            label: trials.sites[f"{MEMBERSHIP}{name}"].to_numpy(dtype=np.bool_)[own]
            for label, name in enumerate(names, start=1)
            if f"{MEMBERSHIP}{name}" in trials.sites
        }
        if not members:
            continue
        labels = np.zeros(n_vertices, dtype=np.int64)
        for label, is_member in members.items():
            labels[vertex[own[is_member]]] = label
        labels[chosen == 0] = 0
        write_npy(folder.path / f"{start}.{atlas}_fsaverage_space.npy", labels)
        write_npy(folder.path / f"{start}.{atlas}_challenge_space.npy", labels[chosen == 1])
