"""Which handlers receive an event, and which `notify` entries are refused."""

from base64 import b64encode
from typing import Any

import pytest

from service.domain.errors import InvalidParams
from service.domain.event_routing import DeliveryRoute, Subscription, route
from service.domain.notify import validate_notify
from service.domain.task import EventType
from tests.support.no_egress_guard import any_address

URL = "https://client.example/hook"
SECRET = "whsec_" + b64encode(bytes(32)).decode()
KNOWN = ("log", "webhook", "archive")
LOG = Subscription(name="log", events=frozenset({"task.completed", "task.failed"}))
HOOK = Subscription(name="webhook", events=frozenset(EventType), by_request=True)


def hook(**more: Any) -> dict[str, Any]:
    """Return a notify entry for the webhook handler."""
    return {"handler": "webhook", "url": URL, **more}


def targets(event: str, *notify: dict[str, Any], handlers: tuple[Subscription, ...] = (LOG, HOOK)) -> list[Any]:
    """Return handler and target of each route."""
    return [(found.handler, found.target) for found in route(event, notify, handlers)]


def test_handler_receives_the_events_of_its_subscription() -> None:
    """Each handler receives the events of its subscription only, without a target."""
    assert targets("task.completed") == [("log", {})]
    assert targets("task.progressed") == []


def test_handler_by_request_receives_only_events_of_entries() -> None:
    """A handler that serves `notify` entries gets one route for each entry, with the entry as target."""
    other = hook(url=URL + "/2")
    assert targets("task.completed", hook(), other) == [("log", {}), ("webhook", hook()), ("webhook", other)]


def test_entry_may_restrict_the_events() -> None:
    """An entry with `events` receives only those; without, all events of its handler."""
    narrow = hook(events=["task.completed"])
    assert targets("task.failed", narrow, handlers=(HOOK,)) == []
    assert targets("task.completed", narrow, handlers=(HOOK,)) == [("webhook", narrow)]
    assert targets("task.failed", hook(), handlers=(HOOK,)) == [("webhook", hook())]


def test_entry_cannot_extend_the_subscription() -> None:
    """An event outside of the handler's subscription is not delivered to it."""
    assert targets("task.progressed", {"handler": "log", "events": ["task.progressed"]}) == []


def test_handler_of_every_task_serves_entries_too() -> None:
    """An entry for a handler that is not `by_request` is an additional route."""
    assert targets("task.failed", {"handler": "log", "channel": "x"}) == [
        ("log", {}),
        ("log", {"handler": "log", "channel": "x"}),
    ]


def test_equal_entries_are_one_route() -> None:
    """Equal entries are delivered once; the order of their keys does not matter."""
    assert targets("task.failed", hook(secret=SECRET), hook(secret=SECRET), handlers=(HOOK,)) == [
        ("webhook", hook(secret=SECRET))
    ]
    turned = dict(reversed(hook().items()))
    assert len(targets("task.failed", hook(), turned, handlers=(HOOK,))) == 1


def test_entry_for_a_handler_of_another_process_is_recorded() -> None:
    """The recording process may lack the handler: the entry then receives its `events`, or all without."""
    elsewhere = {"handler": "elsewhere"}
    narrow = elsewhere | {"events": ["task.failed"]}
    assert targets("task.completed", elsewhere, narrow, handlers=(HOOK,)) == [("elsewhere", elsewhere)]
    assert targets("task.failed", narrow, handlers=(HOOK,)) == [("elsewhere", narrow)]


def test_entry_may_have_a_former_name_of_its_handler() -> None:
    """An entry from before a handler was renamed gets the new subscription, in the same lane."""
    renamed = Subscription(name="hook", events=HOOK.events - {"task.progressed"}, by_request=True, former=("webhook",))
    ((new,), (old,)) = (route("task.failed", [hook()], [one]) for one in (renamed, HOOK))
    assert new == old
    assert targets("task.progressed", hook(), handlers=(renamed,)) == []


def test_lane_stays_when_a_handler_is_renamed() -> None:
    """Deliveries of a handler keep their order when it is renamed several times."""
    every = frozenset(EventType)
    names = (("paper", ()), ("letter", ("paper",)), ("post", ("letter", "paper")))
    routes = [route("task.failed", [], [Subscription(name=name, events=every, former=was)]) for name, was in names]
    assert [[found.handler for found in each] for each in routes] == [["paper"], ["letter"], ["post"]]
    assert len({found.lane_key for each in routes for found in each}) == 1


def test_lane_keys_are_stable_and_distinct() -> None:
    """A lane's key is the same in every process, short, and different for each handler and target."""
    first = route("task.failed", [hook(), hook(url=URL + "/2")], [LOG, HOOK])
    assert [found.lane_key for found in first] == [
        found.lane_key for found in route("task.completed", [hook(), hook(url=URL + "/2")], [LOG, HOOK])
    ]
    assert len({found.lane_key for found in first}) == 3
    assert first[0] == DeliveryRoute(handler="log", target={}, lane_key="a51b3a1ba9ca16337c1495b3")


