"""Signing keys are given, or created once and stored beside the database."""

import asyncio
import base64
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from structlog.testing import capture_logs

from service.domain.errors import BadSetting, OperatorError
from service.domain.webhook_secrets import derive_webhook_secret
from service.runtime import process
from service.runtime.config.key_file import generate_key, load_or_create
from service.runtime.config.required_settings import ensure_secret_keys
from service.runtime.config.settings import Settings, load_settings
from tests.support.recorded_syncs import recorded_syncs

KEY = "k" * 32


def on_sqlite(directory: Path, **given: str) -> Settings:
    """Load settings with a database in `directory`."""
    environ = {f"BOOMERANG_{name}": value for name, value in given.items()}
    return load_settings({**environ, "BOOMERANG_DATABASE_URL": f"sqlite:///{directory}/boomerang.db"})


def test_keys_are_created_once_for_their_owner_only(tmp_path: Path) -> None:
    """The first start creates a key and a webhook secret in a file with mode 0600; the second start reads them."""
    first = ensure_secret_keys(on_sqlite(tmp_path))
    second = ensure_secret_keys(on_sqlite(tmp_path))
    file = tmp_path / "boomerang.db.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(first.secret_keys[0]) >= 32
    assert first.webhook_secrets[0].startswith("whsec_")
    assert (first.secret_keys, first.webhook_secrets) == (second.secret_keys, second.webhook_secrets)
    assert [path.name for path in tmp_path.iterdir()] == ["boomerang.db.key"]


def test_concurrent_starts_get_the_same_key(tmp_path: Path) -> None:
    """Processes that start at the same time sign with the same key."""
    barrier = Barrier(8)

    def start(_: int) -> tuple[str, ...]:
        barrier.wait(timeout=10)
        return ensure_secret_keys(on_sqlite(tmp_path)).secret_keys

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(start, range(8)))) == 1


def test_given_keys_create_no_file(tmp_path: Path) -> None:
    """Given keys are used unchanged, and the webhook secrets are derived from them, newest first."""
    settings = ensure_secret_keys(on_sqlite(tmp_path, SECRET_KEYS=f"{KEY}2,{KEY}1"))
    assert settings.secret_keys == (f"{KEY}2", f"{KEY}1")
    assert settings.webhook_secrets == (derive_webhook_secret(f"{KEY}2"), derive_webhook_secret(f"{KEY}1"))
    assert list(tmp_path.iterdir()) == []


def test_given_webhook_secrets_are_used_with_a_created_key(tmp_path: Path) -> None:
    """Given webhook secrets take precedence over derived ones."""
    given = "whsec_" + base64.b64encode(b"s" * 24).decode()
    settings = ensure_secret_keys(on_sqlite(tmp_path, WEBHOOK_SECRETS=given))
    assert settings.webhook_secrets == (given,)


def test_handlers_see_the_created_webhook_secrets(tmp_path: Path) -> None:
    """The secrets that sign webhooks are among the settings that handlers see."""
    settings = ensure_secret_keys(on_sqlite(tmp_path))
    assert settings.present["WEBHOOK_SECRETS"] == settings.webhook_secrets[0]


def test_ensuring_twice_changes_nothing(tmp_path: Path) -> None:
    """The second call returns equal settings."""
    settings = ensure_secret_keys(on_sqlite(tmp_path))
    assert ensure_secret_keys(settings) == settings


def test_derived_webhook_secret_does_not_reveal_the_key() -> None:
    """The derived secret has 32 bytes, differs for each key and is not the key."""
    raw = base64.b64decode(derive_webhook_secret(KEY).removeprefix("whsec_"))
    assert len(raw) == 32
    assert raw != KEY.encode()
    assert derive_webhook_secret(KEY) != derive_webhook_secret(KEY + "x")


def test_postgresql_needs_given_keys() -> None:
    """Several machines share no file, so the key must be given; the message says how to create one."""
    settings = load_settings({"DATABASE_URL": "postgresql://h/d"})
    with pytest.raises(BadSetting, match=r"BOOMERANG_SECRET_KEYS.*`boomerang secret`"):
        ensure_secret_keys(settings)


