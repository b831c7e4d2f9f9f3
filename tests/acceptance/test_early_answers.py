"""Ordinary clients that upload, directly and behind ordinary proxies: refused early, or asking for HTTP/2 beside."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest

from tests.acceptance.processes import HOST, Workspace, wait_for_response
from tests.support import front_proxies
from tests.support.ports import free_port
from tests.support.upload_clients import PROGRAMS, Upload, missing, upload

KEY = "key-of-the-client-of-these-tests"
JSON = {"Content-Type": "application/json"}
SETTINGS = {
    "BOOMERANG_API_KEYS": f"ann={KEY}",
    "BOOMERANG_UPSTREAM_KEY": "unused",
    "BOOMERANG_UPSTREAM_URL": "http://127.0.0.1:9",
    "BOOMERANG_HANDLERS": "log",
}
MB = 1024 * 1024
FRONTS = {
    "direct": None,
    "nginx": front_proxies.NGINX,
    "nginx unbuffered": front_proxies.NGINX,
    "nginx unbuffered 1.1": front_proxies.NGINX,
    "haproxy": front_proxies.HAPROXY,
}


def _front(name: str, port: int) -> AbstractContextManager[str]:
    if name == "direct":
        return nullcontext(f"http://{HOST}:{port}")
    if name == "haproxy":
        return front_proxies.haproxy(port)
    more = {"nginx": "", "nginx unbuffered": front_proxies.UNBUFFERED}
    return front_proxies.nginx(port, more=more.get(name, front_proxies.UNBUFFERED_1_1))


@contextmanager
def _serving(home: Path, front: str) -> Iterator[str]:
    """Run the service inside the block; yield the address of `front` before it."""
    if front != "direct" and FRONTS[front] is None:
        pytest.skip(f"{front.partition(' ')[0]} is not installed")
    port = free_port()
    with Workspace(home=home, forks=True) as workspace:
        child = workspace.start("serve", "serve", "--port", str(port), env=SETTINGS, url=f"http://{HOST}:{port}")
        anyio.run(wait_for_response, child)
        with _front(front, port) as url:
            yield url


def _cases(url: str) -> list[tuple[int, Upload]]:
    """Return uploads that are refused before their bodies are read, with the expected status."""
    bearer = {"Authorization": f"Bearer {KEY}", **JSON}
    return [
        (status, Upload(url=url + path, size=size, chunked=chunked, headers=headers))
        for status, path, size, headers in (
            (413, "/v1/tasks", 40 * MB, bearer),
            (401, "/v1/tasks", 30 * MB, JSON),
            (404, "/nowhere", 30 * MB, bearer),
            (403, "/callbacks/forged", 5 * MB, JSON),
        )
        for chunked in (False, True)
    ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "front", [one if one in ("direct", "nginx") else pytest.param(one, marks=pytest.mark.slow) for one in FRONTS]
)
def test_status_is_seen_while_the_body_is_uploaded(tmp_path: Path, front: str) -> None:
    """413, 401, 404 and 403 reach every client that sends the whole body before it reads, or stops when refused."""
    with _serving(tmp_path, front) as url:
        found = {}
        for client in PROGRAMS:
            cases = _cases(url)
            if client == "java":  # one set of headers a run
                cases = [each for each in cases if urlsplit(each[1].url).path == "/v1/tasks" and each[0] == 413]
            if missing(client) is None:
                statuses = upload(client, [each for _, each in cases], tmp_path)
                found[client] = list(zip([status for status, _ in cases], statuses, strict=True))
    assert found
    wrong = {
        client: seen for client, pairs in found.items() if (seen := [each for each in pairs if each[0] != each[1]])
    }
    assert not wrong


@pytest.mark.parametrize("client", ["java", "curl --http2"])
def test_body_beside_an_upgrade_is_read(tmp_path: Path, client: str) -> None:
    """A task whose request also offers HTTP/2 (`Upgrade: h2c`) is accepted, whole or in chunks."""
    if reason := missing(client):
        pytest.skip(reason)
    task = {"model": "viduq2_pro_reference", "params": {"prompt": "a cat", "images": ["https://example.org/cat.png"]}}
    headers = {"Authorization": f"Bearer {KEY}", **JSON}
    with _serving(tmp_path, "direct") as url:
        uploads = [
            Upload(url=f"{url}/v1/tasks", chunked=chunked, text=json.dumps(task), headers=headers)
            for chunked in (False, True)
        ]
        assert upload(client, uploads, tmp_path) == [202, 202]
