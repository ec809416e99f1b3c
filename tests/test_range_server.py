"""The server that stands in for a bucket."""

import socket
from pathlib import Path

from range_server import RangeServer


def test_a_server_that_is_down_answers_nobody(tmp_path: Path) -> None:
    """Nor does it leave those waiting whose connection it was just accepting."""
    (tmp_path / "file").write_bytes(b"content")
    for _ in range(50):
        with RangeServer(tmp_path) as server:
            address = ("127.0.0.1", server.port)
            connections = [socket.create_connection(address, timeout=5) for _ in range(5)]
            server.down()
            for connection in connections:
                with connection:
                    assert _answer(connection) == b""


def _answer(connection: socket.socket) -> bytes:
    try:
        connection.sendall(b"GET /file HTTP/1.1\r\n\r\n")
        return connection.recv(100)
    except (ConnectionResetError, BrokenPipeError):
        return b""
