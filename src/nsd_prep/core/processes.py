"""Functions called in a second process, beside what this one does."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, Protocol, TypeVar, cast

from nsd_prep.core.threads import return_freed_memory

_Result = TypeVar("_Result")

#: Not multiprocessing: its new processes import the script that runs this one, and a script without
#: ``if __name__ == "__main__"`` would begin again in each.
_PROGRAM: Final = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from nsd_prep.core.processes import serve; serve()"
)
#: An environment's backend of matplotlib is of its own process: a notebook's cannot be imported.
_NOT_PASSED_ON: Final = ("MPLBACKEND",)


class Caller(Protocol):
    """Calls functions, here or elsewhere."""

    def __call__(self, function: Callable[..., _Result], *arguments: Any) -> "Future[_Result]":
        """Call a function, which an import finds, with arguments that can be pickled."""


def call_here(function: Callable[..., _Result], *arguments: Any) -> "Future[_Result]":
    """Call a function at once, in this process; what it raises is raised with its result."""
    future: Future[_Result] = Future()
    try:
        future.set_result(function(*arguments))
    except Exception as error:
        future.set_exception(error)
    return future


@contextmanager
def second_process() -> Iterator[Caller]:
    """Start a process in which functions are called one after another while a block runs.

    It ends with the block, whose end does not wait for results that nobody waits for, and when this
    process is gone. Where it ends before its time, functions are called here in its place.

    Yields
    ------
    callable
        As `Caller` says. What a function raises is raised again where its result is taken.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    requests, answers = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
    ended = threading.Event()

    def exchange(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        try:
            pickle.dump((function, arguments), requests, pickle.HIGHEST_PROTOCOL)
            requests.flush()
            return_freed_memory()  # what was copied for the other process
            result, error = pickle.load(answers)
        except (OSError, EOFError, pickle.UnpicklingError):
            if ended.is_set():
                raise
            return function(*arguments)  # it was killed, or could not start
        if error is not None:
            raise error
        return result

    try:
        # The requests and answers of one process alternate, so that neither waits for the other.
        with ThreadPoolExecutor(1) as thread:
            try:
                thread.submit(pickle.dump, sys.path, requests)
                yield lambda function, *arguments: thread.submit(exchange, function, arguments)
            finally:
                ended.set()
                thread.shutdown(wait=False, cancel_futures=True)
                process.kill()
                process.wait()
    finally:
        for pipe in (requests, answers):
            with contextlib.suppress(OSError):  # of what it did not read any more
                pipe.close()


def serve() -> None:
    """Call the functions that `second_process` sends, until it sends no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the other one decides
    answers: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    while True:
        try:
            function, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = pickle.dumps((function(*arguments), None), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            answer = pickle.dumps((None, error), pickle.HIGHEST_PROTOCOL)
        answers.write(answer)
        answers.flush()
        del function, arguments, answer
        return_freed_memory()
