"""Run schemathesis against the real service, its sandbox and an SQLite file, on loopback."""

import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import anyio

from service.api.server import listen, serving
from service.runtime.config.settings import Settings, load_settings
from service.runtime.process import running
from service.sandbox import Sandbox, Switches
from tests.security.environment import captured
from tests.support.ports import free_port

HOST = "127.0.0.1"
ROOT = Path(__file__).parents[2]
ADMIN, CLIENT = "root-key-0123456789", "anna-key-0123456789"
PHASES = "examples,coverage,fuzzing,stateful"
REQUEST_SECONDS = 70
"""Longer than the longest wait of a request."""
CONFIG = f"""
[auth.openapi.key]
bearer = "{ADMIN}"

[generation]
allow-x00 = false

[checks.response_schema_conformance]
validate-formats = true
"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Output and exit code of schemathesis (0: no findings), and the internal errors that the service logged."""

    code: int
    output: str
    faults: list[str] = field(default_factory=list)


@asynccontextmanager
async def service(home: Path, *, seed: int, database: str | None = None) -> AsyncIterator[str]:
    """Run the service with its sandbox and `database`, by default a file in `home`, and yield its address."""
    switches = Switches(run_time=0.05, tiny_videos=True)
    sandbox = Sandbox(switches, now=lambda: datetime.now(UTC), random=random.Random(seed))  # noqa: S311 - repeatable
    async with sandbox.running(), serving(sandbox.app, listen(HOST, 0), grace=1) as upstream:
        port = free_port()
        async with running(
            _settings(database or f"sqlite:///{home / 'boomerang.db'}", upstream, port), host=HOST, port=port
        ) as base:
            yield base


async def run(home: Path, *, examples: int, seed: int, phases: str = PHASES, database: str | None = None) -> Result:
    """Test the service against its document, with at most `examples` requests of each kind for an operation."""
    with captured("json") as logged:
        async with service(home, seed=seed, database=database) as base:
            code, output = await _schemathesis(home, base, examples=examples, seed=seed, phases=phases)
        faults = [line for line in logged.getvalue().splitlines() if "request failed" in line]
    return Result(code=code, output=output, faults=faults)


def _settings(database: str, upstream: str, port: int) -> Settings:
    values = {
        "PUBLIC_URL": f"http://{HOST}:{port}",
        "UPSTREAM_URL": upstream,
        "UPSTREAM_KEY": "any",
        "DATABASE_URL": database,
        "SECRET_KEYS": "signing-key-of-the-conformance-tests-1234",
        "API_KEYS": f"root={ADMIN}:admin,anna={CLIENT}",
        "UPSTREAM_RATE": "500/s",
        "HANDLERS": "log,webhook",
        "EGRESS_ALLOW": "127.0.0.0/8",
        "NOTIFY_ALLOW": "127.0.0.0/8",
        "RETRY_SCHEDULE": "0s",
    }
    return load_settings({f"BOOMERANG_{name}": value for name, value in values.items()})


async def _schemathesis(home: Path, base: str, *, examples: int, seed: int, phases: str) -> tuple[int, str]:
    config = home / "schemathesis.toml"
    await anyio.Path(config).write_text(CONFIG)
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config), "run"]
    options = {
        "header": f"Authorization: Bearer {ADMIN}",
        "checks": "all",
        "phases": phases,
        "max-examples": examples,
        "seed": seed,
        "generation-database": "none",
        "suppress-health-check": "all",
        "warnings": "off",
        "max-failures": 25,
        "request-timeout": REQUEST_SECONDS,
        "max-response-time": REQUEST_SECONDS,  # by default 10 s, which a busy machine exceeds
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    environment = {"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.openapi.hooks", "NO_COLOR": "1"}
    done = await anyio.run_process(
        [*command, f"{base}/openapi.json", *flags, "--continue-on-failure"],
        cwd=home,
        env=os.environ | environment,
        check=False,
    )
    return done.returncode, done.stdout.decode() + done.stderr.decode()
