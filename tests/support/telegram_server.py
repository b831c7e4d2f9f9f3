"""The stand-in of the Bot API at a loopback port, for processes of the service."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

import httpx

from tests.support.telegram_api import TelegramApi


@contextmanager
def telegram_server(api: TelegramApi) -> Iterator[str]:
    """Serve `api` and yield its address."""
    lock = Lock()

    class Server(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            request = httpx.Request(
                self.command, f"http://telegram{self.path}", headers=list(self.headers.items()), content=body
            )
            with lock:
                response = api.respond(request)
            self.send_response(response.status_code)
            self.send_header("content-type", response.headers.get("content-type", "application/octet-stream"))
            self.send_header("content-length", str(len(response.content)))
            self.end_headers()
            self.wfile.write(response.content)

        do_GET = do_POST  # noqa: N815 - the name that the base class calls

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
