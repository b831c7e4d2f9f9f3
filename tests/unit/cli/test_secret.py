"""The command `secret`: new keys and secrets, and those that sign now."""

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
    assert "more sign beside it" in result.stderr


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
