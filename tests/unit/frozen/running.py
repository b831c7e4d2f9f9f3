"""A `boomerang serve` process with its own database, observed through HTTP and SQL."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.unit.frozen.provider import Json, Script

KEY = "frozen-frozen-frozen-frozen-frozen-frozen"
"""The signing key of the stored tokens in these tests."""

PATIENCE = 60.0
"""Maximum wait in seconds; the machine may be busy."""

MICROSECONDS = 1_000_000
MODEL = "viduq2_pro_reference"
MAIN = "from service.cli import main; main()"
ROW = {
    "client": "root",
    "provider": "vtrix",
    "model": MODEL,
    "bucket": f"{MODEL}/5/720p",
    "status": "in_progress",
    "guessed": 0,
    "unconfirmed": 0,
    "submission": 1,
    "tries": 0,
    "polls": 0,
    "metadata": "{}",
    "notify": "[]",
    "output": "[]",
    "warnings": "[]",
    "fence": 1,
}
"""Column values of every task that is inserted by SQL."""


@dataclass(kw_only=True)
class Running:
    """A running service; `script` holds the replies of its provider."""

    url: str
    database: Path
    script: Script
    headers: Mapping[str, str]
    ids: dict[str, str] = field(default_factory=dict)
    answers: Json = field(default_factory=dict)

    def request(self, method: str, path: str, **how: Any) -> httpx.Response:
        """Send one request, by default as the admin."""
        headers = {**self.headers, **how.pop("headers", {})}
        return httpx.request(method, self.url + path, headers=headers, timeout=PATIENCE, **how)

    def note(self, name: str, answer: httpx.Response) -> httpx.Response:
        """Record status and body of a response under `name`, and return the response."""
        body = answer.json() if "json" in answer.headers.get("content-type", "") else answer.text
        self.answers[name] = {"status": answer.status_code, "body": body}
        return answer

    def ask(self, name: str, method: str, path: str, **how: Any) -> httpx.Response:
        """Send one request, and record its response under `name`."""
        return self.note(name, self.request(method, path, **how))

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        with closing(sqlite3.connect(self.database, timeout=PATIENCE)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query, values)]

    def task(self, task_id: str) -> dict[str, Any]:
        """Return the row of a task."""
        (row,) = self.rows("SELECT * FROM tasks WHERE id = ?", task_id)
        return row

    def words(self, query: str, *values: object) -> set[object]:
        """Return the different values of a query's first column."""
        return {next(iter(row.values())) for row in self.rows(query, *values)}

    def insert(self, table: str, **values: object) -> None:
        """Insert one row, as an earlier release may have written it."""
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        with closing(sqlite3.connect(self.database, timeout=PATIENCE)) as connection, connection:
            statement = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 - our own words
            connection.execute(statement, tuple(values.values()))

    def add_task(self, task_id: str, **changes: object) -> None:
        """Insert a task that is due now and was submitted an hour ago; its prompt is its id."""
        now = moment()
        hour = 3600 * MICROSECONDS
        times = {"created_at": now - hour, "submitted_at": now - hour, "due_at": now - 1, "deadline_at": now + hour}
        params = {"prompt": task_id, "images": ["https://files.example/cat.png"]}
        self.insert("tasks", **({"id": task_id, **ROW, **times, "params": json.dumps(params)} | changes))

    def recording(self) -> Json:
        """Return all that the tests check, as JSON values without bytes."""
        schema = self.rows("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
        tables = [row["name"] for row in schema if row["type"] == "table"]
        rows = {table: [_plain(row) for row in self.rows(f"SELECT * FROM {table}")] for table in tables}  # noqa: S608
        kept = {"schema": schema, "rows": rows, "ids": self.ids, "answers": self.answers}
        return kept | {"submissions": self.script.submissions, "metrics": self.request("GET", "/metrics").text}

    def submit(self, prompt: str, **more: Any) -> str:
        """Submit a task over HTTP, and return its id; `ids` holds it by its prompt."""
        params = {"prompt": prompt, "images": ["https://files.example/cat.png"], **more.pop("params", {})}
        answer = self.request("POST", "/v1/tasks", json={"model": MODEL, "params": params, **more})
        self.ids[prompt] = str(answer.json()["id"])
        return self.ids[prompt]


def _plain(row: Json) -> Json:
    return {name: value for name, value in row.items() if not isinstance(value, bytes)}


def moment() -> int:
    """Return the current time as a column stores it, in microseconds since 1970."""
    return int(time.time() * MICROSECONDS)


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Wait for a condition; return whether it held in time. The tests then name what is missing."""
    end = time.monotonic() + seconds
    while not (held := bool(condition())) and time.monotonic() < end:
        time.sleep(0.05)
    return held


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def _environment(directory: Path, settings: Mapping[str, str]) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("BOOMERANG_")}
    given = {"DATABASE_URL": f"sqlite:///{directory / 'frozen.db'}", "LOG_LEVEL": "error", **settings}
    ours = {f"BOOMERANG_{name}": text for name, text in given.items()}
    return {**kept, **ours}


@contextmanager
def serving(
    directory: Path, script: Script, settings: Mapping[str, str], headers: Mapping[str, str], *, role: str = "all"
) -> Iterator[Running]:
    """Run the service inside the block, ready."""
    port = free_port()
    log = (directory / "log").open("wb")
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-P", "-c", MAIN, "serve", "--port", str(port), "--role", role],
        cwd=directory,
        env=_environment(directory, settings),
        stdout=log,
        stderr=log,
    )
    running = Running(url=f"http://127.0.0.1:{port}", database=directory / "frozen.db", script=script, headers=headers)
    try:
        ready = until(lambda: process.poll() is not None or _ready(running))
        assert ready, "the service did not get ready"
        assert process.poll() is None, (directory / "log").read_text()
        yield running
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()


def _ready(running: Running) -> bool:
    try:
        return running.request("GET", "/readyz").is_success
    except httpx.TransportError:
        return False
