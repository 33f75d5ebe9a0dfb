"""A local server with the part of the Hugging Face API that an upload needs."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Hub(ThreadingHTTPServer):
    """Repositories by name, as files by path; small and large files are uploaded alike."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:  # OWNER/NAME/resolve/main/PATH
        owner, name, _, _, path = self.path.strip("/").split("/", 4)
        found = path in self.server.repositories.get(f"{owner}/{name}", {})
        headers = {"ETag": '"1"', "X-Repo-Commit": "0" * 40} if found else {"X-Error-Code": "EntryNotFound"}
        self._answer(None, 200 if found else 404, headers)

    def do_GET(self) -> None:  # what else the client would like to know
        self._answer({}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != "Bearer hf_right":
            return self._answer({"error": "Invalid credentials"}, 401)
        if self.path == "/api/repos/create":
            order = json.loads(body)
            repository = f"{order.get('organization') or 'me'}/{order['name']}"
            self.server.private[repository] = order.get("visibility") == "private"
            self.server.repositories.setdefault(repository, {})
            return self._answer({"url": f"{self.server.url}/{repository}"})
        if self.path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        repository, action = self.path.removeprefix("/api/models/").rsplit("/", 2)[:2]
        if action == "preupload":
            files = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            return self._answer({"files": modes})
        assert action == "commit"
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.repositories[repository][line["value"]["path"]] = content
        url = f"{self.server.url}/{repository}/commit/{'0' * 40}"
        return self._answer({"commitUrl": url, "commitOid": "0" * 40, "pullRequestUrl": None})

    def _answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None: ...


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Run a Hub in a thread."""
    with Hub() as hub:
        thread = Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
