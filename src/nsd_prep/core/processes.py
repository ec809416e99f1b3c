"""Functions called in processes of their own, beside what this one does."""

import contextlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any, BinaryIO, Final, NamedTuple, Protocol, TypeVar, cast

from nsd_prep.core.threads import return_freed_memory

_logger: Final = logging.getLogger(__name__)

_Result = TypeVar("_Result")

#: Not multiprocessing: its new processes import the script that runs this one, and a script without
#: ``if __name__ == "__main__"`` would begin again in each.
_PROGRAM: Final = (
    "import pickle, sys; sys.path[:], keep_memory = pickle.load(sys.stdin.buffer); "
    "from nsd_prep.core.processes import serve; serve(keep_memory=keep_memory)"
)
#: Of libraries that compute for NumPy: processes that share the cores need no threads for each.
_THREADS_OF_BLAS: Final = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_SECONDS_TO_END: Final = 2
_SECONDS_BETWEEN_LOOKS: Final = 0.5
#: An environment's backend of matplotlib is of its own process: a notebook's cannot be imported.
_NOT_PASSED_ON: Final = ("MPLBACKEND",)


class Caller(Protocol):
    """Calls functions, here or elsewhere."""

    def __call__(self, function: Callable[..., _Result], *arguments: Any) -> "Future[_Result]":
        """Call a function, which an import finds, with arguments that can be pickled."""


class _Answer(NamedTuple):
    """What a call gave: a result or an error, and what was logged meanwhile."""

    result: Any
    error: Exception | None
    logged: list[logging.LogRecord]


def call_here(function: Callable[..., _Result], *arguments: Any) -> "Future[_Result]":
    """Call a function at once, in this process; what it raises is raised with its result."""
    future: Future[_Result] = Future()
    try:
        future.set_result(function(*arguments))
    except Exception as error:
        future.set_exception(error)
    return future


@contextmanager
def worker_processes(number: int = 1, *, keep_memory: bool = False) -> Iterator[Caller]:
    """Let functions be called in other processes while a block runs, one after another in each.

    A process starts when it is first needed. They end with the block, whose end does not wait for
    results that nobody waits for, and when this process is gone; files that they are writing then
    are removed, or written to their end. Where one cannot start or ends before its time, functions
    are called here in its place, after a warning.

    Parameters
    ----------
    number : int
        How many; so many functions are called at once. In each of several, BLAS has one thread.
    keep_memory : bool
        Whether they keep the memory that a call has freed for the next, which takes time to get
        again, in place of giving it back to the system.

    Yields
    ------
    callable
        As `Caller` says. What a function raises is raised again where its result is taken; what it
        logs is logged here.
    """
    ended = threading.Event()
    processes: list[_Process] = []
    idle: SimpleQueue[_Process] = SimpleQueue()

    def exchange(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        process = idle.get()
        try:
            return process.call(function, arguments)
        finally:
            idle.put(process)

    try:
        # As many threads as processes, so that each finds one that is idle.
        with ThreadPoolExecutor(number) as threads:
            try:
                for _ in range(number):
                    process = _Process(ended, keep_memory=keep_memory, is_alone=number == 1)
                    processes.append(process)
                    idle.put(process)
                yield lambda function, *arguments: threads.submit(
                    copy_context().run, exchange, function, arguments
                )
            finally:
                ended.set()
                threads.shutdown(wait=False, cancel_futures=True)
                for process in processes:
                    process.ask_to_end()
                for process in processes:
                    process.end()
    finally:
        for process in processes:
            process.close()


class _Process:
    """A process in which functions are called, and the pipes to it and from it."""

    def __init__(self, ended: threading.Event, *, keep_memory: bool, is_alone: bool) -> None:
        self._ended, self._keep_memory, self._is_alone = ended, keep_memory, is_alone
        self._process: subprocess.Popen[bytes] | None = None
        self._is_lost = False
        self._starts = threading.Lock()

    def _start(self) -> None:
        """Start the process, unless it was started or is not to be any more."""
        with self._starts:
            if self._ended.is_set():
                raise CancelledError
            if self._process is not None:
                return
            environment = {
                name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON
            }
            if not self._is_alone:
                environment |= dict.fromkeys(_THREADS_OF_BLAS, "1")
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM],  # no module of the current folder
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                process_group=0,  # Ctrl-C is not for it: this one decides what becomes of it
            )
        self._requests = cast(BinaryIO, self._process.stdin)
        self._answers = cast(BinaryIO, self._process.stdout)
        pickle.dump((sys.path, self._keep_memory), self._requests)

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Call a function there, or here if the process is gone and the block has not ended."""
        if self._is_lost:
            return function(*arguments)
        try:
            self._start()
            pickle.dump((function, arguments), self._requests, pickle.HIGHEST_PROTOCOL)
            self._requests.flush()
            if not self._keep_memory:
                return_freed_memory()  # what was copied for the other process
            answer = cast(_Answer, pickle.load(self._answers))
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            if self._ended.is_set():
                raise
            self._is_lost = True
            self.end()
            _logger.warning(
                "A worker process %s: its work is done here instead, more slowly; if memory is "
                "short, choose fewer workers, or close other programs.",
                f"could not start ({error})"
                if self._process is None
                else f"ended before its time (status {self._process.returncode})",
            )
            return function(*arguments)
        for record in answer.logged:
            logging.getLogger(record.name).handle(record)
        if answer.error is not None:
            raise answer.error
        return answer.result

    def ask_to_end(self) -> None:
        """Let the process end, without waiting for that."""
        with self._starts:
            if self._process is not None:
                self._process.terminate()

    def end(self) -> None:
        """End the process."""
        with self._starts:
            if self._process is None:
                return
        end_process(self._process, _SECONDS_TO_END)

    def close(self) -> None:
        """Close the pipes."""
        if self._process is None:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # of what it did not read any more
                cast(BinaryIO, pipe).close()


def end_process(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """End a process, by force where it does not heed a request within some seconds."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def serve(*, keep_memory: bool) -> None:
    """Call the functions that `worker_processes` sends, until it sends no more."""
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    answers: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    said: SimpleQueue[logging.LogRecord] = SimpleQueue()
    logging.getLogger().addHandler(QueueHandler(said))
    try:
        while True:
            function, arguments = pickle.load(sys.stdin.buffer)
            answers.write(_call(function, arguments, said))
            answers.flush()
            del function, arguments
            if not keep_memory:
                return_freed_memory()
    except BaseException:
        # It is to end, or cannot take a request or answer it: then the other one does what is left.
        os._exit(1)  # Python's own end takes a while


def _leave(_number: int, _frame: Any) -> None:
    raise SystemExit


def _follow(parent: int) -> None:
    """Ask this process to end when the one that started it is gone, whatever it is at."""
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SECONDS_TO_END)
    os._exit(1)


def _call(
    function: Callable[..., Any], arguments: tuple[Any, ...], said: SimpleQueue[logging.LogRecord]
) -> bytes:
    """Call a function, and return its pickled answer; one that cannot be pickled is an error."""
    try:
        return _pickled(function(*arguments), None, said)
    except Exception as error:
        error.add_note(f"In another process:\n{traceback.format_exc()}")
        answer = _pickled(None, error, said)
    pickle.loads(answer)  # where that fails it fails here, and breaks off no answer
    return answer


def _pickled(result: Any, error: Exception | None, said: SimpleQueue[logging.LogRecord]) -> bytes:
    logged = [said.get() for _ in range(said.qsize())]
    return pickle.dumps(_Answer(result, error, logged), pickle.HIGHEST_PROTOCOL)
