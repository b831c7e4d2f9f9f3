"""Who hears of an event, and which wishes are refused."""

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
    return [(way.handler, way.target) for way in route(event, notify, handlers)]


def test_a_handler_hears_what_it_asked_for() -> None:
    """Each handler gets the events of its subscription, with no target, and no others."""
    assert targets("task.completed") == [("log", {})]
    assert targets("task.progressed") == []


def test_a_handler_by_request_hears_only_for_entries() -> None:
    """A handler that serves `notify` entries gets one route for each entry, with the entry as target."""
    other = hook(url=URL + "/2")
    assert targets("task.completed", hook(), other) == [("log", {}), ("webhook", hook()), ("webhook", other)]


def test_an_entry_may_narrow_the_events() -> None:
    """An entry with `events` hears of those alone; without, of all that its handler wants."""
    narrow = hook(events=["task.completed"])
    assert targets("task.failed", narrow, handlers=(HOOK,)) == []
    assert targets("task.completed", narrow, handlers=(HOOK,)) == [("webhook", narrow)]
    assert targets("task.failed", hook(), handlers=(HOOK,)) == [("webhook", hook())]


def test_an_entry_cannot_widen_what_a_handler_wants() -> None:
    """An event that the handler does not know how to serve does not reach it."""
    assert targets("task.progressed", {"handler": "log", "events": ["task.progressed"]}) == []


def test_a_handler_for_all_serves_entries_too() -> None:
    """An entry for an ordinary handler is one more route beside its own."""
    assert targets("task.failed", {"handler": "log", "channel": "x"}) == [
        ("log", {}),
        ("log", {"handler": "log", "channel": "x"}),
    ]


def test_equal_entries_are_one_route() -> None:
    """The same wish twice is delivered once, whatever the order of its keys."""
    assert targets("task.failed", hook(secret=SECRET), hook(secret=SECRET), handlers=(HOOK,)) == [
        ("webhook", hook(secret=SECRET))
    ]
    turned = dict(reversed(hook().items()))
    assert len(targets("task.failed", hook(), turned, handlers=(HOOK,))) == 1


def test_an_entry_for_a_handler_of_another_process_is_recorded_all_the_same() -> None:
    """Who records need not have the handler: the entry says what it wants, everything unless it names events."""
    elsewhere = {"handler": "elsewhere"}
    narrow = elsewhere | {"events": ["task.failed"]}
    assert targets("task.completed", elsewhere, narrow, handlers=(HOOK,)) == [("elsewhere", elsewhere)]
    assert targets("task.failed", narrow, handlers=(HOOK,)) == [("elsewhere", narrow)]


def test_an_entry_may_have_a_handlers_former_name() -> None:
    """A task that was accepted before a handler was renamed is told as the new one wants, and in the same lane."""
    renamed = Subscription(name="hook", events=HOOK.events - {"task.progressed"}, by_request=True, former=("webhook",))
    ((new,), (old,)) = (route("task.failed", [hook()], [one]) for one in (renamed, HOOK))
    assert new == old
    assert targets("task.progressed", hook(), handlers=(renamed,)) == []


def test_a_handlers_own_lane_outlives_its_name() -> None:
    """A handler's deliveries keep their order while it is renamed, however often."""
    every = frozenset(EventType)
    names = (("paper", ()), ("mail", ("paper",)), ("post", ("mail", "paper")))
    ways = [route("task.failed", [], [Subscription(name=name, events=every, former=was)]) for name, was in names]
    assert [[way.handler for way in each] for each in ways] == [["paper"], ["mail"], ["post"]]
    assert len({way.lane_key for each in ways for way in each}) == 1


def test_lanes_are_stable_and_apart() -> None:
    """A lane's key is the same in every process, short, and different for each handler and target."""
    first = route("task.failed", [hook(), hook(url=URL + "/2")], [LOG, HOOK])
    assert [way.lane_key for way in first] == [
        way.lane_key for way in route("task.completed", [hook(), hook(url=URL + "/2")], [LOG, HOOK])
    ]
    assert len({way.lane_key for way in first}) == 3
    assert first[0] == DeliveryRoute(handler="log", target={}, lane_key="a51b3a1ba9ca16337c1495b3")


def test_a_route_does_not_show_its_secret() -> None:
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
def test_good_wishes_pass_unchanged(notify: Any) -> None:
    """Entries for known handlers come back as they were."""
    assert list(validate_notify(notify, KNOWN, any_address)) == (notify or [])


@pytest.mark.parametrize(
    ("notify", "place", "words"),
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
        ([hook(events=["task.failed", ["x"]])], (0, "events", 1), "no event"),
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
def test_bad_wishes_are_refused_in_their_place(notify: object, place: tuple[str | int, ...], words: str) -> None:
    """Each fault says where it stands and how to mend it."""
    with pytest.raises(InvalidParams) as refused:
        validate_notify(notify, KNOWN, any_address)
    assert [fault.loc for fault in refused.value.faults] == [("notify", *place)]
    assert words in refused.value.faults[0].msg


def test_every_fault_is_reported_at_once() -> None:
    """Faults of all entries come together."""
    with pytest.raises(InvalidParams) as refused:
        validate_notify([hook(url="x", secret="y", more=1), {"handler": "nobody"}], KNOWN, any_address)
    assert {fault.loc for fault in refused.value.faults} == {
        ("notify", 0, "url"),
        ("notify", 0, "secret"),
        ("notify", 0, "more"),
        ("notify", 1, "handler"),
    }


def test_a_fault_does_not_repeat_a_secret() -> None:
    """What is wrong with a secret is said without showing it."""
    with pytest.raises(InvalidParams) as refused:
        validate_notify([hook(secret="whsec_my-own-words")], KNOWN, any_address)
    assert "my-own-words" not in str(refused.value)
