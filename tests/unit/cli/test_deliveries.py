"""The commands `dead` and `replay` against a fake service over real HTTP."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

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
    assert result.stderr.splitlines()[1:] == [*[row] * 3, "More: boomerang dead --failing --limit 2 --cursor ghi"]


def test_next_page_has_the_options_of_the_first(service: FakeService) -> None:
    """The printed command lists more of the same, quoted for a shell, and shows no key."""
    service.respond_to("GET /v1/deliveries", (200, {"data": [DELIVERY], "next_cursor": "def"}))
    options = ("--handler", "my handler", "--fault", "ours", "--url", service.url)
    result = run("dead", *options, "--cursor", "abc", "--api-key", "secret")
    more = f"More: boomerang dead --handler 'my handler' --fault ours --cursor def --url {service.url}"
    assert sorted(result.stderr.splitlines()[-1].split()) == sorted(more.split())


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


REPORT = {
    "dry_run": False,
    "matched": 3,
    "replayed": 3,
    "running": 0,
    "changed": 0,
    "secret_deleted": 0,
    "by_status": {"dead": 2, "pending": 1},
    "by_handler": {"webhook": 3},
    "sample": ["d1", "d2"],
    "last_due_at": "2026-01-02T03:04:05.678Z",
    "next_cursor": None,
}
BULK = "POST /v1/deliveries/replay"


def test_bulk_replay_counts_first_and_then_replays(service: FakeService) -> None:
    """A line counts what is selected; without a terminal nothing is asked, and standard output stays empty."""
    service.respond_to(BULK, (200, REPORT | {"replayed": 0, "dry_run": True}), (200, REPORT))
    since = "2026-01-02T00:00:00+00:00"
    result = run(
        "replay", "--handler", "webhook", "--since", since, "--status", "dead", "--status", "pending", url=service.url
    )
    wanted = {"handler": "webhook", "since": since, "status": ["dead", "pending"]}
    assert [request.body for request in service.requests] == [wanted | {"dry_run": True}, wanted]
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.splitlines() == [
        "3 deliveries are selected: 2 dead, 1 pending; 3 webhook.",
        "Replayed 3; the last one is due at 01-02 03:04:05 UTC.",
    ]


def test_bulk_replay_continues_and_shows_its_progress(service: FakeService) -> None:
    """After the time limit of one call the next one continues at its cursor, and the reports are added."""
    counted = REPORT | {"matched": 6, "replayed": 0}
    service.respond_to(BULK, (200, counted), (200, REPORT | {"next_cursor": "abc", "running": 1}), (200, REPORT))
    result = run("replay", "--client", "ann", "--receiver", "h.example", "--json", url=service.url)
    assert service.requests[2].body == {"client": "ann", "receiver": "h.example", "cursor": "abc"}
    assert "Replayed 3 of 6 ..." in result.stderr
    assert "Left alone: 1 (an attempt is running)." in result.stderr
    report = json.loads(result.stdout)
    assert (report["replayed"], report["running"], report["by_status"]) == (6, 1, {"dead": 4, "pending": 2})


def test_dry_run_replays_nothing(service: FakeService) -> None:
    """Only the counting call is made, and the first ids are shown."""
    service.respond_to(BULK, (200, REPORT | {"replayed": 0, "last_due_at": None}))
    result = run("replay", "--since", "2h", "--dry-run", url=service.url)
    assert [request.body["dry_run"] for request in service.requests] == [True]
    assert datetime.now(UTC) - datetime.fromisoformat(service.requests[0].body["since"]) >= timedelta(hours=2)
    assert (result.exit_code, result.stderr.splitlines()[1]) == (0, "First: d1, d2")


def test_bulk_replay_without_a_match_is_done(service: FakeService) -> None:
    """Nothing is selected: nothing is replayed, and the exit code is 0."""
    service.respond_to(BULK, (200, REPORT | {"matched": 0, "by_status": {}, "by_handler": {}, "sample": []}))
    result = run("replay", "--handler", "slack", url=service.url)
    assert (result.exit_code, len(service.requests)) == (0, 1)
    assert result.stderr.startswith("No delivery is selected: dead letters are, and with --status pending ")


def test_deliveries_that_cannot_be_signed_fail_the_command(service: FakeService) -> None:
    """The exit code is 1, and a line says how many and why."""
    service.respond_to(BULK, (200, REPORT), (200, REPORT | {"replayed": 2, "secret_deleted": 1}))
    result = run("replay", "--handler", "webhook", url=service.url)
    assert result.exit_code == 1
    assert "Left alone: 1 (can no longer be signed, their secret was deleted)." in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--status", "dead"),
        ("--dry-run",),
        ("d1", "--handler", "webhook"),
        ("d1", "--dry-run"),
        ("--since", "yesterday"),
        ("--since", "2026-01-02T00:00:00"),
        ("--until", "999999d"),
        ("--handler", "webhook", "--status", "delivered"),
    ],
)
def test_wrong_use_of_replay_calls_nothing(service: FakeService, arguments: tuple[str, ...]) -> None:
    """Ids and options exclude each other, something must be selected, and times have an offset: exit code 2."""
    result = run("replay", *arguments, url=service.url)
    assert (result.exit_code, service.requests) == (2, [])


@pytest.mark.parametrize(("arguments", "typed", "exit_code"), [((), "n", 1), ((), "y", 0), (("--yes",), "", 0)])
def test_person_at_a_terminal_confirms(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], typed: str, exit_code: int
) -> None:
    """The prompt comes after the counts; without a yes nothing is replayed, and --yes leaves it out."""
    service.respond_to(BULK, (200, REPORT | {"replayed": 0}), (200, REPORT))
    monkeypatch.setattr("service.cli.replays.is_interactive", lambda: True)
    result = run("replay", "--handler", "webhook", *arguments, url=service.url, typed=typed)
    assert (result.exit_code, len(service.requests)) == (exit_code, 1 if exit_code else 2)
    assert ("Replay them?" in result.stderr) == (not arguments)


def test_dead_letters_of_one_party(service: FakeService) -> None:
    """`--fault` goes to the service, and is not for what is still retried."""
    service.respond_to("GET /v1/deliveries", (200, {"data": [], "next_cursor": None}))
    assert run("dead", "--fault", "ours", url=service.url).exit_code == 0
    assert "fault=ours" in service.requests[0].path
    assert run("dead", "--fault", "ours", "--failing", url=service.url).exit_code == 2
