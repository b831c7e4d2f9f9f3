"""Settings from careless or hostile hands: whatever is wrong with them, no value of theirs is repeated."""

import time
from collections.abc import Mapping
from pathlib import Path

from anyio.to_thread import run_sync
from click.testing import CliRunner

from service.cli import boomerang
from service.domain.errors import BadSetting
from service.runtime.config.settings import load_settings
from tests.security.catalogue import add, attempt, hold, peak

MB = 1024 * 1024
SECRET = "s3cr3t-never-told"
SETTINGS = (
    "ALLOW_OFF_PEAK", "API_KEYS", "ARCHIVE_URL", "BUDGET", "CONFIRM", "DATABASE_URL", "EGRESS_ALLOW", "IN_DOUBT_FOR",
    "LEASE", "LOG_FORMAT", "LOG_LEVEL", "MAX_IN_FLIGHT", "ON_IN_DOUBT", "POLL_FIRST", "POLL_MAX", "PORT", "PROVIDER",
    "PUBLIC_URL", "RETENTION", "RETRY_SCHEDULE", "SECRET_KEYS", "TASK_DEADLINE", "UPSTREAM_CONCURRENCY",
    "UPSTREAM_RATE", "UPSTREAM_URL", "WEBHOOK_SECRETS", "WEBHOOK_URL", "WEB_CONCURRENCY",
)  # fmt: skip
VALUES: dict[str, str] = {
    "a secret where it does not belong": SECRET,
    "a line break and a line of its own": f"{SECRET}\nstarted address=http://evil.example.org",
    "an escape sequence": f"{SECRET}\x1b[2J\x1b]0;pwned\x07",
    "text that runs backwards": f"{SECRET}\u202e",
    "a NUL": f"{SECRET}\0",
    "half a character": f"{SECRET}\udcff",
    "ten million characters": SECRET * 600_000,
    "a million digits": "9" * MB,
    "a million commas": "," * MB,
    "an address with a password": f"http://user:{SECRET}@",
    "a database with a password and no port": f"postgresql://user:{SECRET}@host:port/x",
    "a key for a role that there is not": f"name={SECRET}:root",
}


async def _set(_: Path, value: str) -> str:
    """Give each setting this value: it is taken, or one printable line that does not repeat it says what is allowed."""
    refused = 0
    began = time.process_time()
    with peak() as memory:
        for name in SETTINGS:
            try:
                load_settings({f"BOOMERANG_{name}": value})
            except BadSetting as error:
                refused += 1
                _hold_quiet(name, str(error))
    spent = time.process_time() - began
    hold(spent < 10, f"{spent:.1f} s of processor time")
    hold(memory[0] < 256 * MB, f"{memory[0] // MB} MB were taken")
    return f"{refused} of {len(SETTINGS)} settings refuse it, none repeats it"


def _hold_quiet(name: str, said: str) -> None:
    hold(SECRET not in said, f"{name} repeats it: {said[:80]}")
    hold(said.isprintable() and len(said) < 500, f"{name}: {said[:80]!r}")
    hold(name in said, f"{name} is not named: {said[:80]}")


def _value(what: str, value: str) -> None:
    async def play(home: Path) -> str:
        return await _set(home, value)

    add("settings", what, play)


for _what, _text in VALUES.items():
    _value(_what, _text)


DATABASES = {
    "a password with a broken escape": f"postgresql://u:{SECRET}%ZZ@127.0.0.1:1/d",
    "a password as an option": f"postgresql://u@127.0.0.1:1/d?password={SECRET}",
    "a password for its key": f"postgresql://u:{SECRET}@127.0.0.1:1/d?sslmode=require&sslkey=/etc/passwd",
    "a password, and a host that there is not": f"postgresql://u:{SECRET}@nowhere.invalid/d",
    "a password, and an option that there is not": f"postgresql://u:{SECRET}@127.0.0.1:1/d?colour=red",
    "a line break in a file's name": f"sqlite:////nowhere/{SECRET}\nstarted address=http://evil.example.org/x.db",
    "a file that is a device": "sqlite:////dev/full",
    "a file that is a directory": "sqlite:////etc",
}


async def _connect(home: Path, url: str) -> str:
    """Run a command over this database: it ends at once with one line that tells no secret."""
    env = {"BOOMERANG_DATABASE_URL": url, "HOME": str(home), "BOOMERANG_SECRET_KEYS": "k" * 40}
    return await _run(env, "migrate")


async def _run(env: Mapping[str, str], *arguments: str) -> str:
    done = await run_sync(lambda: CliRunner().invoke(boomerang, list(arguments), env=dict(env)), abandon_on_cancel=True)
    said = done.output.strip()
    hold(isinstance(done.exception, SystemExit), f"a traceback: {done.exception!r}")
    hold(done.exit_code in {1, 2}, f"exit code {done.exit_code}")
    hold(SECRET not in said, f"it is told: {said[:200]}")
    hold(len(said.splitlines()) == 1 and said.isprintable(), f"more than a line: {said[:200]!r}")
    return f"exit {done.exit_code}: {said[:90]}"


def _database(what: str, url: str) -> None:
    async def play(home: Path) -> str:
        return await _connect(home, url)

    add("settings", f"DATABASE_URL with {what}", play)


for _what, _text in DATABASES.items():
    _database(_what, _text)


@attempt("settings", "an upstream key that would be two headers")
async def key_with_break(home: Path) -> str:
    """Put a line break into the key: the start is refused, and the key is not shown."""
    env = {
        "BOOMERANG_UPSTREAM_KEY": f"{SECRET}\r\nX-Evil: 1",
        "BOOMERANG_DATABASE_URL": f"sqlite:///{home / 'boomerang.db'}",
        "BOOMERANG_PUBLIC_URL": "",
    }
    return await _run(env, "reconcile", "--once")


@attempt("settings", "a handler's name that steers the terminal")
async def steering_name(home: Path) -> str:
    """Name a handler that there is not, with an escape sequence and a line break in its name."""
    env = {
        "BOOMERANG_UPSTREAM_KEY": "any-key-of-the-upstream",
        "BOOMERANG_DATABASE_URL": f"sqlite:///{home / 'boomerang.db'}",
        "BOOMERANG_HANDLERS": "log,evil\n\x1b[2J",
    }
    return await _run(env, "reconcile", "--once")
