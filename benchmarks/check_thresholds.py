"""How often the checks of single trials err: simulated subjects, sound and wrongly put together.

    python benchmarks/check_thresholds.py --seeds 100                 # small datasets, minutes
    python benchmarks/check_thresholds.py --seeds 10 --real --sound   # NSD's sizes, 15 minutes
    python benchmarks/check_thresholds.py --seeds 1 --real            # with errors, minutes

Prints, for each size, median noise ceiling, error and check, the lowest, mean and highest share
found, and how many were passed, undecided and failed. docs/checks.md sums it up.
"""

import argparse
import itertools
from collections import Counter, defaultdict

import numpy as np
from numpy.typing import NDArray
from simulated_subject import SimulatedSubject, simulate_subject

from nsd_prep.data_checks.alignment import align
from nsd_prep.data_checks.decision import is_as_predicted
from nsd_prep.data_checks.reliability import split_half_reliability
from nsd_prep.data_checks.sessions import agreement_of_trials, session_table

#: images, sessions, voxels
SMALL = [(24, 2, 15), (24, 2, 50), (60, 5, 60), (130, 10, 60), (130, 10, 110), (130, 10, 300)]
REAL = [(515, 15, 480), (515, 15, 1100), (515, 15, 7800), (1000, 30, 480), (1000, 30, 1100)]
NOISE_CEILINGS = (5.0, 10.0, 20.0, 35.0, 50.0)
COMMON_NOISE = (0.0, 0.3)


def wrongly_put_together(
    simulated: SimulatedSubject, generator: np.random.Generator
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]]:
    """Return the responses, sessions and ncsnr of sound data and of data with an error."""
    responses, session = simulated.responses()
    shifted = np.roll(simulated.image.ravel(), 1).reshape(simulated.image.shape)
    other = generator.permutation(simulated.image.ravel()).reshape(simulated.image.shape)
    swapped = simulated.image.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    one_wrong = responses.copy()
    one_wrong[:, 2] = np.roll(one_wrong[:, 2], 1, axis=0)
    copied = np.repeat(responses.mean(axis=1, keepdims=True), 3, axis=1)
    ncsnr = simulated.ncsnr
    return {
        "sound": (responses, session, ncsnr),
        "trials shifted by one": (*simulated.responses(shifted), ncsnr),
        "another table": (*simulated.responses(other), ncsnr),
        "one repetition of other images": (one_wrong, session, ncsnr),
        "averages for repetitions": (copied, session, ncsnr),
        "ncsnr of other voxels": (responses, session, generator.permutation(ncsnr)),
        "two sessions swapped": (*simulated.responses(swapped), ncsnr),
    }


def main() -> None:
    """Simulate, check, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--sound", action="store_true", help="sound data only")
    parser.add_argument("--real", action="store_true", help="NSD's numbers of images and voxels")
    arguments = parser.parse_args()
    values = defaultdict(list)
    verdicts: dict[tuple[object, ...], Counter[bool | None]] = defaultdict(Counter)
    sizes = REAL if arguments.real else SMALL
    cases = list(itertools.product(sizes, NOISE_CEILINGS, COMMON_NOISE))
    for (size, ceiling, common), seed in itertools.product(cases, range(arguments.seeds)):
        generator = np.random.default_rng([seed, *size, round(ceiling), round(10 * common)])
        n_images, n_sessions, n_voxels = size
        simulated = simulate_subject(
            generator,
            n_images=n_images,
            n_voxels=n_voxels,
            n_sessions=n_sessions,
            noise_ceiling=ceiling,
            common_noise=common,
        )
        everywhere = np.zeros(n_voxels, dtype=np.int64)
        built = (
            {"sound": (*simulated.responses(), simulated.ncsnr)}
            if arguments.sound
            else wrongly_put_together(simulated, generator)
        )
        for error, (responses, session, ncsnr) in built.items():
            alignment = align(responses, ncsnr, everywhere, simulated.image.shape[1])
            reliability = split_half_reliability(responses, ncsnr, everywhere)
            shares = {
                "trials": alignment.trials,
                "voxels": alignment.voxels,
                "reliability": reliability.share,
            }
            for name, share in shares.items():
                values[size, ceiling, error, name].append(share.value)
                verdicts[size, ceiling, error, name][is_as_predicted(share)] += 1
            sessions = session_table([agreement_of_trials(responses, session, ncsnr, everywhere)])
            wrong = sessions.index.isin([1, 2]) & (error == "two sessions swapped")
            for name, part in (("sessions", sessions[~wrong]), ("swapped", sessions[wrong])):
                values[size, ceiling, error, name] += part["agreement"].tolist()
                verdicts[size, ceiling, error, name].update(part["in_place"].tolist())
    print("images sessions voxels NC%  error  check  lowest mean highest  passed undecided failed")
    for (size, ceiling, error, name), found in values.items():
        if found:
            of = verdicts[size, ceiling, error, name]
            print(
                *size,
                f"{ceiling:g}",
                f"{error:32s} {name:12s}",
                f"{np.min(found):6.2f} {np.mean(found):6.2f} {np.max(found):6.2f}",
                f"{of[True]:6d} {of[None]:6d} {of[False]:6d}",
            )


if __name__ == "__main__":
    main()
