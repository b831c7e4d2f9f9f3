"""Where the client commands take the address and the key from: both from one place."""

from pathlib import Path

import pytest

from service.cli.api_client import DEFAULT_URL, Access, find_access
from tests.unit.cli.fake_service import FakeService, fake_service, problem, run, task

URL, KEY = "BOOMERANG_URL", "BOOMERANG_API_KEY"
SHELL, FILE = "https://shell.example.org", "https://file.example.org"


@pytest.mark.parametrize(
    ("options", "environ", "dotenv", "access"),
    [
        ((None, None), {URL: SHELL, KEY: "s"}, {URL: FILE, KEY: "f"}, (SHELL, "s")),
        ((None, None), {}, {URL: FILE, KEY: "f"}, (FILE, "f")),
        ((None, None), {KEY: "s"}, {URL: FILE, KEY: "f"}, (FILE, "f")),
        ((None, None), {KEY: "s"}, {URL: FILE}, (FILE, None)),
        ((None, None), {URL: SHELL}, {KEY: "f"}, (SHELL, None)),
        ((None, None), {URL: SHELL}, {URL: FILE, KEY: "f"}, (SHELL, None)),
        ((None, None), {KEY: "s"}, {KEY: "f"}, (DEFAULT_URL, "s")),
        ((None, None), {}, {KEY: "f"}, (DEFAULT_URL, "f")),
        ((None, None), {}, {}, (DEFAULT_URL, None)),
        ((None, "o"), {KEY: "s"}, {URL: FILE, KEY: "f"}, (FILE, "o")),
        (("https://o", None), {URL: SHELL, KEY: "s"}, {URL: FILE, KEY: "f"}, ("https://o", "s")),
        (("https://o", None), {URL: SHELL}, {URL: FILE, KEY: "f"}, ("https://o", "f")),
        (("https://o", "o"), {URL: SHELL, KEY: "s"}, {URL: FILE, KEY: "f"}, ("https://o", "o")),
        (("https://o", ""), {KEY: "s"}, {KEY: "f"}, ("https://o", None)),
    ],
)
def test_address_and_key_come_from_one_place(
    tmp_path: Path,
    options: tuple[str | None, str | None],
    environ: dict[str, str],
    dotenv: dict[str, str],
    access: tuple[str, str | None],
) -> None:
    """A key of the shell is never for an address of a `.env`, nor vice versa; options take precedence."""
    path = tmp_path / ".env"
    path.write_text("".join(f"{name}={value}\n" for name, value in dotenv.items()))
    found = find_access(*options, environ, path)
    assert (found.url, found.api_key) == access
    unused = access[1] is None and options[1] is None and bool(environ.get(KEY) or dotenv.get(KEY))
    assert bool(found.note) == unused


def test_key_does_not_show_in_the_representation() -> None:
    """The access is safe to log."""
    assert "hidden" not in repr(Access(url=SHELL, api_key="hidden"))


def test_key_of_the_shell_is_not_sent_to_an_address_of_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a directory with another person's `.env` the command goes without a key, and says why."""
    monkeypatch.chdir(tmp_path)
    with fake_service() as service:
        _respond(service)
        (tmp_path / ".env").write_text(f"{URL}={service.url}\n")
        result = run("status", "x", env={KEY: "key-of-the-shell"})
        refused = run("status", "y", env={KEY: "key-of-the-shell"})
    assert ["authorization" in request.headers for request in service.requests] == [False, False]
    note = "Note: BOOMERANG_API_KEY of the environment is not sent to the BOOMERANG_URL of .env; set both in one place"
    assert (result.exit_code, refused.exit_code) == (0, 2)
    assert note in result.stderr
    assert note in refused.stderr


def _respond(service: FakeService) -> None:
    service.respond_to("GET /v1/tasks/x", (200, task()))
    service.respond_to("GET /v1/tasks/y", (401, problem("send a key")))


@pytest.mark.parametrize("body", [{"error": "not found"}, [], "<html>", {"detail": ""}, {}])
def test_other_service_at_the_address_is_named(body: object) -> None:
    """An error that is no problem of the API comes from another program: the message says so, with its address."""
    with fake_service() as service:
        service.respond_to("GET /v1/tasks", (404, body))
        result = run("tasks", url=service.url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "127.0.0.1 did not respond like a Boomerang service (HTTP 404)" in result.stderr