def test_key_file_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    """A key file that everybody can read stops the start, and the message has the fix."""
    ensure_secret_keys(on_sqlite(tmp_path))
    (tmp_path / "boomerang.db.key").chmod(0o644)
    with pytest.raises(BadSetting, match="chmod 600"):
        ensure_secret_keys(on_sqlite(tmp_path))


@pytest.mark.parametrize("mode", [0o640, 0o660, 0o620])
def test_group_readable_key_file_gets_its_permissions_fixed(tmp_path: Path, mode: int) -> None:
    """Platforms make files of shared volumes readable by a group: the mode is fixed and the key stays the same."""
    first = ensure_secret_keys(on_sqlite(tmp_path))
    file = tmp_path / "boomerang.db.key"
    file.chmod(mode)
    with capture_logs() as lines:
        assert ensure_secret_keys(on_sqlite(tmp_path)).secret_keys == first.secret_keys
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [line["event"] for line in lines] == ["signing key file was group-readable, permissions fixed"]
    assert first.secret_keys[0] not in str(lines)


def test_group_readable_key_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key file whose permissions cannot be fixed is not used."""
    ensure_secret_keys(on_sqlite(tmp_path))
    (tmp_path / "boomerang.db.key").chmod(0o640)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(BadSetting, match=r"its group can read it; run `chmod 600"):
        ensure_secret_keys(on_sqlite(tmp_path))


@pytest.mark.parametrize("text", ["", "SECRET_KEYS=short\n", "SECRET_KEY=" + "k" * 40, "\0\0"])
def test_damaged_key_file_is_refused_without_its_content(tmp_path: Path, text: str) -> None:
    """A file without a valid key is refused and never replaced: issued tokens were signed with its former key."""
    file = tmp_path / "boomerang.db.key"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(BadSetting, match=r"boomerang\.db\.key must have a line"):
        ensure_secret_keys(on_sqlite(tmp_path))
    assert file.read_text() == text


def test_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """If the key cannot be stored, the message says what to set instead."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSetting, match="set BOOMERANG_SECRET_KEYS"):
        ensure_secret_keys(on_sqlite(tmp_path / "file"))


def test_generated_keys_differ_and_are_valid() -> None:
    """Each generated key is different and a valid setting."""
    keys = {generate_key() for _ in range(100)}
    assert len(keys) == 100
    assert load_settings({"BOOMERANG_SECRET_KEYS": ",".join(keys)}).secret_keys == tuple(keys)


def test_no_key_file_is_created_beside_another_file(tmp_path: Path) -> None:
    """A refused start leaves the directory unchanged."""
    (tmp_path / "notes.db").write_text("no database at all, but notes" * 100)
    with pytest.raises(OperatorError):
        asyncio.run(
            process.prepare_storage(load_settings({"BOOMERANG_DATABASE_URL": f"sqlite:///{tmp_path}/notes.db"}))
        )
    assert [file.name for file in tmp_path.iterdir()] == ["notes.db"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_created_keys_survive_a_power_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key file has its name only after its bytes are on the disk, and is used only after its name is."""
    steps = recorded_syncs(monkeypatch)
    ensure_secret_keys(on_sqlite(tmp_path))
    file = tmp_path / "boomerang.db.key"
    kinds = [(kind, path == file or path.name.startswith(file.name), size) for kind, path, size in steps]
    size = file.stat().st_size
    assert kinds[:2] == [("sync", True, size), ("rename", True, size)]
    assert ("sync", tmp_path) in [(kind, path) for kind, path, _ in steps[2:]]


def test_keys_are_shown_by_no_representation(tmp_path: Path) -> None:
    """A line of the log or a traceback that shows the settings or the stored keys shows no key."""
    settings = ensure_secret_keys(on_sqlite(tmp_path, UPSTREAM_KEY="upstream-hidden", API_KEYS=f"bob={KEY}"))
    stored = load_or_create(tmp_path / "boomerang.db.key")
    shown = f"{settings!r} {settings} {stored!r} {stored}"
    for secret in (*settings.secret_keys, *settings.webhook_secrets, "upstream-hidden", KEY):
        assert secret not in shown
