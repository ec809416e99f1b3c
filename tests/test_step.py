"""Steps carried out in threads: outcomes in their places, and an end where one is asked for."""

import threading
import time

import pytest

from nsd_prep.core.errors import ParameterError
from nsd_prep.pipeline import step_table
from nsd_prep.pipeline.step import InThreads, Step


def halve(number: int) -> float:
    """Return half of an even number."""
    if number % 2:
        raise ParameterError(f"{number} is odd.")
    time.sleep(0.01 / (number + 1))
    return number / 2


HALVE = Step("halve", halve)


def test_a_function_may_be_named() -> None:
    assert Step[..., str]("name", "posixpath:basename").load()("a/b") == "b"
    assert InThreads().call(Step[..., str]("name", "posixpath:basename"), "a/b") == "b"


def test_outcomes_stand_in_the_order_of_the_calls() -> None:
    outcomes = InThreads().map(HALVE, [(4,), (3,), (0,)])
    assert (outcomes[0](), outcomes[2]()) == (2, 0)
    with pytest.raises(ParameterError, match="3 is odd"):
        outcomes[1]()


def test_workers_give_each_outcome_with_its_position() -> None:
    with InThreads(3).workers() as workers:
        outcomes = dict(workers.map(HALVE, [(4,), (3,), (0,)]))
    assert sorted(outcomes) == [0, 1, 2]
    assert (outcomes[0](), outcomes[2]()) == (2, 0)
    with pytest.raises(ParameterError, match="3 is odd"):
        outcomes[1]()


def test_what_waits_is_not_begun_after_an_interruption() -> None:
    begun: list[int] = []
    may_end = threading.Event()

    def wait(number: int) -> None:
        begun.append(number)
        if number > 0:
            may_end.wait(10)

    def interrupted() -> None:
        with InThreads(1).workers() as workers:
            next(workers.map(Step("wait", wait), [(number,) for number in range(5)]))
            threading.Timer(0.2, may_end.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert begun in ([0], [0, 1])


def test_every_step_has_a_name_of_its_own_and_a_function() -> None:
    steps = [value for value in vars(step_table).values() if isinstance(value, Step)]
    assert len({step.name for step in steps}) == len(steps) > 10
    assert all(callable(step.load()) for step in steps)
