"""What the time line shows of a delivery: the request as it is sent, without secrets and without others' addresses."""

import json
from typing import Any

import pytest

from service.api.authentication import Caller
from service.dashboard.delivery_request import MAX_BODY, delivery_request
from service.domain.callback_forms import callback_entry
from service.domain.endpoint import Endpoint, endpoint_target
from service.domain.logged_event import MAX_PAYLOAD, LoggedEvent
from service.domain.ports.delivery_details import DeliveryContent
from service.domain.ports.unit_of_work import EventRow
from service.domain.sealed_targets import stored_entry
from service.domain.task import EventType, Json
from service.domain.task_view import task_json
from tests.unit.api.fakes import NOW, a_task

OWNER, ADMIN = Caller(name="ann"), Caller(name="ops", admin=True)
HOOK: Json = {"handler": "webhook", "url": "https://receiver.example:8443/hook/path"}


def content(target: Json, *, handler: str = "webhook", payload: str | None = None, **more: Any) -> DeliveryContent:
    """Return a delivery of the end of ann's task."""
    task = a_task(client="ann")
    event = EventRow(
        id="event-1", task_id=task.id, client="ann", type=EventType.COMPLETED, at=NOW, data=task_json(task)
    )
    logged = LoggedEvent(
        seq=1, event=event, payload=payload, payload_bytes=more.pop("payload_bytes", len(payload or ""))
    )
    fields = {"handler": handler, "message_id": "msg_1", "endpoint_id": None, **more}
    return DeliveryContent(target=target, event=logged, **fields)


def an_endpoint(url: str) -> Endpoint:
    """Return an endpoint of ann with a header of its own."""
    return Endpoint(
        id="ep_1", client="ann", url=url, sealed="sealed", header_names=("X-Token",), created_at=NOW, updated_at=NOW
    )


def test_request_is_the_one_of_the_webhook_handler() -> None:
    """Its line, its headers with the id of the message and without the signature, and the body of the event."""
    shown = delivery_request(content(HOOK, payload="order 42"), OWNER)
    head, _, body = shown.text.partition("\n\n")
    assert head.splitlines()[0] == "POST https://receiver.example:8443/hook/path"
    assert "webhook-id: msg_1" in head
    assert "webhook-signature: v1,…" in head
    found = json.loads(body)
    assert (found["id"], found["type"], found["data"]["payload"]) == ("event-1", "task.completed", "order 42")
    assert found["data"]["task"]["id"] == "task-1"


@pytest.mark.parametrize("caller", [ADMIN, Caller(name="ann", read_only=True)])
def test_address_is_a_host_for_others_than_its_owner(caller: Caller) -> None:
    """As in the API, also for a key of the owner that only reads; a path often has the token of the receiver."""
    shown = delivery_request(content(HOOK), caller)
    assert shown.address == "https://receiver.example/…"


@pytest.mark.parametrize(
    "target",
    [
        stored_entry(HOOK | {"url": "https://u:pass-word@receiver.example/hook?token=t0ken"}, ["url"], "s-1"),
        HOOK | {"url": "https://u:pass-word@receiver.example/hook?token=t0ken"},  # as an older release stored it
        stored_entry(HOOK | {"secret": "whsec_abcd"}, ["secret"], "s-1"),
        callback_entry("https://receiver.example/hook?token=t0ken", "vtrix"),
    ],
)
def test_secrets_of_a_target_stay_out(target: Json) -> None:
    """Neither the password and query of an address, nor the secret that signs, nor the id under which it is sealed."""
    for caller in (OWNER, ADMIN):
        shown = delivery_request(content(target), caller)
        assert (shown.address or "").startswith("https://receiver.example")
        assert not any(each in shown.text for each in ("pass-word", "t0ken", "whsec_", "s-1", "sealed"))


def test_endpoint_is_shown_as_it_is_now() -> None:
    """With the names of its headers and no value; a deleted one is named as such."""
    delivery = content(endpoint_target("ep_1", "https://old.example/x"), endpoint_id="ep_1")
    shown = delivery_request(delivery, OWNER, endpoint=an_endpoint("https://new.example/hook"))
    assert shown.text.startswith("POST https://new.example/hook\nx-token: …\n")
    assert "deleted" in (delivery_request(delivery, OWNER).address or "")


def test_address_of_the_operator_is_named_by_its_setting() -> None:
    """An admin knows where to look; a client reads no address at all."""
    assert delivery_request(content({}), ADMIN).address == "the address in BOOMERANG_WEBHOOK_URL"
    assert delivery_request(content({}), OWNER).address == "an address of the operator"


def test_callback_url_gets_the_providers_body() -> None:
    """A client that was written for the provider's API sees what it is sent, not our event."""
    shown = delivery_request(content(callback_entry("https://own.example/cb", "vtrix")), OWNER, meta_data="m-1")
    body = json.loads(shown.body)
    assert shown.address == "https://own.example/cb"
    assert "data" not in body or "task" not in (body["data"] or {})
    assert "m-1" in shown.body


def test_other_handlers_are_given_the_event() -> None:
    """With the options of the entry for its owner, and their names for others; no request is invented."""
    target = {"handler": "telegram", "chat": 42, "sealed_secret": "s-1"}
    own, other = (delivery_request(content(target, handler="telegram"), each) for each in (OWNER, ADMIN))
    assert own.text.startswith('chat: 42\n\n{"id":"event-1"')
    assert other.text.startswith('chat: …\n\n{"id":"event-1"')
    assert delivery_request(content({}, handler="log"), OWNER).text.startswith('{"id":"event-1"')
    assert own.address is None


def test_long_body_is_cut_and_its_size_is_known() -> None:
    """A payload that a webhook does not contain is named by its size, as in the webhook."""
    shown = delivery_request(content(HOOK, payload="x" * 60_000), OWNER)
    assert (len(shown.body), shown.cut, shown.text.endswith("x…")) == (MAX_BODY, True, True)
    assert shown.size > 60_000
    long = delivery_request(content(HOOK, payload=None, payload_bytes=MAX_PAYLOAD + 1), OWNER)
    assert f'"payload_bytes":{MAX_PAYLOAD + 1}' in long.body
    assert not long.cut
