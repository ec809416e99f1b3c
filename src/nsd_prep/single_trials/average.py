"""One response an image: single trials averaged over the repetitions that there are."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.atomic import explained_write_errors
from nsd_prep.core.counts import counted
from nsd_prep.core.errors import InputFileError

#: Images given at once.
_IMAGES_AT_ONCE: Final = 500


def averaged_images(
    sessions: Iterable[tuple[int, NDArray[np.float32]]],
    trials: pd.DataFrame,
    images: pd.DataFrame,
    n_voxels: int,
    scratch: Path,
) -> Iterator[NDArray[np.float32]]:
    """Average each image's trials in float32, in the order of the trials.

    The running sums are kept in a temporary file, since those of all images of a subject would
    fill a computer's memory. For three repetitions the result is ``responses.mean(axis=1)`` of the
    assemblies, bit for bit.

    Parameters
    ----------
    sessions : iterable of (int, ndarray of float32, shape (n_trials, n_voxels))
        Every session (1-based, ascending) with the responses of its trials in `trials`.
    trials : DataFrame
        The trials of these images, as `nsd_prep.dataset.trials.trial_table` gives them.
    images : DataFrame
        `nsd_prep.dataset.trials.image_table` of these trials.
    n_voxels : int
        Columns of the responses.
    scratch : Path
        A folder for the temporary file: n_images x n_voxels x 4 bytes.

    Yields
    ------
    ndarray of float32, shape (n_some_images, n_voxels)
        Mean responses, in the order of `images`.

    Raises
    ------
    InputFileError
        The trials of an image are not all there.
    OutputError
        The disk is full or cannot be written.
    """
    nsd_ids = images["nsd_id"].to_numpy()
    times = images["n_repetitions"].to_numpy()
    session_of_trial, nsd_id_of_trial = trials["session"].to_numpy(), trials["nsd_id"].to_numpy()
    seen = np.zeros(len(images), dtype=np.int64)
    with explained_write_errors(scratch):
        file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 (closed below)
    with file:
        for session, responses in sessions:
            shown = np.searchsorted(nsd_ids, nsd_id_of_trial[session_of_trial == session])
            if len(shown) != len(responses):
                raise InputFileError(
                    f"Session {session} has {len(responses)} trials: expected {len(shown)}, as the "
                    "table of trials has; give the trials that the table was made for."
                )
            with explained_write_errors(scratch):
                for image, response in zip(shown.tolist(), responses, strict=True):
                    total = np.ascontiguousarray(response)
                    if seen[image]:
                        file.seek(image * n_voxels * 4)
                        total = np.frombuffer(file.read(n_voxels * 4), np.float32) + response
                    seen[image] += 1
                    if seen[image] == times[image]:
                        total = total / np.float32(times[image])
                    file.seek(image * n_voxels * 4)
                    file.write(total.tobytes())
        wrong = np.flatnonzero(seen != times)
        if len(wrong):
            raise InputFileError(
                f"nsd_id {nsd_ids[wrong[0]]} came {counted(seen[wrong[0]], 'time')}, and "
                f"{len(wrong)} of {len(images)} images not as often as the table of trials has "
                f"them: expected {times[wrong[0]]}; give every session that the table holds."
            )
        file.seek(0)
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            count = min(_IMAGES_AT_ONCE, len(images) - start)
            block = np.frombuffer(file.read(count * n_voxels * 4), np.float32)
            yield block.reshape(count, n_voxels)
