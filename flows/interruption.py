"""Ctrl-C and requests to end: heeded from the first instruction on, and within five seconds.

What is imported here is there within milliseconds after Python has started.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

STATUS: Final = 130
#: Commands that keep nothing of what they have done when they are interrupted.
_STARTING_OVER: Final = ("synth", "compare", "map", "package", "regions", "cache", "deployments")
_REQUESTS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: How long a run that is interrupted may take to end in order.
_SECONDS: Final = 4.0
_SECONDS_UNTIL_AGAIN: Final = 0.05


def sentence(words: Sequence[str]) -> str:
    """Return what is said of an interrupted command, by the words of its command line."""
    starts_over = bool(words) and words[0] in _STARTING_OVER
    then = "starts over" if starts_over else "resumes where it stopped"
    return f"interrupted: the same command {then}"


def end_at_once(_number: int = 0, _frame: FrameType | None = None) -> NoReturn:
    """End the process: a signal handler for as long as there is nothing to be ended in order."""
    os.write(2, f"{sentence(sys.argv[1:])}\n".encode())
    os._exit(STATUS)


def end_at_once_on_request() -> None:
    """Let requests end this process at once, until Python's own end has begun."""
    _handle(end_at_once)
    # Registered first, and so called last: Python gives up its handlers then, and the status of a
    # late request would take the place of the command's own.
    atexit.register(_handle, signal.SIG_IGN)


def ending_with(status: int) -> int:
    """Let requests end this process at once with a status that is known, which is returned."""
    _handle(lambda _number, _frame: os._exit(status))
    return status


@contextmanager
def ending_in_order(before_end: Callable[[], None]) -> Iterator[None]:
    """Raise KeyboardInterrupt in a block when this process is asked to end.

    Where the process has not ended some seconds later, or is asked once more, it is ended: in many
    places an exception cannot pass (a callback of the collector's, a library that takes every
    exception for a result), and threads that Python waits for at its end may be busy.

    Parameters
    ----------
    before_end : callable
        Called before the process is ended by force, in another thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    requests = _Requests(before_end)
    handlers = _handle(requests.interrupt)
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    # Written into by the C handler, whatever the main thread waits for.
    wakeup = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    unraisable = sys.unraisablehook
    sys.unraisablehook = requests.raise_again(unraisable)
    watch = threading.Thread(target=requests.watch, args=(readable,), daemon=True)
    watch.start()
    try:
        yield
    except BaseException as error:
        if not requests.first.is_set():
            raise
        _handle(signal.SIG_IGN)  # it is heeded: another would only disturb the end
        # A library may have made another exception of it, as pydantic's serializers do.
        raise KeyboardInterrupt from error
    else:
        if requests.first.is_set():  # the exception was lost, and all was done before the force
            _handle(signal.SIG_IGN)
            raise KeyboardInterrupt
    finally:
        if not requests.first.is_set():
            for number, handler in handlers.items():
                signal.signal(number, handler)
            sys.unraisablehook = unraisable
            signal.set_wakeup_fd(wakeup)
            os.close(writable)
            watch.join()
        # Else it is watched until the process has ended.


def keep_status() -> None:
    """Let this process end with its own status after an interruption that was heeded.

    Where code that Python had been given as text (as dataclasses and pandas do) was interrupted,
    ``python -m`` would end by sending itself SIGINT, whoever heeded the exception: the last text
    that was carried out decides (CPython's `unhandled_keyboard_interrupt`).
    """
    exec("")


class _Requests:
    """What is done about requests to end, by the main thread and by one that watches it."""

    def __init__(self, before_end: Callable[[], None]) -> None:
        self.first = threading.Event()
        self._raised = False
        self._before_end = before_end

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self.first.set()
        if self._raised:  # impatience
            self._end()
        self._raised = True
        raise KeyboardInterrupt

    def raise_again(
        self, hook: "Callable[[sys.UnraisableHookArgs], object]"
    ) -> Callable[..., None]:
        """Return a hook for exceptions where none can pass: the next place may be a better one."""

        def unraisable(lost: "sys.UnraisableHookArgs") -> None:
            if not issubclass(lost.exc_type, KeyboardInterrupt):
                hook(lost)
                return
            self._raised = False
            again = threading.Timer(_SECONDS_UNTIL_AGAIN, os.kill, (os.getpid(), signal.SIGINT))
            again.daemon = True
            again.start()

        return unraisable

    def watch(self, readable: int) -> None:
        """Wait for a request, and end the process if it has not ended some time later."""
        while signals := os.read(readable, 1):
            if signals[0] in _REQUESTS:
                self.first.set()
                time.sleep(_SECONDS)
                self._end()
        os.close(readable)

    def _end(self) -> NoReturn:
        self._before_end()
        end_at_once()


def _handle(handler: "signal._HANDLER") -> "dict[int, signal._HANDLER]":
    """Handle requests, but for those that are ignored (nohup); return the handlers before."""
    return {
        number: signal.signal(number, handler)
        for number in _REQUESTS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
