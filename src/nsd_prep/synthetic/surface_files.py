"""Write surfaces: fsaverage, and one subject's labels, transforms, betas and ncsnr."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
from nibabel.freesurfer.io import write_geometry, write_morph_data
from numpy.typing import NDArray

from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.space import FSAVERAGE, HEMISPHERES, NATIVESURFACE, Hemisphere
from nsd_prep.dataset.surfaces import NO_COUNTERPART
from nsd_prep.synthetic.anatomy import NO_PATCH, Cortex
from nsd_prep.synthetic.betas import (
    BackgroundSession,
    NoiseCeilingSNR,
    simulate_vertices,
    stored_betas,
)
from nsd_prep.synthetic.formats import (
    FrameFile,
    Storage,
    with_folder,
    write_betas,
    write_label_table,
    write_mgh,
)
from nsd_prep.synthetic.labels import LABEL_NAMES, make_labels, make_labels_of_subject
from nsd_prep.synthetic.plan import SurfacePlan, SyntheticPlan
from nsd_prep.synthetic.streams import Purpose, random_stream
from nsd_prep.synthetic.surfaces import (
    Fsaverage,
    NativeHemisphere,
    cortical_sites,
    make_fsaverage,
    make_native,
)
from nsd_prep.synthetic.truth import VertexTruth, write_vertex_truth
from nsd_prep.synthetic.voxels import Tuned, draw_tuned, regions_of_patches

#: Families of labels that were drawn on fsaverage; the others are of the subject's own surface.
ATLASES: Final = ("streams", "nsdgeneral", "HCP_MMP1", "Kastner2015", "corticalsulc")
_BLOCK: Final = 8192  # vertices of a full session that are simulated at once


def write_fsaverage(dataset: Dataset, plan: SurfacePlan, seed: int) -> None:
    """Write what belongs to no subject: the meshes and labels of fsaverage."""
    fsaverage = make_fsaverage(plan, seed)
    template = replace(dataset, space=FSAVERAGE)
    labels = make_labels(fsaverage.sites)
    for side, hemisphere in enumerate(HEMISPHERES):
        write_geometry(  # type: ignore[no-untyped-call]
            with_folder(template.mesh_file("inflated", hemisphere)),
            fsaverage.inflated(side),
            fsaverage.faces[side],
            create_stamp="synthetic",
        )
        write_morph_data(  # type: ignore[no-untyped-call]
            with_folder(template.mesh_file("sulc", hemisphere)),
            fsaverage.side(fsaverage.sites.depth, side).astype(np.float32),
            fnum=len(fsaverage.faces[side]),
        )
        for family in ATLASES:
            path = with_folder(template.roi_file(1, family, hemisphere))
            write_mgh(path, fsaverage.side(labels[family], side))
    _write_tables(template, 1, ATLASES)


def write_subject_surfaces(
    dataset: Dataset,
    plan: SyntheticPlan,
    subject: int,
    *,
    cortex: Cortex,
    numbers: NDArray[np.int64],
    features: NDArray[np.float32],
    seed: int,
    storage: Storage,
    full: NDArray[np.bool_],
    on_file: Callable[[], None],
) -> None:
    """Write all surface files of one subject (1-based).

    `numbers`, (n_sessions, n_trials), are the images of trials, 1-based; `features` their latents,
    by number less 1; `full`, (n_sessions,), tells in which sessions every vertex has its chunk.
    `on_file` is called after each file of betas.
    """
    assert plan.surfaces is not None
    surfaces = plan.surfaces
    fsaverage = make_fsaverage(surfaces, seed)
    native = [make_native(surfaces, fsaverage, cortex, subject, side, seed) for side in (0, 1)]
    spaces = (
        replace(dataset, space=NATIVESURFACE),
        replace(dataset, space=FSAVERAGE, surface_files="mgh"),
    )
    _write_labels(spaces[0], subject, fsaverage, native, seed)
    for hemisphere, surface in zip(HEMISPHERES, native, strict=True):
        _write_transforms(dataset, subject, hemisphere, surface)

    tuned_vertices = [np.flatnonzero(surface.tuned_patch != NO_PATCH) for surface in native]
    patches = [
        surface.tuned_patch[vertices]
        for surface, vertices in zip(native, tuned_vertices, strict=True)
    ]
    # Both hemispheres at once: few vertices have no data.
    generator = random_stream(seed, Purpose.VERTICES, subject)
    region = regions_of_patches(np.concatenate(patches))
    # Of few images, all first or all last repetitions may lie in the first or the last session: a
    # vertex without data in it would have no reliability at all.
    tuned = draw_tuned(plan.subjects[subject], region, generator, first_and_last_whole=True)
    truth = {}
    start = 0
    for side, hemisphere in enumerate(HEMISPHERES):
        part = slice(start, start + len(tuned_vertices[side]))
        start = part.stop
        writer = _HemisphereWriter(
            spaces=spaces,
            subject=subject,
            side=side,
            surface=native[side],
            vertex_index=tuned_vertices[side],
            tuned=Tuned(**{name: values[part] for name, values in vars(tuned).items()}),
            seed=seed,
            storage=storage,
        )
        ncsnr = writer.write_sessions(numbers, features, full, full | surfaces.every_mgh, on_file)
        truth[hemisphere] = VertexTruth(writer.vertex_index, **_truth_of(writer.tuned), ncsnr=ncsnr)
    write_vertex_truth(dataset.root, subject, truth)


def _truth_of(tuned: Tuned) -> dict[str, NDArray[Any]]:
    names = {field.name for field in fields(VertexTruth)}
    return {name: values for name, values in vars(tuned).items() if name in names}


@dataclass(frozen=True, kw_only=True)
class _HemisphereWriter:
    """Writes the betas and ncsnr of a subject's hemisphere in both spaces, session by session.

    `spaces` are the dataset on the native surface and on fsaverage; `tuned` is true of the
    vertices `vertex_index` of `surface`, ascending.
    """

    spaces: tuple[Dataset, Dataset]
    subject: int
    side: int
    surface: NativeHemisphere
    vertex_index: NDArray[np.int64]
    tuned: Tuned
    seed: int
    storage: Storage

    @property
    def _hemisphere(self) -> Hemisphere:
        return HEMISPHERES[self.side]

    def write_sessions(
        self,
        numbers: NDArray[np.int64],
        features: NDArray[np.float32],
        full: NDArray[np.bool_],
        with_mgh: NDArray[np.bool_],
        on_file: Callable[[], None],
    ) -> NDArray[np.float32]:
        """Write all sessions and the ncsnr; give the latter of the tuned vertices."""
        halves = [NoiseCeilingSNR(numbers, self.tuned.has_data, split) for split in (1, 0)]
        for session, images in enumerate(numbers, start=1):
            generator = random_stream(
                self.seed, Purpose.SURFACE_SESSION, self.subject, session, self.side
            )
            betas = simulate_vertices(self.tuned, features[images - 1], session, generator)
            stored = stored_betas(betas)
            for half in halves:
                half.add(session, stored)
            self._write_session(session, betas, full[session - 1], with_mgh[session - 1])
            on_file()
        ncsnr = halves[0].pooled(halves[1])
        self._write_ncsnr("", ncsnr)
        for number, half in enumerate(halves, start=1):
            self._write_ncsnr(f"_split{number}", half.result())
        return ncsnr

    def _write_session(
        self, session: int, betas: NDArray[np.float32], full: bool, with_mgh: bool
    ) -> None:
        native, fsaverage = (
            with_folder(space.session_file(self.subject, session, self._hemisphere))
            for space in self.spaces
        )
        n_trials = betas.shape[1]
        frames = (
            FrameFile(fsaverage, len(self.surface.white_to_fsaverage), n_trials)
            if with_mgh
            else None
        )
        blocks = self._all_vertices(betas, session) if full else [(self.vertex_index, betas)]

        def stored() -> Iterator[tuple[NDArray[np.int64], NDArray[np.int16]]]:
            for vertices, values in blocks:
                if frames is not None:
                    target, rows = self._taken_from(vertices)
                    frames.add(target, values[rows])
                yield vertices, stored_betas(values)

        sites = (len(self.surface.directions),)
        write_betas(native, stored(), n_trials=n_trials, sites=sites, storage=self.storage)
        if frames is not None:
            frames.close()

    def _taken_from(
        self, vertices: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give the vertices of fsaverage that are taken from some, ascending, and from which."""
        source = self.surface.white_to_fsaverage
        row = np.searchsorted(vertices, source).clip(max=len(vertices) - 1)
        target = np.flatnonzero(vertices[row] == source)
        return target, row[target]

    def _all_vertices(
        self, betas: NDArray[np.float32], session: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Give every vertex, in parts: noise where no region is, and nothing on the medial wall."""
        has_noise = ~np.isnan(self.surface.voxel[:, 0])
        has_noise[self.vertex_index] = False
        key = (self.subject, self.side)
        noise = BackgroundSession(
            int(has_noise.sum()),
            betas.shape[1],
            sites=random_stream(self.seed, Purpose.BACKGROUND_VERTICES, *key),
            session=random_stream(self.seed, Purpose.BACKGROUND_SURFACE_SESSION, *key, session),
        )
        for first in range(0, len(has_noise), _BLOCK):
            vertices = np.arange(first, min(first + _BLOCK, len(has_noise)))
            values = np.full((len(vertices), betas.shape[1]), np.nan, dtype=np.float32)
            start, stop = np.searchsorted(self.vertex_index, [first, first + _BLOCK])
            values[self.vertex_index[start:stop] - first] = betas[start:stop]
            noisy = np.flatnonzero(has_noise[vertices])
            values[noisy] = noise.next_vertices(len(noisy))
            yield vertices, values

    def _write_ncsnr(self, suffix: str, ncsnr: NDArray[np.float32]) -> None:
        native = np.full(len(self.surface.directions), np.nan, dtype=np.float32)
        native[self.vertex_index] = ncsnr
        on_spaces = (native, native[self.surface.white_to_fsaverage])
        for space, values in zip(self.spaces, on_spaces, strict=True):
            path = space.ncsnr_file(self.subject, self._hemisphere)
            write_mgh(with_folder(path.with_name(f"{path.stem}{suffix}{path.suffix}")), values)


def _write_labels(
    dataset: Dataset,
    subject: int,
    fsaverage: Fsaverage,
    native: list[NativeHemisphere],
    seed: int,
) -> None:
    own = make_labels_of_subject(
        cortical_sites(
            [surface.directions for surface in native],
            [surface.patch for surface in native],
            [surface.overlap for surface in native],
            seed,
        ),
        subject,
    )
    template = make_labels(fsaverage.sites)
    first = 0
    for side, (hemisphere, surface) in enumerate(zip(HEMISPHERES, native, strict=True)):
        for family, labels in own.items():
            path = with_folder(dataset.roi_file(subject, family, hemisphere))
            if family in ATLASES:
                of_template = fsaverage.side(template[family], side)
                write_mgh(path, of_template[surface.fsaverage_to_white])
            else:
                write_mgh(path, labels[first : first + len(surface.directions)])
        first += len(surface.directions)
    _write_tables(dataset, subject, tuple(own))


def _write_tables(dataset: Dataset, subject: int, families: tuple[str, ...]) -> None:
    for family in families:
        table = dataset.label_table(subject, family)
        assert table is not None
        write_label_table(with_folder(table), LABEL_NAMES[family])


def _write_transforms(
    dataset: Dataset, subject: int, hemisphere: Hemisphere, surface: NativeHemisphere
) -> None:
    """Write the ways between spaces, which count from 1."""
    transforms = {
        "white-to-fsaverage": surface.white_to_fsaverage + 1,
        "fsaverage-to-white": surface.fsaverage_to_white + 1,
        "func1pt8-to-white": np.nan_to_num(surface.voxel + 1, nan=NO_COUNTERPART),
    }
    for name, values in transforms.items():
        path = dataset.transform_file(subject, name, hemisphere)  # type: ignore[arg-type]
        write_mgh(with_folder(path), values)
