"""How often the checks err: simulated subjects, sound and wrongly put together.

    python benchmarks/check_thresholds.py --seeds 100 --sound         # false alarms, small datasets
    python benchmarks/check_thresholds.py --seeds 20                  # with errors
    python benchmarks/check_thresholds.py --seeds 3 --real            # NSD's sizes
    python benchmarks/check_thresholds.py --seeds 100 --records       # the records of sessions
    python benchmarks/check_thresholds.py --seeds 100 --subjects      # agreement between subjects
    python benchmarks/check_thresholds.py --seeds 100 --presentations # files of single trials
    python benchmarks/check_thresholds.py --seeds 80 --regions        # regions: identity, order
    python benchmarks/check_thresholds.py --seeds 15 --conditions     # sessions that differ
    python benchmarks/check_thresholds.py --seeds 10 --runs           # runs, by all repeated images

Each size is simulated with median noise ceilings of 5, 10, 20, 35 and 50 % and with 0 and 30 % of
the noise common to many voxels. Prints, for each size, error and check, the lowest and highest
share found and how many were passed, not decidable, suspicious and failed. docs/checks.md sums up.
"""

import argparse
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from simulated_subject import (
    Condition,
    SimulatedSubject,
    simulate_condition,
    simulate_subject,
)

from nsd_prep.analysis.rdm import upper_triangle
from nsd_prep.checks import SingleTrials, check_session_records
from nsd_prep.checks.alignment import NCSNR_OF_VOXELS, TRIALS_OF_IMAGES, align, check_alignment
from nsd_prep.checks.decision import verdict_of_share
from nsd_prep.checks.presentations import (
    share_of_presentations,
    telling_voxels,
    verdict_of_presentations,
)
from nsd_prep.checks.probes import N_PROBES
from nsd_prep.checks.rdms import rdm_reliability
from nsd_prep.checks.region_identity import check_region_identity
from nsd_prep.checks.region_order import REGIONS_IN_ORDER, check_region_order, region_order
from nsd_prep.checks.reliability import check_reliability, split_half_reliability
from nsd_prep.checks.sessions import check_sessions, session_agreement_table
from nsd_prep.checks.subject_agreement import check_subject_agreement, subject_agreement
from nsd_prep.checks.trial_agreement import agreement_of_trials
from nsd_prep.core.check import Check
from nsd_prep.dataset.published import run_lengths
from nsd_prep.extraction.statistics import describe_part

#: images, sessions, voxels, trials in a session (0: the images' alone)
SMALL = [(24, 2, 15, 0), (24, 2, 50, 0), (60, 5, 60, 0), (130, 10, 60, 0), (130, 10, 300, 0)]
REAL = [(520, 30, 480, 750), (520, 30, 1100, 750), (1000, 40, 1100, 750), (520, 30, 7800, 750)]
NOISE_CEILINGS = (5.0, 10.0, 20.0, 35.0, 50.0)
COMMON_NOISE = (0.0, 0.3)
VERDICTS = ("passed", "not decidable", "suspicious", "failed")
#: Session (0-based) that errors are put into.
WRONG = 1


