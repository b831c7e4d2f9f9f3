"""Signing keys: given, or made once and kept beside the database."""

import asyncio
import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from structlog.testing import capture_logs

from service.domain.errors import BadSetting, OperatorError
from service.domain.webhook_secrets import derive_webhook_secret
from service.runtime import process as main
from service.runtime.config.key_file import generate_key
from service.runtime.config.settings import Settings, ensure_secret_keys, load_settings

KEY = "k" * 32


def on_sqlite(directory: Path, **given: str) -> Settings:
    """Load settings whose database lies in `directory`."""
    environ = {f"BOOMERANG_{name}": value for name, value in given.items()}
    return load_settings({**environ, "BOOMERANG_DATABASE_URL": f"sqlite:///{directory}/boomerang.db"})


def test_keys_are_made_once_and_kept_for_their_owner_only(tmp_path: Path) -> None:
    """The first start makes a key and a webhook secret in a file with mode 0600; the second finds them."""
    first = ensure_secret_keys(on_sqlite(tmp_path))
    second = ensure_secret_keys(on_sqlite(tmp_path))
    file = tmp_path / "boomerang.db.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(first.secret_keys[0]) >= 32
    assert first.webhook_secrets[0].startswith("whsec_")
    assert (first.secret_keys, first.webhook_secrets) == (second.secret_keys, second.webhook_secrets)
    assert [path.name for path in tmp_path.iterdir()] == ["boomerang.db.key"]


def test_starts_that_race_agree_on_one_key(tmp_path: Path) -> None:
    """However many begin at once, all sign with the same key."""
    together = Barrier(8)

    def start(_: int) -> tuple[str, ...]:
        together.wait(timeout=10)
        return ensure_secret_keys(on_sqlite(tmp_path)).secret_keys

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(start, range(8)))) == 1


def test_given_keys_leave_no_file(tmp_path: Path) -> None:
    """Keys from the settings are used as they are, and the webhook secrets follow from them, newest first."""
    settings = ensure_secret_keys(on_sqlite(tmp_path, SECRET_KEYS=f"{KEY}2,{KEY}1"))
    assert settings.secret_keys == (f"{KEY}2", f"{KEY}1")
    assert settings.webhook_secrets == (derive_webhook_secret(f"{KEY}2"), derive_webhook_secret(f"{KEY}1"))
    assert list(tmp_path.iterdir()) == []


def test_given_webhook_secrets_are_kept_beside_a_made_key(tmp_path: Path) -> None:
    """The operator's webhook secrets win over made ones."""
    given = "whsec_" + base64.b64encode(b"s" * 24).decode()
    settings = ensure_secret_keys(on_sqlite(tmp_path, WEBHOOK_SECRETS=given))
    assert settings.webhook_secrets == (given,)


def test_handlers_find_the_webhook_secrets_that_were_made(tmp_path: Path) -> None:
    """What signs webhooks is among the settings that handlers see."""
    settings = ensure_secret_keys(on_sqlite(tmp_path))
    assert settings.present["WEBHOOK_SECRETS"] == settings.webhook_secrets[0]


def test_ensuring_twice_changes_nothing(tmp_path: Path) -> None:
    """The second call returns equal settings."""
    settings = ensure_secret_keys(on_sqlite(tmp_path))
    assert ensure_secret_keys(settings) == settings


def test_a_derived_webhook_secret_does_not_show_the_key() -> None:
    """The secret that receivers get is another one for each key, of 32 bytes, and not the key."""
    raw = base64.b64decode(derive_webhook_secret(KEY).removeprefix("whsec_"))
    assert len(raw) == 32
    assert raw != KEY.encode()
    assert derive_webhook_secret(KEY) != derive_webhook_secret(KEY + "x")


def test_postgresql_needs_given_keys() -> None:
    """Several machines cannot agree on a file, so that the key must be given; the message says how to make one."""
    settings = load_settings({"DATABASE_URL": "postgresql://h/d"})
    with pytest.raises(BadSetting, match=r"BOOMERANG_SECRET_KEYS.*`boomerang secret`"):
        ensure_secret_keys(settings)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """A key file that is open to everybody stops the start, with the mend."""
    ensure_secret_keys(on_sqlite(tmp_path))
    (tmp_path / "boomerang.db.key").chmod(0o644)
    with pytest.raises(BadSetting, match="chmod 600"):
        ensure_secret_keys(on_sqlite(tmp_path))


@pytest.mark.parametrize("mode", [0o640, 0o660, 0o620])
def test_a_key_that_is_open_to_its_group_is_closed_again(tmp_path: Path, mode: int) -> None:
    """Platforms open the files of shared volumes to a group: the key goes back to its owner, and stays the same."""
    first = ensure_secret_keys(on_sqlite(tmp_path))
    file = tmp_path / "boomerang.db.key"
    file.chmod(mode)
    with capture_logs() as said:
        assert ensure_secret_keys(on_sqlite(tmp_path)).secret_keys == first.secret_keys
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [line["event"] for line in said] == ["the signing key was open to its group: closed"]
    assert first.secret_keys[0] not in str(said)


def test_a_key_of_somebody_else_that_is_open_to_a_group_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What we may not close is not used."""
    ensure_secret_keys(on_sqlite(tmp_path))
    (tmp_path / "boomerang.db.key").chmod(0o640)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(BadSetting, match=r"its group can read it; run `chmod 600"):
        ensure_secret_keys(on_sqlite(tmp_path))


@pytest.mark.parametrize("text", ["", "SECRET_KEYS=short\n", "SECRET_KEY=" + "k" * 40, "\0\0"])
def test_a_damaged_key_file_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    """A file without a sound key is told, never replaced: tokens that are out there were signed with what it held."""
    file = tmp_path / "boomerang.db.key"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(BadSetting, match=r"boomerang\.db\.key must have a line"):
        ensure_secret_keys(on_sqlite(tmp_path))
    assert file.read_text() == text


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Where the key cannot be kept, the message says what to set instead."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSetting, match="set BOOMERANG_SECRET_KEYS"):
        ensure_secret_keys(on_sqlite(tmp_path / "file"))


def test_fresh_keys_differ_and_are_long_enough() -> None:
    """Each key is new, and the settings take it."""
    keys = {generate_key() for _ in range(100)}
    assert len(keys) == 100
    assert load_settings({"BOOMERANG_SECRET_KEYS": ",".join(keys)}).secret_keys == tuple(keys)


def test_no_key_is_left_beside_a_file_that_is_not_ours(tmp_path: Path) -> None:
    """A start that is refused leaves everything as it was."""
    (tmp_path / "notes.db").write_text("no database at all, but somebody's notes" * 100)
    with pytest.raises(OperatorError):
        asyncio.run(main._prepare_storage(load_settings({"BOOMERANG_DATABASE_URL": f"sqlite:///{tmp_path}/notes.db"})))
    assert [file.name for file in tmp_path.iterdir()] == ["notes.db"]
