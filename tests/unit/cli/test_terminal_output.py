"""How lists and fields look on terminals of any width, without colours, and in a pipe."""

import re
from collections.abc import Iterator

import pytest
from rich.cells import cell_len

from tests.unit.cli.fake_service import FakeService, Json, fake_service, run, task

ESCAPES = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")
ID = "01a20469-745f-70c8-a990-0bffbb6af2ec"
DELIVERY: Json = {
    "id": "01a20469-745f-70c8-a990-0bffbb6af2ed",
    "handler": "webhook",
    "event_type": "task.completed",
    "task_id": ID,
    "attempts": 9,
    "fault": "theirs",
    "last_error": "the address could not be reached: ConnectError: connection refused",
    "finished_at": "2026-01-02T03:04:05Z",
}
HISTORY: list[Json] = [
    {"kind": "event", "at": "2026-01-02T03:04:05Z", "id": "e1", "type": "task.completed"},
    {
        "kind": "delivery",
        "at": "2026-01-02T03:04:05Z",
        "id": "d1",
        "event_id": "e1",
        "handler": "log",
        "status": "sent",
    },
    {**DELIVERY, "kind": "delivery", "at": "2026-01-02T03:04:05Z", "event_id": "e1", "status": "dead"},
]
LISTS = [("tasks",), ("dead",), ("status", ID), ("usage",), ("watch", ID), ("events", ID)]


@pytest.fixture
def service() -> Iterator[FakeService]:
    """Run a fake service with a task, a dead letter and a day of usage."""
    one = task(id=ID, params={"prompt": "A walk along the evening river " * 3}, note="waits for the provider")
    sums = {"tasks": 2, "cost": "0.70", "unpriced": 0, "without_result": 1, "without_result_cost": "0.35"}
    row = {"day": "2026-05-01", "model": "viduq2_pro_reference", "client": "shop", **sums}
    usage = {"from": "2026-05-01", "to": "2026-05-01", "data": [row], "total": sums, "next_cursor": None}
    with fake_service() as fake:
        fake.respond_to("GET /v1/tasks", (200, {"data": [one], "next_cursor": None}))
        fake.respond_to(f"GET /v1/tasks/{ID}", (200, one))
        fake.respond_to("GET /v1/deliveries", (200, {"data": [DELIVERY], "next_cursor": None}))
        fake.respond_to("GET /v1/usage", (200, usage))
        fake.respond_to(f"GET /v1/tasks/{ID}/events", (200, {"data": HISTORY}))
        yield fake


def shown(service: FakeService, *arguments: str, columns: int, **env: str) -> str:
    """Return what a command prints on a terminal of this width."""
    # rich draws for a terminal where this variable says that there is one
    variables = {"COLUMNS": str(columns), "TTY_COMPATIBLE": "1", "TERM": "xterm-256color", **env}
    return run(*arguments, url=service.url, env=variables).stderr


@pytest.mark.parametrize("arguments", LISTS)
@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_nothing_is_wider_than_the_terminal(service: FakeService, arguments: tuple[str, ...], columns: int) -> None:
    """Lines are cut, wrapped between words or put below, but the id, the status and an error are always there."""
    lines = ESCAPES.sub("", shown(service, *arguments, columns=columns)).splitlines()
    assert max(map(cell_len, lines)) <= columns
    text = "\n".join(lines)
    assert arguments[0] in {"usage", "events"} or ID in text or DELIVERY["id"] in text
    assert arguments[0] not in {"tasks", "status"} or "completed" in text
    assert arguments[0] not in {"dead", "events"} or "connection refused" in " ".join(text.split())


def test_values_are_named_where_columns_do_not_fit(service: FakeService) -> None:
    """A number below others would say nothing; a column without any value is left out, at any width."""
    narrow = ESCAPES.sub("", shown(service, "usage", columns=40))
    first = "2026-05-01 model viduq2_pro_reference client shop tasks 2 cost (USD) 0.70 paid without result 1"
    assert " ".join(narrow.split()).startswith(first)
    for columns in (48, 54, 60):  # a number is never cut
        assert "0.70" in shown(service, "usage", columns=columns)
    for columns in (40, 80, 160):
        assert "unpriced" not in shown(service, "usage", columns=columns)
    head, row, *_ = ESCAPES.sub("", shown(service, "usage", columns=160)).splitlines()
    assert head.index("cost (USD)") + len("cost (USD)") == row.index("0.70") + len("0.70")


@pytest.mark.parametrize("arguments", LISTS)
def test_pipe_gets_plain_lines(service: FakeService, arguments: tuple[str, ...]) -> None:
    """Without a terminal there is no colour, no bar and no cut; a row of a list is one line."""
    result = run(*arguments, url=service.url, env={"COLUMNS": "40"})
    assert "\x1b" not in result.output
    assert "━" not in result.output
    if arguments[0] in {"tasks", "dead"}:
        assert len(result.stderr.splitlines()) == 2


@pytest.mark.parametrize("arguments", LISTS)
def test_no_color_is_respected(service: FakeService, arguments: tuple[str, ...]) -> None:
    """With NO_COLOR a terminal gets no colours; without it, it does."""
    coloured = re.compile("\x1b\\[[0-9;]*3[0-9](;|m)")
    assert not coloured.search(shown(service, *arguments, columns=80, NO_COLOR="1"))
    if arguments[0] in {"tasks", "status"}:
        assert coloured.search(shown(service, *arguments, columns=80))
