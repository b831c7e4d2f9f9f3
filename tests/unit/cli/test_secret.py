"""The command `secret`: new keys and secrets, and those that sign now."""

import json
import os
from pathlib import Path

import pytest

from service.domain.webhook_secrets import derive_client_secret, derive_webhook_secret, is_webhook_secret
from tests.unit.cli.fake_service import run

NEW, OLD = "new-signing-key-of-32-characters-1", "old-signing-key-of-32-characters-2"
SETTINGS = {"BOOMERANG_SECRET_KEYS": f"{NEW},{OLD}", "BOOMERANG_API_KEYS": "ann=key-of-ann-1,root=key-of-root:admin"}


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty directory without settings in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("BOOMERANG_")] + ["DATABASE_URL"]:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "secret"),
    [
        (["--client", "ann"], derive_client_secret(NEW, "ann")),
        (["--client", "ann", "--show"], derive_client_secret(NEW, "ann")),
        (["--client", "new-client"], derive_client_secret(NEW, "new-client")),
        (["--client", "root"], derive_webhook_secret(NEW)),
        (["--show"], derive_webhook_secret(NEW)),
    ],
)
def test_secret_that_signs_now_is_printed(monkeypatch: pytest.MonkeyPatch, arguments: list[str], secret: str) -> None:
    """The newest one, alone on standard output; standard error says that older ones sign beside it."""
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    result = run("secret", *arguments)
    assert (result.exit_code, result.stdout) == (0, f"{secret}\n")
    assert "beside it" in result.stderr


def test_secret_follows_the_key_file(tmp_path: Path) -> None:
    """Without SECRET_KEYS it is derived from the key beside the SQLite file, which the service uses too."""
    first, second = run("secret", "--client", "ann"), run("secret", "--client", "ann")
    key = (tmp_path / "boomerang.db.key").read_text()
    assert first.stdout == second.stdout
    assert any(
        derive_client_secret(line.strip(), "ann") == first.stdout.strip() for line in key.replace("=", "\n").split()
    )


def test_new_webhook_secrets_differ() -> None:
    """Each is valid for WEBHOOK_SECRETS and for a notify entry."""
    found = [run("secret", "--webhook").stdout.strip() for _ in range(2)]
    assert all(map(is_webhook_secret, found))
    assert found[0] != found[1]


@pytest.mark.parametrize("arguments", [["--webhook", "--client", "ann"], ["--webhook", "--show"]])
def test_contradicting_options_are_refused(arguments: list[str]) -> None:
    """A new secret and the one that signs now cannot be printed together."""
    assert run("secret", *arguments).exit_code == 2


def test_wrong_settings_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL without SECRET_KEYS has no secret to print."""
    monkeypatch.setenv("BOOMERANG_DATABASE_URL", "postgresql://u:p@127.0.0.1:1/d")
    result = run("secret", "--client", "ann")
    assert result.exit_code == 2
    assert "BOOMERANG_SECRET_KEYS" in result.stderr


@pytest.mark.parametrize("arguments", [["--show"], ["--client", "ann"]])
def test_secret_is_shown_with_postgresql(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    """It is derived from SECRET_KEYS, so that no file and no connection is needed to see it."""
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATABASE_URL", "postgres://u:p@127.0.0.1:1/d")
    expected = derive_client_secret(NEW, "ann") if "ann" in arguments else derive_webhook_secret(NEW)
    result = run("secret", *arguments)
    assert (result.exit_code, result.stdout) == (0, f"{expected}\n")


def test_given_webhook_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """WEBHOOK_SECRETS take precedence over the derived one, the newest first."""
    new, old = (run("secret", "--webhook").stdout.strip() for _ in range(2))
    monkeypatch.setenv("BOOMERANG_WEBHOOK_SECRETS", f"{new},{old}")
    assert run("secret", "--show").stdout == f"{new}\n"


def test_rotation_keeps_the_old_secret_signing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe of the README: new,old signs with both; then the old one is removed."""
    old = run("secret", "--webhook").stdout.strip()
    monkeypatch.setenv("BOOMERANG_WEBHOOK_SECRETS", old)
    assert "beside it" not in run("secret", "--show").stderr
    new = run("secret", "--webhook").stdout.strip()
    monkeypatch.setenv("BOOMERANG_WEBHOOK_SECRETS", f"{new},{old}")
    shown = run("secret", "--show")
    assert (shown.stdout.strip(), "1 more secret signs beside it" in shown.stderr) == (new, True)
    oldest = run("secret", "--webhook").stdout.strip()
    monkeypatch.setenv("BOOMERANG_WEBHOOK_SECRETS", f"{new},{old},{oldest}")
    assert "2 more secrets sign beside it" in run("secret", "--show").stderr


def test_misspelt_client_is_reported_beside_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret exists for every name, also for one that signs nothing."""
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    assert (
        "BOOMERANG_API_KEYS has no client 'anne' here; it names ann, root" in run("secret", "--client", "anne").stderr
    )
    assert "has no client" not in run("secret", "--client", "ann").stderr


def test_new_key_file_is_reported(tmp_path: Path) -> None:
    """In another directory than that of the service the secret is another one."""
    assert "boomerang.db.key was not there and is made now" in run("secret", "--show").stderr
    assert "was not there" not in run("secret", "--show").stderr
    assert (tmp_path / "boomerang.db.key").is_file()


def test_secrets_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key, a new secret, and those that sign now with the older ones, each under its name."""
    assert len(json.loads(run("secret", "--json").stdout)["key"]) >= 32
    assert is_webhook_secret(json.loads(run("secret", "--webhook", "--json").stdout)["secret"])
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    found = json.loads(run("secret", "--client", "ann", "--json").stdout)
    assert found["secret"] == derive_client_secret(NEW, "ann")
    assert derive_client_secret(OLD, "ann") in found["older"]
