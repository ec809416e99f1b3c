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
import hashlib
import json
import random
import re
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote

COUNTERS = "/.counters"
CONTROL = "/.control?"
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
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
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
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.counters["connections"] += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if not await self._answer(head.decode("latin-1"), writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> bool:
        """Answer a request; return whether the connection goes on."""
        method, target, _ = head.split("\r\n", 1)[0].split(" ", 2)
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
        }
        name = unquote(target.partition("?")[0]).lstrip("/")
        if target == COUNTERS or target.startswith(CONTROL):
            content = json.dumps(self._controlled(target)).encode()
            self._send(writer, 200, content, len(content), {}, method)
            return True
        self.requested.append((method, name))
        self.counters["requests"] += 1
        self.counters[method] += 1
        self._active += 1
        self.counters["most at once"] = max(self.counters["most at once"], self._active)
        try:
            if self.latency:
                await asyncio.sleep(self.latency)
            return await self._serve(method, name, headers, writer)
        finally:
            self._active -= 1

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

    async def _serve(
        self, method: str, name: str, headers: dict[str, str], writer: asyncio.StreamWriter
    ) -> bool:
        fault = self._fault(method, name)
        if fault == "reset":
            writer.transport.abort()
            return False
        if fault == "stall":
            await asyncio.sleep(60)
            return False
        path = self.folder / name
        status = 200
        if method not in ("GET", "HEAD"):
            status = 405
        elif fault.isdigit():
            status = int(fault)
        elif not path.is_file():
            status = 404
        if status != 200:
            self._send(writer, status, b"", 0, {}, method)
            await writer.drain()
            return True
        size, etag = path.stat().st_size, self._etag(name, path)
        more = {
            "ETag": f'W/"{etag}"' if self.etags == "weak" else f'"{etag}"',
            "Last-Modified": formatdate(path.stat().st_mtime, usegmt=True),
            "Accept-Ranges": "bytes",
        }
        if self.etags == "none":
            del more["ETag"]
        if headers.get("if-match", f'"{etag}"') not in (f'"{etag}"', "*"):
            self._send(writer, 412, b"", 0, more, method)
            await writer.drain()
            return True
        start, stop = 0, size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        if asked and fault != "no ranges":
            start, stop = int(asked[1]), min(int(asked[2]) + 1 if asked[2] else size, size)
            if start >= size:
                self._send(writer, 416, b"", 0, {"Content-Range": f"bytes */{size}"}, method)
                await writer.drain()
                return True
            status = 206
        if status == 206:
            more["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        if fault == "short":
            stop = start + (stop - start) // 2
        if method == "HEAD":
            self._send(writer, status, b"", stop - start, more, method)
            await writer.drain()
            return True
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(stop - start)
        if fault == "cut":
            self._send(writer, status, content[: len(content) // 2], len(content), more, method)
            await writer.drain()
            return False
        self.counters["bytes"] += len(content)
        self.ranges.append((name, start, stop))
        self._send(writer, status, content, len(content), more, method)
        await writer.drain()
        return True

    def _fault(self, method: str, name: str) -> str:
        for fault in self._faults:
            applies = fault.times > 0 and fault.where in name and fault.method in ("", method)
            if applies and self._random.random() < fault.share:
                fault.times -= 1
                self.counters[f"fault {fault.kind}"] += 1
                return fault.kind
        return ""

    def _etag(self, name: str, path: Path) -> str:
        changes = sum(
            where in name and self.counters["requests"] > after
            for where, after in self._change_after
        )
        status = path.stat()
        text = f"{name} {status.st_size} {status.st_mtime_ns} {changes}"
        return hashlib.md5(text.encode()).hexdigest()

    @staticmethod
    def _send(
        writer: asyncio.StreamWriter,
        status: int,
        content: bytes,
        length: int,
        more: dict[str, str],
        method: str,
    ) -> None:
        lines = [f"HTTP/1.1 {status} {REASONS[status]}", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in more.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        if method != "HEAD":
            writer.write(content)


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
