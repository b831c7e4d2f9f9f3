"""Store the signing key of a service on SQLite beside the database, in a file that only its owner can read.

A file that everybody can read is refused, because the key may be known. Platforms that share volumes make files
readable by a group; such a file gets its permissions fixed, with a warning in the log.
"""

import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from service.domain.errors import BadSetting
from service.domain.webhook_secrets import derive_webhook_secret
from service.runtime.config.setting_parsers import secret_keys, webhook_secrets

log = structlog.get_logger("boomerang.runtime")

KEY_BYTES = 32
OWNER_ONLY = 0o600


@dataclass(frozen=True, kw_only=True)
class StoredKeys:
    """Signing keys and webhook secrets, newest first."""

    secret_keys: tuple[str, ...] = field(repr=False)
    webhook_secrets: tuple[str, ...] = field(repr=False)


def generate_key() -> str:
    """Return a new signing key: 32 random bytes in URL-safe base64, 43 characters."""
    return secrets.token_urlsafe(KEY_BYTES)


def load_or_create(path: Path) -> StoredKeys:
    """Return the keys in the file at `path`; create it if it is missing. Concurrent processes get the same keys.

    Raises BadSetting when the file cannot be created or is not safe.
    """
    try:
        if not path.exists():
            _create(path)
        _restrict_to_owner(path)
        return _parse(path, path.read_text("ascii"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise BadSetting(f"{path} cannot store the signing key ({reason}); set BOOMERANG_SECRET_KEYS instead") from None


def read_existing(path: Path) -> StoredKeys | None:
    """Return the keys in the file at `path`, None without one. Nothing is created and no permission is changed.

    Raises BadSetting when the file cannot be read or is not safe.
    """
    try:
        if not path.exists():
            return None
        if path.stat().st_mode & stat.S_IRWXO:
            raise _readable_by_others(path)
        return _parse(path, path.read_text("ascii"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise BadSetting(f"{path} holds the signing key and cannot be read: {reason}") from None


def _readable_by_others(path: Path) -> BadSetting:
    return BadSetting(f"{path} holds the signing key and others can read it; run `chmod 600 {path}`")


def _restrict_to_owner(path: Path) -> None:
    mode = path.stat().st_mode
    if mode & stat.S_IRWXO:
        raise _readable_by_others(path)
    if mode & stat.S_IRWXG:
        try:
            path.chmod(OWNER_ONLY)
        except PermissionError:
            raise BadSetting(
                f"{path} holds the signing key and its group can read it; run `chmod 600 {path}`"
            ) from None
        log.warning("signing key file was group-readable, permissions fixed", file=str(path), mode="600")


def _create(path: Path) -> None:
    key = generate_key()
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_new(temporary, f"SECRET_KEYS={key}\nWEBHOOK_SECRETS={derive_webhook_secret(key)}\n")
    try:
        # linking is atomic, so that no process reads half a key
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
    _sync_directory(path.parent)


def _write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _sync_directory(directory: Path) -> None:
    """Make the name of a new key file durable: tokens signed with a lost key would be refused."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _parse(path: Path, text: str) -> StoredKeys:
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    try:
        stored = lines.get("WEBHOOK_SECRETS", "")
        return StoredKeys(
            secret_keys=secret_keys(lines["SECRET_KEYS"]), webhook_secrets=webhook_secrets(stored) if stored else ()
        )
    except (KeyError, ValueError):
        raise BadSetting(f"{path} must have a line SECRET_KEYS=... with keys of at least 32 characters") from None