def test_route_does_not_print_its_secret() -> None:
    """Printing a route prints no target, since targets hold secrets."""
    assert SECRET not in repr(route("task.failed", [hook(secret=SECRET)], [HOOK]))


@pytest.mark.parametrize(
    "notify",
    [
        None,
        [],
        [hook()],
        [hook(events=["task.completed"], secret=SECRET)],
        [{"handler": "log"}],
        [{"handler": "archive", "folder": {"deep": [1]}, "url": "http://x.example/"}],
        [hook(url=f"{URL}/{place}") for place in range(16)],
    ],
    ids=range(7),
)
def test_valid_entries_are_unchanged(notify: Any) -> None:
    """Entries for known handlers are returned unchanged."""
    assert list(validate_notify(notify, KNOWN, any_address)) == (notify or [])


@pytest.mark.parametrize(
    ("notify", "place", "text"),
    [
        ({"handler": "log"}, (), "list"),
        ("webhook", (), "list"),
        ([hook(url=f"{URL}/{place}") for place in range(17)], (), "at most 16"),
        (["webhook"], (0,), "object"),
        ([{}], (0, "handler"), "archive, log, webhook"),
        ([{"handler": 7}], (0, "handler"), "must name"),
        ([{"handler": "webhok", "url": URL}], (0, "handler"), "did you mean webhook"),
        ([{"handler": "zzz"}], (0, "handler"), "one of archive"),
        ([{"handler": "webhook"}], (0, "url"), "missing"),
        ([hook(url="ftp://x")], (0, "url"), "http"),
        ([hook(url="http://")], (0, "url"), "http"),
        ([hook(url="http://h:abc/")], (0, "url"), "http"),
        ([hook(url="http://h:99999/")], (0, "url"), "http"),
        ([hook(url="http://h:0/")], (0, "url"), "http"),
        ([hook(url="http://h/a b")], (0, "url"), "percent-encode"),
        ([hook(url="http://h/" + "x" * 8192)], (0, "url"), "8,192"),
        ([hook(url=7)], (0, "url"), "http"),
        ([hook(events="task.completed")], (0, "events"), "list"),
        ([hook(events=[])], (0, "events"), "list"),
        ([hook(events=["task.complete"])], (0, "events", 0), "did you mean task.completed"),
        ([hook(events=["task.failed", ["x"]])], (0, "events", 1), "not an event type"),
        ([hook(secret="whsec_")], (0, "secret"), "24 to 64"),
        ([hook(secret="whsec_" + "A" * 28 + "é")], (0, "secret"), "base64"),
        ([hook(secret=SECRET.removeprefix("whsec_"))], (0, "secret"), "whsec_"),
        ([hook(secret="whsec_" + b64encode(bytes(23)).decode())], (0, "secret"), "24 to 64"),
        ([hook(secret="whsec_" + b64encode(bytes(65)).decode())], (0, "secret"), "24 to 64"),
        ([hook(secret=7)], (0, "secret"), "whsec_"),
        ([hook(secrets=[])], (0, "secrets"), "did you mean secret"),
        ([{"handler": "log", "x": float("nan")}], (0,), "plain JSON"),
        ([{"handler": "log", "x": "y" * 20_000}], (0,), "at most"),
        ([{"handler": "log", "x": "\ud800"}], (0,), "plain JSON"),
        ([{"handler": "log", "x": {1, 2}}], (0,), "plain JSON"),
    ],
    ids=range(32),
)
def test_invalid_entries_are_refused_with_their_location(
    notify: object, place: tuple[str | int, ...], text: str
) -> None:
    """Each fault has its location and the fix."""
    with pytest.raises(InvalidParams) as refused:
        validate_notify(notify, KNOWN, any_address)
    assert [fault.loc for fault in refused.value.faults] == [("notify", *place)]
    assert text in refused.value.faults[0].msg


def test_every_fault_is_reported_at_once() -> None:
    """The faults of all entries are reported together."""
    with pytest.raises(InvalidParams) as refused:
        validate_notify([hook(url="x", secret="y", more=1), {"handler": "nobody"}], KNOWN, any_address)
    assert {fault.loc for fault in refused.value.faults} == {
        ("notify", 0, "url"),
        ("notify", 0, "secret"),
        ("notify", 0, "more"),
        ("notify", 1, "handler"),
    }


def test_fault_does_not_repeat_a_secret() -> None:
    """The message about an invalid secret does not contain it."""
    with pytest.raises(InvalidParams) as refused:
        validate_notify([hook(secret="whsec_my-own-words")], KNOWN, any_address)
    assert "my-own-words" not in str(refused.value)
