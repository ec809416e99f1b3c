"""An HTTP server of byte ranges, with latency, faults and counters, for tests and benchmarks.

In a test it runs in a thread, and its faults can be set while it runs::

    with RangeServer(folder) as server:
        server.fail("503", times=3)
        ...
        assert server.counters["requests"] == 12

For whole runs and in benchmarks it runs as a process, so that it does not share the interpreter
with what is tested or measured: ``python tests/range_server.py FOLDER --latency 0.03`` prints its
URL, answers ``/.counters`` with its counters, and does what ``/.control`` asks for.
"""

import argparse
import asyncio
import contextlib
import functools
import hashlib
import json
import os
import random
import re
import socket
import stat
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote

COUNTERS = "/.counters"
CONTROL = "/.control?"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
REASONS = {
    200: "OK",
    206: "Partial Content",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    412: "Precondition Failed",
    416: "Range Not Satisfiable",
    503: "Slow Down",
}


@dataclass
class Fault:
    """What goes wrong with the next requests for files whose path holds a text.

    Kinds: a status ("503", "403", "404"), "cut" (half the body, then the end of the connection),
    "short" (a whole answer, of half the bytes), "reset" (no answer), "no ranges" (the whole file),
    "stall" (nothing, for a minute). Of the requests that could, a share does.
    """

    kind: str
    times: int
    where: str
    method: str
    share: float


