"""What explains many failed checks is named once, with what it explains."""

from nsd_prep.checks.alignment import TRIALS_OF_IMAGES
from nsd_prep.checks.causes import likeliest_causes
from nsd_prep.checks.placement import ORIENTATION
from nsd_prep.checks.published_kinds import PUBLISHED_VOXEL_COUNT
from nsd_prep.checks.region_order import REGION_ORDER
from nsd_prep.checks.registry import KINDS
from nsd_prep.checks.reliability import SPLIT_HALF_RELIABILITY
from nsd_prep.checks.session_statistics import SESSIONS_DIFFER
from nsd_prep.checks.sessions import SESSIONS_IN_PLACE
from nsd_prep.core.check import PROBLEMS, Check
from nsd_prep.pipeline.descriptions import remarks

#: As two sessions that are exchanged leave it.
EXCHANGED = [
    *(
        kind.check("suspicious", subject="subj02", region=region)
        for region in ("V1", "V2", "V4", "IT")
        for kind in (TRIALS_OF_IMAGES, SPLIT_HALF_RELIABILITY)
    ),
    SESSIONS_IN_PLACE.check("failed", subject="subj02"),
    REGION_ORDER.check("suspicious"),
]


def test_two_exchanged_sessions_are_one_cause() -> None:
    (cause,) = likeliest_causes(EXCHANGED)
    assert [check.name for check in cause.checks] == [SESSIONS_IN_PLACE.name]
    assert len(cause.others) == 9


def test_a_failed_check_comes_before_a_suspicious_one() -> None:
    failed = TRIALS_OF_IMAGES.check("failed", subject="subj01", region="V1")
    weak = SESSIONS_IN_PLACE.check("suspicious", subject="subj01")
    (cause,) = likeliest_causes([weak, failed])
    assert (cause.checks, cause.others) == ((failed,), (weak,))


def test_a_copied_file_explains_the_session_and_not_the_reverse() -> None:
    copied = SESSIONS_DIFFER.check(False, subject="subj01")
    at_chance = SESSIONS_IN_PLACE.check(False, subject="subj01")
    (cause,) = likeliest_causes([at_chance, copied])
    assert (cause.checks, cause.others) == ((copied,), (at_chance,))
    # Nothing explains masks that are turned but masks.
    turned = ORIENTATION.check(None, subject="subj01")
    assert all(turned not in cause.others for cause in likeliest_causes([at_chance, turned]))


def test_subjects_have_causes_of_their_own() -> None:
    other = SESSIONS_IN_PLACE.check("failed", subject="subj03")
    first, second = likeliest_causes([*EXCHANGED, other])
    assert first.checks[0].subject == "subj02"
    assert (second.checks, second.others) == ((other,), ())


def test_no_problem_is_lost_and_none_is_named_twice() -> None:
    every = [
        kind.check(verdict, subject=subject, region="V1")
        for kinds in KINDS.values()
        for kind in kinds
        for verdict in PROBLEMS
        for subject in ("", "subj01", "subj02")
    ]
    causes = likeliest_causes([*every, PUBLISHED_VOXEL_COUNT.check(True, region="V1")])
    named: list[Check] = [check for cause in causes for check in (*cause.checks, *cause.others)]
    assert sorted(map(id, named)) == sorted(map(id, every))
    verdicts = [cause.checks[0].verdict for cause in causes]
    assert verdicts == sorted(verdicts, key=PROBLEMS.index)


def test_what_people_are_told_names_the_cause_once_and_folds_what_it_explains() -> None:
    at_chance = SESSIONS_IN_PLACE.check(
        "failed", subject="subj02", reason="at chance", found="at chance: sessions 3, 6 of 8"
    )
    weak = [
        TRIALS_OF_IMAGES.check(
            "suspicious", subject="subj02", region=region, reason="weak", share="0.55"
        )
        for region in ("V1", "IT")
    ]
    first, second = remarks([*weak, at_chance])
    assert first.startswith(
        "failed: sessions in their places (subj02): found at chance: sessions 3, 6 of 8, expected"
    )
    assert second.strip() == (
        "the likeliest cause of 2 others: trials belong to their images (suspicious, V1, IT)"
    )
