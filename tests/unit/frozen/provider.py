"""A scripted provider over real HTTP on loopback."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
CUT = None
"""No reply: the connection is closed."""

Reply = tuple[int, Json | bytes] | None


@dataclass(kw_only=True)
class Script:
    """Replies by the prompt of a submission or a segment of a path; the last reply of each list repeats."""

    replies: Mapping[str, list[Reply]]
    submissions: dict[str, Json] = field(default_factory=dict)

    def submitted(self, body: Json) -> Reply:
        """Return the reply to a submission of either provider, and record its parameters by prompt."""
        params: Json = body["input"][0]["params"] if "input" in body else body
        self.submissions[params["prompt"]] = params
        return self._next([params["prompt"]]) or CUT

    def asked(self, path: str) -> Reply:
        """Return the reply to a request for `path`."""
        parts = path.partition("?")[0].split("/")
        return self._next(["/".join(parts[-2:]), *reversed(parts)])

    def _next(self, names: list[str]) -> Reply:
        found = next((self.replies[name] for name in names if name in self.replies), [(404, {"message": "no"})])
        return found.pop(0) if len(found) > 1 else found[0]


class _Handler(BaseHTTPRequestHandler):
    script: Script

    def do_GET(self) -> None:
        self._answer(self.script.asked(self.path))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        submission = self.path.endswith(("/generation", "/reference2video"))
        self._answer(self.script.submitted(body) if submission else self.script.asked(self.path))

    def _answer(self, reply: Reply) -> None:
        self.close_connection = True
        if reply is None:
            return
        status, body = reply
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def provider(script: Script) -> Iterator[str]:
    """Run the provider of `script` inside the block and yield its address."""
    handler = type("Scripted", (_Handler,), {"script": script})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
