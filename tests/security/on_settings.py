"""Invalid and hostile settings: no error message repeats a value."""

import time
from collections.abc import Mapping
from pathlib import Path

import anyio
from anyio.to_thread import run_sync
from click.testing import CliRunner

from service.cli import boomerang
from service.domain.errors import BadSetting
from service.runtime.config.settings import load_settings
from tests.acceptance.processes import Workspace
from tests.security.catalogue import add, attempt, peak, require
from tests.support.ports import free_port

MB = 1024 * 1024
SECRET = "s3cr3t-never-shown"
SETTINGS = (
    "ALLOW_OFF_PEAK", "API_KEYS", "ARCHIVE_ENDPOINT", "ARCHIVE_URL", "BUDGET", "BUDGET_EACH", "CLIENT_BUDGET",
    "CLIENT_MAX_IN_FLIGHT", "CLIENT_RATE", "CONFIRM", "CREDIT_PRICE", "DATABASE_URL", "EGRESS_ALLOW", "IN_DOUBT_FOR",
    "LEASE", "LOG_FORMAT", "LOG_LEVEL", "MAX_IN_FLIGHT", "METRICS_KEY", "ON_IN_DOUBT", "POLL_FIRST", "POLL_MAX", "PORT",
    "PROVIDER", "PUBLIC_URL", "RETENTION", "RETRY_SCHEDULE", "SECRET_KEYS", "TASK_DEADLINE", "UPSTREAM_CONCURRENCY",
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
    """Set each setting to this value: it is accepted, or refused with one printable line that does not repeat it."""
    refused = 0
    began = time.process_time()
    with peak() as memory:
        for name in SETTINGS:
            try:
                load_settings({f"BOOMERANG_{name}": value})
            except BadSetting as error:
                refused += 1
                _require_no_secret(name, str(error))
    cpu_seconds = time.process_time() - began
    require(cpu_seconds < 10, f"{cpu_seconds:.1f} s of processor time")
    require(memory[0] < 256 * MB, f"{memory[0] // MB} MB were taken")
    return f"{refused} of {len(SETTINGS)} settings refuse it, none repeats it"


def _require_no_secret(name: str, output: str) -> None:
    require(SECRET not in output, f"{name} repeats it: {output[:80]}")
    require(output.isprintable() and len(output) < 500, f"{name}: {output[:80]!r}")
    require(name in output, f"{name} is not named: {output[:80]}")


def _value(label: str, value: str) -> None:
    async def run(home: Path) -> str:
        return await _set(home, value)

    add("settings", label, run)


for _label, _text in VALUES.items():
    _value(_label, _text)


DATABASES = {
    "a password with a broken escape": f"postgresql://u:{SECRET}%ZZ@127.0.0.1:1/d",
    "a password as an option": f"postgresql://u@127.0.0.1:1/d?password={SECRET}",
    "a password for its key": f"postgresql://u:{SECRET}@127.0.0.1:1/d?sslmode=require&sslkey=/etc/passwd",
    "a password and an unknown host": f"postgresql://u:{SECRET}@nowhere.invalid/d",
    "a password and an unknown option": f"postgresql://u:{SECRET}@127.0.0.1:1/d?colour=red",
    "a line break in a file's name": f"sqlite:////nowhere/{SECRET}\nstarted address=http://evil.example.org/x.db",
    "a file that is a device": "sqlite:////dev/full",
    "a file that is a directory": "sqlite:////etc",
}


async def _connect(home: Path, url: str) -> str:
    """Run a command with this database URL: it ends immediately with one line without the secret."""
    env = {"BOOMERANG_DATABASE_URL": url, "HOME": str(home), "BOOMERANG_SECRET_KEYS": "k" * 40}
    return await _run(env, "migrate")


async def _run(env: Mapping[str, str], *arguments: str) -> str:
    done = await run_sync(lambda: CliRunner().invoke(boomerang, list(arguments), env=dict(env)), abandon_on_cancel=True)
    output = done.output.strip()
    require(isinstance(done.exception, SystemExit), f"a traceback: {done.exception!r}")
    require(done.exit_code in {1, 2}, f"exit code {done.exit_code}")
    require(SECRET not in output, f"it is exposed: {output[:200]}")
    require(len(output.splitlines()) == 1 and output.isprintable(), f"more than a line: {output[:200]!r}")
    return f"exit {done.exit_code}: {output[:90]}"


def _database(label: str, url: str) -> None:
    async def run(home: Path) -> str:
        return await _connect(home, url)

    add("settings", f"DATABASE_URL with {label}", run)


for _label, _text in DATABASES.items():
    _database(_label, _text)


@attempt("settings", "a provider key that would be two headers")
async def key_with_break(home: Path) -> str:
    """Put a line break into the key: the start is refused without showing the key."""
    env = {
        "BOOMERANG_UPSTREAM_KEY": f"{SECRET}\r\nX-Evil: 1",
        "BOOMERANG_DATABASE_URL": f"sqlite:///{home / 'boomerang.db'}",
        "BOOMERANG_PUBLIC_URL": "",
    }
    return await _run(env, "reconcile", "--once")


@attempt("settings", "a handler name with terminal control characters")
async def steering_name(home: Path) -> str:
    """Configure an unknown handler with an escape sequence and a line break in its name."""
    env = {
        "BOOMERANG_UPSTREAM_KEY": "any-key-of-the-upstream",
        "BOOMERANG_DATABASE_URL": f"sqlite:///{home / 'boomerang.db'}",
        "BOOMERANG_HANDLERS": "log,evil\n\x1b[2J",
    }
    return await _run(env, "reconcile", "--once")


@attempt("settings", "a public address without API_KEYS")
async def public_without_keys(home: Path) -> str:
    """Start behind a proxy without keys, where anybody would be an admin: the start is refused with the fix."""
    env = {
        "BOOMERANG_UPSTREAM_KEY": "any-key-of-the-upstream",
        "BOOMERANG_DATABASE_URL": f"sqlite:///{home / 'boomerang.db'}",
        "BOOMERANG_LEASE": "1s",
    }
    for address in ({"BOOMERANG_PUBLIC_URL": "https://video.example.org"}, {"RENDER_EXTERNAL_URL": "https://a.test"}):
        workspace = Workspace(home=home, quiet=True, forks=True)
        with workspace:
            child = workspace.start("serve", "serve", "--port", str(free_port()), env={**env, **address})
            with anyio.move_on_after(20):
                await child.ended()
            require(not child.alive, "it serves anybody as an admin")
            require(child.process.returncode == 2, f"exit {child.process.returncode}")
            require("name=KEY:admin" in child.output(), child.output()[:200])
    return "exit 2, with the fix in the message"