class RangeServer:
    """Serve the files of a folder on localhost, from a thread."""

    def __init__(self, folder: Path, *, latency: float = 0.0, port: int = 0) -> None:
        self.folder = folder
        self.latency = latency
        self.etags = "strong"  # or "weak", or "none"
        self.port = port
        self.counters: Counter[str] = Counter()
        self.ranges: list[tuple[str, int, int]] = []
        self.requested: list[tuple[str, str]] = []  # methods and names, in order
        self._faults: list[Fault] = []
        self._random = random.Random(0)
        self._etags: dict[str, str] = {}
        self._change_after: list[tuple[str, int]] = []
        self._active = 0
        self._loop = asyncio.new_event_loop()
        self._connections: set[_Connection] = set()
        self._listener: socket.socket | None = None
        self._accepting: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def up(self) -> None:
        """Listen, on the same port as before."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def down(self) -> None:
        """Close every connection, and listen no more."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)

    def fail(
        self, kind: str, *, times: int = 1, where: str = "", method: str = "", share: float = 1.0
    ) -> None:
        """Let the next requests fail, or a share of them, for paths that hold `where`."""
        self._faults.append(Fault(kind, times, where, method, share))

    def end_faults(self) -> None:
        """Let all that has not failed yet succeed."""
        self._faults.clear()

    def change_etag(self, where: str, *, after: int = 0) -> None:
        """Let the files whose path holds `where` have another ETag after some more requests."""
        self._change_after.append((where, self.counters["requests"] + after))

    def reset_counters(self) -> None:
        self.counters.clear()
        self.ranges.clear()
        self.requested.clear()

    async def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._loop.add_reader(self._listener, self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client is gone already
            connected, _ = listener.accept()
            task = self._loop.create_task(
                self._loop.connect_accepted_socket(
                    lambda: _Connection(self._begin, self._connections), connected
                )
            )
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    async def _close(self) -> None:
        """Close every connection, those too that are only being accepted.

        asyncio's own server would forget these: they are served on, or never closed.
        """
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for connection in list(self._connections):
            connection.transport.abort()
        while self._connections:
            await asyncio.sleep(0)

    def _begin(self, head: str, connection: "_Connection") -> None:
        """Begin to answer a request."""
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ", 2)
        if target == COUNTERS or target.startswith(CONTROL):
            content = json.dumps(self._controlled(target)).encode()
            connection.answer(_answer_of(200, len(content), {}) + content)
            return
        fields = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        name = unquote(target.partition("?")[0]).lstrip("/")
        self.requested.append((method, name))
        self.counters["requests"] += 1
        self.counters[method] += 1
        self._active += 1
        self.counters["most at once"] = max(self.counters["most at once"], self._active)
        if self.latency:
            self._loop.call_later(self.latency, self._serve, method, name, headers, connection)
        else:
            self._serve(method, name, headers, connection)

    def _controlled(self, target: str) -> Any:
        """Return the counters or the names, or call one of the methods that set faults."""
        if target == COUNTERS:
            return self.counters
        call, arguments = json.loads(unquote(target.removeprefix(CONTROL)))
        if call == "requested":
            return self.requested
        allowed = {"fail", "end_faults", "change_etag", "reset_counters"}
        assert call in allowed
        return getattr(self, call)(**arguments)

    def _serve(
        self, method: str, name: str, headers: dict[str, str], connection: "_Connection"
    ) -> None:
        fault = self._fault(method, name)
        if fault == "stall":
            self._loop.call_later(60, self._hang_up, connection)
            return
        self._active -= 1
        if fault == "reset":
            connection.transport.abort()
            return
        head, content = self._answer(method, name, headers, fault)
        if method == "HEAD":
            content = b""
        if fault == "cut" and content:
            connection.transport.write(head + content[: len(content) // 2])
            connection.transport.close()
            return
        self.counters["bytes"] += len(content)
        connection.answer(head + content)

    def _hang_up(self, connection: "_Connection") -> None:
        self._active -= 1
        connection.transport.close()

    def _answer(
        self, method: str, name: str, headers: dict[str, str], fault: str
    ) -> tuple[bytes, bytes]:
        """Return the lines before an answer's content, and the content."""
        path = self.folder / name
        if method not in ("GET", "HEAD"):
            return _answer_of(405, 0, {}), b""
        if fault.isdigit():
            return _answer_of(int(fault), 0, {}), b""
        try:
            status = path.stat()
        except OSError:
            status = None
        if status is None or not stat.S_ISREG(status.st_mode):
            return _answer_of(404, 0, {}), b""
        size, etag = status.st_size, self._etag(name, status)
        more = {
            "ETag": f'W/"{etag}"' if self.etags == "weak" else f'"{etag}"',
            "Last-Modified": _date(status.st_mtime),
            "Accept-Ranges": "bytes",
        }
        if self.etags == "none":
            del more["ETag"]
        if headers.get("if-match", f'"{etag}"') not in (f'"{etag}"', "*"):
            return _answer_of(412, 0, more), b""
        start, stop, code = 0, size, 200
        asked = _RANGE.fullmatch(headers.get("range", ""))
        if asked and fault != "no ranges":
            start, stop = int(asked[1]), min(int(asked[2]) + 1 if asked[2] else size, size)
            if start >= size:
                return _answer_of(416, 0, {"Content-Range": f"bytes */{size}"}), b""
            code = 206
            more["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        if fault == "short":
            stop = start + (stop - start) // 2
        content = b""
        if method == "GET":
            with path.open("rb", buffering=0) as file:
                content = os.pread(file.fileno(), stop - start, start)
            if fault != "cut":
                self.ranges.append((name, start, stop))
        return _answer_of(code, stop - start, more), content

    def _fault(self, method: str, name: str) -> str:
        for fault in self._faults:
            applies = fault.times > 0 and fault.where in name and fault.method in ("", method)
            if applies and self._random.random() < fault.share:
                fault.times -= 1
                self.counters[f"fault {fault.kind}"] += 1
                return fault.kind
        return ""

    def _etag(self, name: str, status: os.stat_result) -> str:
        changes = sum(
            where in name and self.counters["requests"] > after
            for where, after in self._change_after
        )
        text = f"{name} {status.st_size} {status.st_mtime_ns} {changes}"
        return hashlib.md5(text.encode()).hexdigest()


class _Connection(asyncio.Protocol):
    """A connection, on which one request is answered after the other.

    asyncio's streams would take half of one of the cores that what is measured runs on.
    """

    def __init__(
        self, begin: Callable[[str, "_Connection"], None], connections: set["_Connection"]
    ) -> None:
        self._begin, self._connections = begin, connections
        self._received, self._is_answering = b"", False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._is_answering:
            self._go_on()

    def answer(self, content: bytes) -> None:
        """Answer the request that was begun."""
        self._is_answering = False
        if not self.transport.is_closing():
            self.transport.write(content)
            self._go_on()

    def _go_on(self) -> None:
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if end:
            self._received, self._is_answering = rest, True
            self._begin(head.decode("latin-1"), self)


@functools.cache
def _date(seconds: float) -> str:
    return formatdate(seconds, usegmt=True)


def _answer_of(status: int, length: int, more: dict[str, str]) -> bytes:
    """Return the lines before an answer's content."""
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in more.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class ServerProcess:
    """The server as a process of its own, with the same faults and counters.

    Once it was started it keeps its port, so that a server may go and come back.
    """

    def __init__(self, folder: Path, *, latency: float = 0.0) -> None:
        self._command = [sys.executable, __file__, str(folder), "--latency", str(latency)]
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def up(self) -> None:
        port = self.url.rpartition(":")[2] or "0"
        command = [*self._command, "--port", port]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def down(self) -> None:
        if self._process is not None:
            with self._process as process:
                process.terminate()
            self._process = None

    def fail(
        self, kind: str, *, times: int = 1, where: str = "", method: str = "", share: float = 1.0
    ) -> None:
        self._call("fail", kind=kind, times=times, where=where, method=method, share=share)

    def end_faults(self) -> None:
        self._call("end_faults")

    def change_etag(self, where: str, *, after: int = 0) -> None:
        self._call("change_etag", where=where, after=after)

    def reset_counters(self) -> None:
        self._call("reset_counters")

    @property
    def counters(self) -> Counter[str]:
        return Counter(self._answer(COUNTERS))

    @property
    def requested(self) -> list[tuple[str, str]]:
        return [(method, name) for method, name in self._call("requested")]

    def _call(self, call: str, **arguments: Any) -> Any:
        return self._answer(CONTROL + quote(json.dumps([call, arguments])))

    def _answer(self, target: str) -> Any:
        with urllib.request.urlopen(self.url + target, timeout=10) as answer:
            return json.load(answer)


@contextlib.contextmanager
def server_process(folder: Path, latency: float) -> Iterator[str]:
    """Run the server as a process of its own; give its URL."""
    with ServerProcess(folder, latency=latency) as server:
        yield server.url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    with RangeServer(given.folder, latency=given.latency, port=given.port) as server:
        print(server.url, flush=True)  # noqa: T201
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
