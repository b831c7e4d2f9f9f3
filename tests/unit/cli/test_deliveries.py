"""The commands `dead` and `replay` against a fake service over real HTTP."""

import json
from collections.abc import Iterator

import pytest

from tests.unit.cli.fake_service import FakeService, fake_service, problem, run


@pytest.fixture
def service() -> Iterator[FakeService]:
    """Run a fake service."""
    with fake_service() as fake:
        yield fake


DELIVERY = {
    "id": "d1",
    "task_id": "0198c2",
    "handler": "webhook",
    "event_type": "task.completed",
    "attempts": 9,
    "fault": "destination",
    "last_error": "410 Gone",
    "due_at": None,
    "finished_at": "2026-01-02T03:04:05.678Z",
}


def test_dead_letters_are_listed_by_handler(service: FakeService) -> None:
    """A dead letter shows when it was finished, its handler, task and responsible party, and the last error."""
    service.respond_to("GET /v1/deliveries", (200, {"data": [DELIVERY], "next_cursor": None}))
    result = run("dead", "--handler", "webhook", url=service.url)
    assert service.requests[0].path == "/v1/deliveries?status=dead&handler=webhook&limit=20"
    row = "d1  01-02 03:04     webhook  task.completed  0198c2  destination: 410 Gone (9 attempts)"
    assert (result.stdout, result.stderr.splitlines()[1:]) == ("", [row])


def test_failing_deliveries_are_listed_over_several_pages(service: FakeService) -> None:
    """A delivery without an attempt is not failing; pages are read until enough failing ones are found."""
    failing = DELIVERY | {"id": "d7", "attempts": 1, "due_at": "2026-01-02T03:09:05Z", "finished_at": None}
    waiting = DELIVERY | {"attempts": 0, "fault": None, "last_error": None}
    service.respond_to(
        "GET /v1/deliveries",
        (200, {"data": [waiting, waiting], "next_cursor": "abc"}),
        (200, {"data": [waiting, failing], "next_cursor": "def"}),
        (200, {"data": [failing, failing], "next_cursor": "ghi"}),
    )
    result = run("dead", "--failing", "--limit", "2", url=service.url)
    assert [request.path for request in service.requests] == [
        f"/v1/deliveries?status=pending&limit=2{cursor}" for cursor in ("", "&cursor=abc", "&cursor=def")
    ]
    row = "d7  01-02 03:09     webhook  task.completed  0198c2  destination: 410 Gone (1 attempt)"
    assert result.stderr.splitlines()[1:] == [*[row] * 3, "More: boomerang dead --failing --cursor ghi"]


def test_empty_lists_print_a_message(service: FakeService) -> None:
    """Empty lists print a message, and the search among pending deliveries stops after 50 pages."""
    service.respond_to("GET /v1/deliveries", (200, {"data": [], "next_cursor": None}))
    assert run("dead", url=service.url).stderr == "No dead letters.\n"
    assert run("dead", "--failing", url=service.url).stderr == "No delivery fails.\n"
    service.respond_to("GET /v1/deliveries", (200, {"data": [], "next_cursor": "abc"}))
    assert "More: boomerang dead --failing --cursor abc" in run("dead", "--failing", url=service.url).stderr
    assert len(service.requests) == 2 + 50


def test_replay_continues_after_a_failure_and_reports_it(service: FakeService) -> None:
    """A delivery that cannot be replayed does not stop the others; the exit code is 1."""
    service.respond_to("POST /v1/deliveries/d1/replay", (409, problem("it is pending")))
    service.respond_to("POST /v1/deliveries/d2/replay", (202, {"id": "d2"}))
    result = run("replay", "d1", "d2", "--json", url=service.url)
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"replayed": ["d2"], "failed": {"d1": "it is pending"}}
    plain = run("replay", "d1", "d2", url=service.url)
    assert (plain.stdout, plain.stderr) == ("", "Replayed d2\nNot replayed: d1: it is pending\n")
