"""Invalid requests, each rejected for a different reason; the responses are recorded by name."""

import socket
from urllib.parse import urlsplit

import httpx

from tests.unit.frozen.running import Running

JSON = {"Content-Type": "application/json"}


def send_invalid_requests(service: Running) -> None:
    """Send each invalid request."""
    _send_without_permission(service)
    _send_invalid_tasks(service)
    for name, more in {
        "no JSON type": {"Content-Type": "text/plain"},
        "no UTF-8": {"Content-Type": "application/json; charset=latin-1"},
        "encoded": {**JSON, "Content-Encoding": "gzip"},
        "bad key": {**JSON, "Idempotency-Key": ""},
    }.items():
        service.send(name, "POST", "/v1/tasks", content=b"{}", headers=more)
    service.send("no such address", "GET", "/nowhere")
    service.send("no such method", "PUT", "/v1/tasks")
    service.answers["two hosts"] = {"status": 400, "body": _with_two_hosts(service).json()}


def _send_without_permission(service: Running) -> None:
    service.send("unknown key", "GET", "/v1/tasks", headers={"Authorization": "Bearer wrong"})
    service.send("no admin", "POST", "/v1/reconcile", headers={"Authorization": "Bearer key-of-ann"})


def _send_invalid_tasks(service: Running) -> None:
    service.send("no such task", "GET", "/v1/tasks/nobody")
    service.send("over already", "POST", "/v1/tasks/completed/cancel")
    service.send("no parameters", "POST", "/v1/tasks", json={"model": "viduq2_pro_reference", "params": {}})
    service.send("no JSON", "POST", "/v1/tasks", content=b"{", headers=JSON)
    for prompt in ("fine", "another"):
        params = {"prompt": prompt, "images": ["https://files.example/cat.png"]}
        body = {"model": "viduq2_pro_reference", "params": params}
        service.send("key used before", "POST", "/v1/tasks", json=body, headers={"Idempotency-Key": "once"})


def _with_two_hosts(service: Running) -> httpx.Response:
    """Send two Host headers over a raw socket; HTTP clients do not."""
    at = urlsplit(service.url)
    with socket.create_connection((at.hostname, at.port or 80), timeout=30) as connection:
        connection.sendall(b"GET /v1/tasks HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            return httpx.Response(400, content=answer.read().partition(b"\r\n\r\n")[2])
