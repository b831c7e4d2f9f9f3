"""The command `endpoints` against a fake service over real HTTP."""

import json
from collections.abc import Iterator

import pytest

from tests.unit.cli.fake_service import FakeService, fake_service, problem, run

ENDPOINT = {
    "id": "ep_1",
    "client": "shop",
    "url": "https://example.org/hook",
    "events": ["task.completed"],
    "description": "Orders",
    "headers": ["X-Key"],
    "paused": False,
    "disabled": False,
    "disabled_reason": None,
    "old_secrets_until": None,
    "health": {"recent": {"succeeded": 0, "failed": 0}, "consecutive_failures": 0},
}
REPORT = {
    "dry_run": False,
    "matched": 3,
    "without_delivery": 2,
    "dead": 1,
    "created": 2,
    "replayed": 1,
    "sample": ["e1"],
    "last_due_at": "2026-01-02T03:04:05.678Z",
    "next_cursor": None,
}


@pytest.fixture
def service() -> Iterator[FakeService]:
    """Run a fake service."""
    with fake_service() as fake:
        yield fake


def test_endpoints_are_listed_with_their_health(service: FakeService) -> None:
    """Without an action all pages are listed: state, events, address, and what the last attempts say."""
    failing = {
        "recent": {"succeeded": 7, "failed": 3},
        "consecutive_failures": 3,
        "failing_since": "2026-01-02T03:04:05Z",
        "last_failure_error": "Retry: the receiver answered 500",
    }
    paused = ENDPOINT | {"id": "ep_2", "events": None, "paused": True, "health": failing}
    service.respond_to(
        "GET /v1/endpoints",
        (200, {"data": [ENDPOINT], "next_cursor": "abc"}),
        (200, {"data": [paused], "next_cursor": None}),
    )
    result = run("endpoints", url=service.url)
    first, second = result.stderr.splitlines()[1:]
    assert first.split() == ["ep_1", "active", "task.completed", "https://example.org/hook", "no", "attempt", "yet"]
    assert "paused" in second
    assert "7 of 10 succeeded; failing since 01-02 03:04: Retry: the receiver answered 500" in second
    as_json = run("endpoints", "--json", url=service.url)
    assert json.loads(as_json.stdout)["data"]


def test_add_prints_the_secret_once(service: FakeService) -> None:
    """Events are separated by commas, headers are names and values; the secret comes with a warning."""
    service.respond_to("POST /v1/endpoints", (201, ENDPOINT | {"secret": "whsec_abc"}))
    result = run(
        *("endpoints", "add", "https://example.org/hook", "--events", "task.completed, task.failed"),
        *("--description", "Orders", "--header", "X-Key: a: b", "--rate", "600/m"),
        url=service.url,
    )
    assert service.requests[0].body == {
        "url": "https://example.org/hook",
        "events": ["task.completed", "task.failed"],
        "description": "Orders",
        "headers": {"X-Key": "a: b"},
        "rate": "600/m",
    }
    assert "whsec_abc" in result.stderr
    assert "never shown again" in result.stderr


def test_change_sends_what_is_given(service: FakeService) -> None:
    """`none` and `all` remove a limit and a filter; nothing to change is wrong use."""
    service.respond_to("PATCH /v1/endpoints/ep_1", (200, ENDPOINT | {"rate": "30/s"}))
    result = run("endpoints", "change", "ep_1", "--rate", "30/s", "--to", "https://example.org/2", url=service.url)
    assert "30/s" in result.stderr
    run("endpoints", "change", "ep_1", "--rate", "none", "--events", "all", url=service.url)
    run("endpoints", "change", "ep_1", "--events", "task.failed,", "--description", "", url=service.url)
    assert [request.body for request in service.requests] == [
        {"rate": "30/s", "url": "https://example.org/2"},
        {"rate": None, "events": None},
        {"events": ["task.failed"], "description": ""},
    ]
    assert run("endpoints", "change", "ep_1", url=service.url).exit_code == 2


def test_faults_of_the_service_are_shown(service: FakeService) -> None:
    """A refused endpoint is wrong use, with every fault; a header without a colon is not sent."""
    faults = [{"loc": ["events", 0], "msg": "is not an event type; known are task.completed"}]
    service.respond_to("POST /v1/endpoints", (422, problem("1 fault; see errors", errors=faults)))
    result = run("endpoints", "add", "https://example.org/hook", "--events", "x", url=service.url)
    assert (result.exit_code, "known are task.completed" in result.stderr) == (2, True)
    assert run("endpoints", "add", "https://example.org/", "--header", "X", url=service.url).exit_code == 2
    assert len(service.requests) == 1


def test_rotate_sends_the_overlap(service: FakeService) -> None:
    """A duration becomes seconds; without options the service decides."""
    service.respond_to("POST /v1/endpoints/ep_1/rotate", (200, ENDPOINT | {"secret": "whsec_new"}))
    assert "whsec_new" in run("endpoints", "rotate", "ep_1", "--overlap", "2h", url=service.url).stderr
    run("endpoints", "rotate", "ep_1", url=service.url)
    assert [request.body for request in service.requests] == [{"overlap_seconds": 7200}, {}]
    assert run("endpoints", "rotate", "ep_1", "--overlap", "soon", url=service.url).exit_code == 2


def test_pause_resume_and_remove(service: FakeService) -> None:
    """Resuming also enables an endpoint that was disabled."""
    service.respond_to("PATCH /v1/endpoints/ep_1", (200, ENDPOINT))
    service.respond_to("DELETE /v1/endpoints/ep_1", (204, ""))
    for action in ("pause", "resume", "remove"):
        assert run("endpoints", action, "ep_1", url=service.url).exit_code == 0
    assert [request.body for request in service.requests[:2]] == [
        {"paused": True},
        {"paused": False, "disabled": False},
    ]
    assert service.requests[2].method == "DELETE"
    service.respond_to("DELETE /v1/endpoints/ep_1", (204, ""))
    removed = run("endpoints", "remove", "ep_1", "--json", url=service.url)
    assert json.loads(removed.stdout) == {"id": "ep_1", "removed": True}


def test_failed_test_event_ends_with_1(service: FakeService) -> None:
    """The outcome is printed, and the exit code says whether it was delivered."""
    outcome = {"delivered": False, "status": 500, "answer": "oops", "error": "E", "seconds": 0.1, "message_id": "m"}
    service.respond_to("POST /v1/endpoints/ep_1/test", (200, outcome), (200, outcome | {"delivered": True}))
    failed = run("endpoints", "test", "ep_1", url=service.url)
    assert (failed.exit_code, "oops" in failed.stderr) == (1, True)
    assert run("endpoints", "test", "ep_1", "--json", url=service.url).exit_code == 0


def test_replay_continues_until_the_end(service: FakeService) -> None:
    """Calls that reach their time limit are repeated, and their counts are added."""
    service.respond_to(
        "POST /v1/endpoints/ep_1/replay", (200, REPORT | {"next_cursor": "abc"}), (200, REPORT | {"last_due_at": None})
    )
    result = run("endpoints", "replay", "ep_1", "--since", "2026-01-01T00:00:00Z", url=service.url)
    assert "6 missed: 2 dead letters, 4 never made." in result.stderr
    assert "Replayed 6; the last one is due at 01-02 03:04:05 UTC." in result.stderr
    assert service.requests[1].body["cursor"] == "abc"


def test_options_before_an_action_are_refused(service: FakeService) -> None:
    """They would be ignored."""
    assert run("endpoints", "--client", "shop", "pause", "ep_1", url=service.url).exit_code == 2
    assert not service.requests
