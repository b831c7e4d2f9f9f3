"""Requests that are rejected, each for another reason; each response is recorded under a name."""

import socket
from urllib.parse import urlsplit

import httpx

from tests.unit.frozen.running import Running

JSON = {"Content-Type": "application/json"}


def ask_wrongly(service: Running) -> None:
    """Send every request that a client can send and that is rejected."""
    _as_somebody_else(service)
    _about_tasks(service)
    for name, more in {
        "no JSON type": {"Content-Type": "text/plain"},
        "no UTF-8": {"Content-Type": "application/json; charset=latin-1"},
        "encoded": {**JSON, "Content-Encoding": "gzip"},
        "bad key": {**JSON, "Idempotency-Key": ""},
    }.items():
        service.ask(name, "POST", "/v1/tasks", content=b"{}", headers=more)
    service.ask("no such address", "GET", "/nowhere")
    service.ask("no such method", "PUT", "/v1/tasks")
    service.answers["two hosts"] = {"status": 400, "body": _with_two_hosts(service).json()}


def _as_somebody_else(service: Running) -> None:
    service.ask("unknown key", "GET", "/v1/tasks", headers={"Authorization": "Bearer wrong"})
    service.ask("no admin", "POST", "/v1/reconcile", headers={"Authorization": "Bearer key-of-ann"})


def _about_tasks(service: Running) -> None:
    service.ask("no such task", "GET", "/v1/tasks/nobody")
    service.ask("over already", "POST", "/v1/tasks/completed/cancel")
    service.ask("no parameters", "POST", "/v1/tasks", json={"model": "viduq2_pro_reference", "params": {}})
    service.ask("no JSON", "POST", "/v1/tasks", content=b"{", headers=JSON)
    for prompt in ("fine", "another"):
        params = {"prompt": prompt, "images": ["https://files.example/cat.png"]}
        body = {"model": "viduq2_pro_reference", "params": params}
        service.ask("key used before", "POST", "/v1/tasks", json=body, headers={"Idempotency-Key": "once"})


def _with_two_hosts(service: Running) -> httpx.Response:
    """Send two Host headers over a raw socket; HTTP clients do not."""
    at = urlsplit(service.url)
    with socket.create_connection((at.hostname, at.port or 80), timeout=30) as connection:
        connection.sendall(b"GET /v1/tasks HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            return httpx.Response(400, content=answer.read().partition(b"\r\n\r\n")[2])