def wrongly_put_together(
    simulated: SimulatedSubject, every: int, generator: np.random.Generator
) -> Iterator[tuple[str, SingleTrials]]:
    """Give sound data and data with errors."""
    image, trials, ncsnr = simulated.image, simulated.trials, simulated.ncsnr
    n_trials = image.shape[1]

    def with_images(changed: np.ndarray) -> SingleTrials:
        return simulated.single_trials(changed, trials_per_session=every)

    def with_session(changed: np.ndarray) -> SingleTrials:
        other = trials.copy()
        other[WRONG] = changed
        return replace(simulated, trials=other).single_trials(trials_per_session=every)

    sound = with_images(image)
    yield "sound", sound
    yield "trials shifted by one", with_images(np.roll(image.ravel(), 1).reshape(image.shape))
    yield "another table", with_images(generator.permutation(image.ravel()).reshape(image.shape))
    responses = sound.responses.copy()
    responses[:, 2] = np.roll(responses[:, 2], 1, axis=0)
    yield "one repetition of other images", replace(sound, responses=responses)
    averaged = np.repeat(sound.responses.mean(axis=1, keepdims=True), 3, axis=1)
    yield "averages for repetitions", replace(sound, responses=averaged)
    yield "ncsnr of other voxels", replace(sound, ncsnr=generator.permutation(ncsnr))
    # As on a smooth map moved by a voxel: half of the voxels' differences are others'.
    moved = np.where(generator.random(len(ncsnr)) < 0.6, ncsnr, generator.permutation(ncsnr))
    yield "ncsnr moved by a voxel", replace(sound, ncsnr=moved)
    swapped = image.copy()
    swapped[[0, WRONG]] = swapped[[WRONG, 0]]
    yield "two sessions swapped", with_images(swapped)
    yield "session reversed", with_session(trials[WRONG, ::-1])
    late = trials[WRONG].copy()
    late[n_trials // 2 : -1] = late[n_trials // 2 + 1 :]
    yield "trial lost in the middle", with_session(late)
    runs = np.minimum(
        np.searchsorted(
            np.cumsum(run_lengths(every)), np.arange(n_trials) * every // n_trials, side="right"
        ),
        len(run_lengths(every)) - 1,
    )
    exchanged = trials[WRONG].copy()
    first, second = (np.flatnonzero(runs == run) for run in (2, 6))
    size = min(len(first), len(second))
    exchanged[first[:size]], exchanged[second[:size]] = (
        trials[WRONG, second[:size]],
        trials[WRONG, first[:size]],
    )
    yield "two runs exchanged", with_session(exchanged)
    zeros = np.zeros_like(trials[WRONG])
    yield "session of zeros", with_session(zeros)
    other = trials.copy()
    other[WRONG] = 0
    shifted = np.roll(image.ravel(), 1).reshape(image.shape)
    both = replace(simulated, trials=other).single_trials(shifted, trials_per_session=every)
    yield "shifted, and a session of zeros", both
    for share in (1 / 3, 0.15):
        lost = (1 - share) * simulated.gain[WRONG]
        tired = trials[WRONG] - lost * simulated.signal[image[WRONG]]
        yield f"tired session, {share:.0%} of the signal", with_session(tired)


def simulated_checks(
    arguments: argparse.Namespace,
) -> Iterator[tuple[tuple[object, ...], str, float]]:
    """Give (size, error, check), verdict and value of every check of single trials."""
    sizes = REAL if arguments.real else SMALL
    if arguments.size is not None:
        sizes = sizes[arguments.size : arguments.size + 1]
    cases = itertools.product(sizes, NOISE_CEILINGS, COMMON_NOISE, range(arguments.seeds))
    for size, ceiling, common, seed in cases:
        generator = np.random.default_rng([seed, *size, round(ceiling), round(10 * common)])
        n_images, n_sessions, n_voxels, every = size
        simulated = simulate_subject(
            generator,
            n_images=n_images,
            n_voxels=n_voxels,
            n_sessions=n_sessions,
            noise_ceiling=ceiling,
            common_noise=common,
        )
        every = every or simulated.image.shape[1]
        for error, trials in wrongly_put_together(simulated, every, generator):
            alignment = align(trials)
            shares = {
                "trials": alignment.trials,
                "slope": alignment.voxels,
                "reliability": split_half_reliability(trials).share,
            }
            names = {TRIALS_OF_IMAGES.name: "trials", NCSNR_OF_VOXELS.name: "slope"}
            for check in check_alignment("region", "subj01", alignment):
                share = shares[names[check.name]]
                yield (size, error, names[check.name]), check.verdict, share.value
            share = shares["reliability"]
            yield (size, error, "reliability"), verdict_of_share(share), share.value
            agreement = agreement_of_trials(trials)
            value = session_agreement_table([agreement])["agreement"].to_numpy()
            for check in check_sessions("subj01", {"region": agreement}):
                yield (size, error, check.name), check.verdict, float(value[WRONG])
            if arguments.sound:
                break


def simulated_records(
    arguments: argparse.Namespace,
) -> Iterator[tuple[tuple[object, ...], str, float]]:
    """Give the verdicts on the records of sound sessions, with drifts, dead and edge voxels."""
    for (n_voxels, n_sessions), seed in itertools.product(
        ((1, 3), (5, 6), (20, 30), (80, 40), (1000, 40)), range(10 * arguments.seeds)
    ):
        generator = np.random.default_rng([seed, n_voxels, n_sessions])
        n_trials = 60
        scale = 400 * generator.lognormal(0, 0.4, (n_voxels, 1))
        mean = generator.normal(150, 200, (n_voxels, 1))
        at_edge = generator.random(n_voxels) < 0.05
        records = {}
        for session in range(1, n_sessions + 1):
            noise = generator.normal(size=(n_voxels, n_trials))
            values = mean + generator.normal(0, 60, (n_voxels, 1))
            values = values + scale * generator.lognormal(0, 0.1) * noise
            values = np.clip(values, -32768, 32767).astype(np.int16)
            lost = generator.random(n_voxels) < np.where(at_edge, 0.5, 0.005)
            values[lost] = 0
            records[session] = {"region": describe_part(values, run_lengths(n_trials))}
        for check in check_session_records(1, records):
            yield ((n_voxels, n_sessions), "sound", check.name), check.verdict, 0.0


def simulated_subjects(
    arguments: argparse.Namespace,
) -> Iterator[tuple[tuple[object, ...], str, float]]:
    """Give the verdicts on agreement between subjects who share some, or none, of the signal."""
    cases = itertools.product(
        (3, 8), (20, 130), (10, 60, 300), (0.0, 0.2, 0.6), range(arguments.seeds)
    )
    for n_subjects, n_images, n_voxels, shared, seed in cases:
        numbers = [seed, n_subjects, n_images, n_voxels, round(10 * shared)]
        generator = np.random.default_rng(numbers)
        common = generator.normal(size=(2, n_images, 12))
        rdms: dict[str, list[np.ndarray]] = {"A": [], "B": []}
        reliability: dict[str, list[float]] = {"A": [], "B": []}
        for _ in range(n_subjects):
            for latents, region in zip(common, rdms, strict=True):
                own = generator.normal(size=latents.shape)
                features = np.sqrt(shared) * latents + np.sqrt(1 - shared) * own
                tuning = generator.normal(size=(12, n_voxels)) / np.sqrt(12)
                strength = generator.lognormal(-0.7, 0.7, n_voxels)
                noise = generator.normal(size=(n_images, 3, n_voxels))
                trials = ((features @ tuning) * strength)[:, np.newaxis] + noise
                rdms[region].append(1 - np.corrcoef(trials.mean(axis=1)))
                reliability[region].append(rdm_reliability(trials.astype(np.float32)))
        subjects = list(range(1, n_subjects + 1))
        stacks = {region: np.stack(rdm) for region, rdm in rdms.items()}
        checks: list[Check] = check_region_identity(subjects, _upper_triangles(stacks))
        agreement = subject_agreement(stacks["A"], permutations=250)
        of_rdms = partial(np.array, reliability["A"])
        checks += check_subject_agreement("A", subjects, agreement, of_rdms)
        size = f"{n_subjects} subjects, {n_images} images, {n_voxels} voxels, {shared:.0%} shared"
        for check in checks:
            yield (size, "sound", check.name), check.verdict, 0.0


def simulated_presentations(
    arguments: argparse.Namespace,
) -> Iterator[tuple[tuple[object, ...], str, float]]:
    """Give the verdicts on files of single trials: sound ones, and two with wrong rows."""
    sizes = ((60, 5, 60), (130, 10, 300), (520, 30, 480), (1000, 40, 1100))
    cases = itertools.product(sizes, NOISE_CEILINGS, COMMON_NOISE, range(arguments.seeds))
    for (n_images, n_sessions, n_voxels), ceiling, common, seed in cases:
        numbers = [seed, n_images, n_sessions, n_voxels, round(ceiling), round(10 * common)]
        simulated = simulate_subject(
            np.random.default_rng(numbers),
            n_images=n_images,
            n_voxels=n_voxels,
            n_sessions=n_sessions,
            noise_ceiling=ceiling,
            common_noise=common,
        )
        telling = telling_voxels(simulated.ncsnr)
        responses = simulated.single_trials().responses[:, :, telling]
        shifted = np.roll(responses[:, 1], 1, axis=0)
        half = np.where(np.arange(n_images)[:, np.newaxis] % 2, responses[:, 1], shifted)
        for error, second in (
            ("sound", responses[:, 1]),
            ("half of the rows of other images", half),
            ("rows of other images", shifted),
            ("copies", responses[:, 0]),
        ):
            share = share_of_presentations(responses[:, 0], second, simulated.ncsnr[telling])
            key = ((n_images, n_voxels), error, "single trials belong to their images")
            yield key, verdict_of_presentations(share), share.value


#: Weights of three groups of features: regions of one geometry, of nearly one, of a hierarchy.
GEOMETRIES = {
    "equal": dict.fromkeys(REGIONS_IN_ORDER, (1, 0, 0)),
    "nearly equal": {
        name: (np.sqrt(1 - (0.1 * position) ** 2), 0.1 * position, 0)
        for position, name in enumerate(REGIONS_IN_ORDER)
    },
    "hierarchy": {"V1": (1, 0.3, 0), "V2": (1, 0.7, 0.1), "V4": (0.4, 1, 0.3), "IT": (0, 0.4, 1)},
}


def simulated_regions(
    arguments: argparse.Namespace,
) -> Iterator[tuple[tuple[object, ...], str, float]]:
    """Give the verdicts on identity and order of regions, sound ones and exchanged in a subject.

    Drawn anew each time: 60 to 300 images, regions of 5 to 1000 voxels (100 where exchanged),
    whether regions overlap, what subjects share, whether few features dominate, the noise's
    strength, and how much of it all regions of a subject share.
    """
    exchanges = [(name, ()) for name in GEOMETRIES]
    exchanges += [("hierarchy", pair) for pair in (("V1", "IT"), ("V1", "V4"), ("V1", "V2"))]
    cases = itertools.product(exchanges, (2, 3, 4, 5, 8), range(arguments.seeds))
    for (geometry, exchanged), n_subjects, seed in cases:
        generator = np.random.default_rng([seed, n_subjects, len(geometry), bool(exchanged)])
        rdms = _rdms_of_regions(generator, geometry, n_subjects, clear=bool(exchanged))
        if exchanged:
            first, second = exchanged
            rdms[first][1], rdms[second][1] = rdms[second][1].copy(), rdms[first][1].copy()
        size = f"{geometry}, {n_subjects} subjects"
        wrong = f"{exchanged} exchanged" if exchanged else "sound"
        checks = check_region_identity(list(range(1, n_subjects + 1)), _upper_triangles(rdms))
        for row, check in enumerate(checks):
            is_wrong = exchanged and (row == 1 or n_subjects == 2)
            yield (size, wrong if is_wrong else "sound", check.name), check.verdict, 0.0
        order = check_region_order(region_order(rdms), rdms["V1"].shape[1])
        yield (size, "sound" if not exchanged else "one subject", order.name), order.verdict, 0.0


def _upper_triangles(rdms: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.stack([upper_triangle(rdm) for rdm in own]) for name, own in rdms.items()}


def _rdms_of_regions(
    generator: np.random.Generator, geometry: str, n_subjects: int, *, clear: bool
) -> dict[str, np.ndarray]:
    n_images, n_features = int(generator.choice([60, 150, 300])), 12
    fewest = 100 if clear else 5
    n_voxels = np.exp(generator.uniform(np.log(fewest), np.log(1000), 4)).astype(int)
    shared = float(generator.choice([0.6, 1.0] if clear else [0.0, 0.2, 0.6, 1.0]))
    strength = float(generator.choice([0.65, 1.0] if clear else [0.33, 0.65, 1.0]))
    common_noise = float(generator.choice([0.0, 0.3, 0.8]))
    overlap = bool(generator.integers(2)) and not clear
    features = np.arange(1, n_features + 1)
    spectrum = np.ones(n_features) if generator.integers(2) else 1 / features
    common = generator.normal(size=(3, n_images, n_features))
    rdms: dict[str, list[np.ndarray]] = {name: [] for name in REGIONS_IN_ORDER}
    for _ in range(n_subjects):
        own = generator.normal(size=common.shape)
        latents = (np.sqrt(shared) * common + np.sqrt(1 - shared) * own) * spectrum
        noise_of_subject = generator.normal(size=(n_images, 12))
        before = np.empty((3 * n_features, 0))
        for number, (name, weights) in zip(n_voxels, GEOMETRIES[geometry].items(), strict=True):
            tuning = generator.normal(size=(3 * n_features, number))
            if overlap:
                half = min(number, before.shape[1]) // 2
                tuning[:, :half] = before[:, :half]
            before = tuning
            signal = np.concatenate([w * x for w, x in zip(weights, latents, strict=True)], 1)
            values = signal @ tuning
            values *= strength * generator.lognormal(0, 0.5, number) / values.std()
            values += np.sqrt(1 - common_noise) * generator.normal(size=values.shape)
            loading = generator.normal(size=(12, number)) / np.sqrt(12)
            values += np.sqrt(common_noise) * noise_of_subject @ loading
            rdms[name].append(1 - np.corrcoef(values))
    return {name: np.stack(stack) for name, stack in rdms.items()}


CONDITIONS: dict[str, Condition] = {
    "as simulated otherwise": Condition(),
    "noise by session, SD .6": Condition(noise=0.6),
    "noise by session, SD 1": Condition(noise=1.0),
    "signal by session, SD .36": Condition(signal=0.36),
    "signal by session, SD .5": Condition(signal=0.5),
    "gain by session, SD .6": Condition(gain=0.6),
    "repetition suppression of 40 %": Condition(suppression=0.4),
    "ncsnr a fifth too low": Condition(ncsnr=0.8),
    "ncsnr a fifth too high": Condition(ncsnr=1.2),
    "noise of trials correlated .9": Condition(autocorrelation=0.9),
}


def simulated_conditions(
    arguments: argparse.Namespace,
) -> Iterator[tuple[tuple[object, ...], str, float]]:
    """Give the verdicts on sound subjects whose sessions, repetitions or ncsnr differ."""
    for (name, condition), seed in itertools.product(CONDITIONS.items(), range(arguments.seeds)):
        generator = np.random.default_rng([seed, 7])
        trials, repeated, raw = simulate_condition(
            generator,
            condition,
            n_voxels=int(generator.choice([60, 200])),
            noise_ceiling=float(generator.choice(NOISE_CEILINGS)),
            common_noise=float(generator.choice(COMMON_NOISE)),
        )
        lengths = run_lengths(raw.shape[2])
        records = {
            session: {"region": describe_part(values, lengths)}
            for session, values in enumerate(raw, 1)
        }
        reliability = split_half_reliability(trials)
        checks = [
            *check_alignment("region", "subj01", align(trials)),
            check_reliability("region", "subj01", reliability, trials.ncsnr),
            *check_sessions(
                "subj01",
                {"region": agreement_of_trials(trials)},
                repeated=[agreement_of_trials(repeated)],
            ),
            *check_session_records(1, records),
        ]
        for check in checks:
            value = np.nan if check.measured is None else check.measured
            yield ("515 images, 30 sessions", name, check.name), check.verdict, value


def simulated_runs(
    arguments: argparse.Namespace,
) -> Iterator[tuple[tuple[object, ...], str, float]]:
    """Give the verdicts on runs, by all images of 30 sessions of 750 trials, in 64 voxels."""
    lengths = run_lengths(750)
    ends = np.cumsum(lengths)
    runs = [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    cases = itertools.product(NOISE_CEILINGS, COMMON_NOISE, range(arguments.seeds))
    for ceiling, common, seed in cases:
        simulated = simulate_subject(
            np.random.default_rng([seed, round(ceiling), round(10 * common), 3]),
            n_images=7500,
            n_voxels=N_PROBES,
            n_sessions=30,
            noise_ceiling=ceiling,
            common_noise=common,
        )
        trials, image = simulated.trials, simulated.image
        signal = simulated.gain[WRONG] * simulated.signal[image[WRONG]]

        exchanged = trials[WRONG].copy()
        exchanged[runs[2]] = trials[WRONG, runs[6]]
        exchanged[runs[6]] = trials[WRONG, runs[2]]
        lost = trials[WRONG].copy()
        lost[runs[4].start : -1] = lost[runs[4].start + 1 :]
        asleep = trials[WRONG].copy()
        asleep[runs[8]] -= signal[runs[8]]
        tired = trials[WRONG].copy()
        tired[runs[9].start :] -= 0.7 * signal[runs[9].start :]
        for error, session in (
            ("sound", trials[WRONG]),
            ("two runs exchanged", exchanged),
            ("trial lost in the fifth run", lost),
            ("asleep in a run (sound)", asleep),
            ("30 % of the signal in the last three runs (sound)", tired),
        ):
            other = trials.copy()
            other[WRONG] = session
            single = replace(simulated, trials=other).single_trials(trials_per_session=750)
            _, check = check_sessions("subj01", {"region": agreement_of_trials(single)})
            yield (f"{ceiling:g} %", error, check.name), check.verdict, check.measured


def main() -> None:
    """Simulate, check, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--sound", action="store_true", help="sound data only")
    parser.add_argument("--real", action="store_true", help="NSD's numbers of images and voxels")
    parser.add_argument("--size", type=int, help="only the size of this number, from 0")
    parser.add_argument("--records", action="store_true", help="records of sessions")
    parser.add_argument("--subjects", action="store_true", help="agreement between subjects")
    parser.add_argument("--presentations", action="store_true", help="files of single trials")
    parser.add_argument("--regions", action="store_true", help="identity and order of regions")
    parser.add_argument("--conditions", action="store_true", help="sessions that differ")
    parser.add_argument("--runs", action="store_true", help="runs, by all repeated images")
    arguments = parser.parse_args()
    simulate = simulated_checks
    if arguments.records:
        simulate = simulated_records
    elif arguments.subjects:
        simulate = simulated_subjects
    elif arguments.presentations:
        simulate = simulated_presentations
    elif arguments.regions:
        simulate = simulated_regions
    elif arguments.runs:
        simulate = simulated_runs
    elif arguments.conditions:
        simulate = simulated_conditions
    values = defaultdict(list)
    verdicts: dict[tuple[object, ...], Counter[str]] = defaultdict(Counter)
    for key, verdict, value in simulate(arguments):
        values[key].append(value)
        verdicts[key][verdict] += 1
    print("size  error  check  lowest highest ", *VERDICTS, sep="\t")
    for (size, error, name), counts in verdicts.items():
        known = [value for value in values[size, error, name] if np.isfinite(value)] or [np.nan]
        numbers = [counts[verdict] for verdict in VERDICTS]
        print(size, error, name, f"{min(known):.2f}", f"{max(known):.2f}", *numbers, sep="\t")


if __name__ == "__main__":
    main()
