"""A real HTTP server that keeps what it is sent, and answers as a test says."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reachmap_collector.alerts.load import load_configuration
from reachmap_collector.alerts.outlets import Outlet


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.status = 200
        self.says = b"thanks"
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.requests.append(Request(self.command, self.path, headers, body))
                self.send_response(server.status)
                self.send_header("Content-Length", str(len(server.says)))
                self.end_headers()
                self.wfile.write(server.says)

            do_GET = do_POST = answer  # noqa: N815  http.server's names

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.http.server_port
        self.url = f"http://127.0.0.1:{self.port}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


@pytest.fixture
def outlet(tmp_path: Path) -> Any:
    """An outlet as a configuration makes it, with files for its secrets."""

    def made(text: str, **files: str) -> Outlet:
        for name, content in files.items():
            (tmp_path / name).write_text(content)
        path = tmp_path / "collector.toml"
        path.write_text(f'[[alerts.outlets]]\nname = "it"\n{text}\n')
        return load_configuration(path).places["it"].outlet

    return made
