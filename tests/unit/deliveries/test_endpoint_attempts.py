"""Attempts of deliveries to endpoints: the endpoint is read first, and what it says counts."""

from typing import Any

import httpx
import pytest

from service.deliveries.endpoint_messages import TEST_EVENT
from service.deliveries.endpoint_tester import EndpointTester
from service.deliveries.error_text import SecretMask
from service.domain.endpoint import DELETED, Endpoint
from service.domain.errors import Conflict, StoreUnavailable
from service.domain.key_ring import KeyRing
from service.tasks.endpoint_targets import EndpointTargets
from service.tasks.secret_sealer import SecretSealer
from tests.support.delivery_builders import ManualClock, dispatcher_setup, handler, tools
from tests.support.endpoint_builders import KEY, OTHER_SECRET, SECRET, URL
from tests.support.endpoint_harness import WEBHOOK_HANDLER, Receivers, verify
from tests.support.sample_handlers import RecordingHandler
from tests.unit.api.fake_endpoints import an_endpoint

TARGET = {"handler": "webhook", "endpoint": "endpoint-1", "url": "endpoint+https://hooks.example.org"}


class _Reader:
    """Reads one endpoint; `error` is raised."""

    def __init__(self, endpoint: Endpoint | None = None, error: Exception | None = None) -> None:
        self.endpoint, self.error = endpoint, error

    async def get(self, endpoint_id: str) -> Endpoint | None:
        """Return the endpoint."""
        assert endpoint_id == "endpoint-1"
        if self.error:
            raise self.error
        return self.endpoint

    async def load(self, ids: Any) -> dict[str, str]:
        """Fail: an endpoint has no sealed secret of a task."""
        raise AssertionError(f"{ids} were read")


def _targets(reader: _Reader, clock: ManualClock) -> EndpointTargets:
    secrets = SecretSealer(store=reader, keys=KeyRing([KEY]), new_id=lambda: "secret-1")
    return EndpointTargets(endpoints=reader, sealer=secrets, clock=clock)


async def _run(reader: _Reader) -> tuple[Any, RecordingHandler]:
    """Run one delivery to the endpoint; return the setup and the handler."""
    clock, seen = ManualClock(), RecordingHandler()
    setup = dispatcher_setup(handler("webhook", seen), clock=clock, endpoints=_targets(reader, clock))
    setup.queue.put("webhook", target=TARGET, endpoint_id="endpoint-1")
    await setup.run_until_idle()
    return setup, seen


async def test_paused_endpoint_is_held_and_not_counted() -> None:
    """No attempt is stored and no handler runs."""
    setup, seen = await _run(_Reader(an_endpoint(paused=True)))
    assert (len(setup.queue.held), setup.queue.results, seen.events) == (1, [], [])


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [(None, DELETED), (an_endpoint(disabled_at=ManualClock().at, disabled_reason="gone"), "disabled (gone)")],
)
async def test_endpoint_that_gets_nothing_more(endpoint: Endpoint | None, words: str) -> None:
    """The delivery becomes a dead letter that says why, and no handler runs."""
    setup, seen = await _run(_Reader(endpoint))
    [result] = setup.queue.results
    assert (result.outcome, result.fault, words in str(result.error), seen.events) == ("dead", "destination", True, [])


@pytest.mark.parametrize("error", [StoreUnavailable("away"), ValueError("odd")])
async def test_endpoint_that_cannot_be_read_is_tried_again(error: Exception) -> None:
    """It is no fault of the destination, and nobody loses the delivery."""
    setup, _ = await _run(_Reader(error=error))
    [result] = setup.queue.results
    assert (result.outcome, result.about_destination) == ("retry", False)


async def test_success_is_about_the_destination() -> None:
    """Only attempts that were made say something about the endpoint."""
    setup, seen = await _run(_Reader(an_endpoint()))
    [result] = setup.queue.results
    assert (result.outcome, result.about_destination, len(seen.events)) == ("delivered", True, 1)


def _tester(receivers: Receivers, webhook: bool = True) -> EndpointTester:
    http, clock = httpx.AsyncClient(transport=httpx.MockTransport(receivers)), ManualClock()
    return EndpointTester(
        handler=WEBHOOK_HANDLER if webhook else None,
        tools=lambda claim, _: tools(http, target=claim.target, message_id=claim.message_id),
        targets=_targets(_Reader(), clock),
        clock=clock,
        new_id=lambda: "1",
        mask=SecretMask(),
    )


async def test_test_event_is_marked_and_signed() -> None:
    """Its type, task and metadata say what it is, also to a paused and disabled endpoint."""
    receivers = Receivers(answer=lambda _: httpx.Response(200, text="thanks"))
    endpoint = an_endpoint(paused=True, disabled_at=ManualClock().at)
    result = await _tester(receivers).send(endpoint)
    [request] = receivers.requests
    body = verify(SECRET, request)
    assert (body["type"], body["data"]["task"]["id"], body["data"]["metadata"]) == (TEST_EVENT, "test", {"test": True})
    assert (str(request.url), request.headers["x-key"]) == (URL, "of-local")
    assert result.answer is not None
    assert (result.error, result.answer.status, result.answer.body) == (None, 200, "thanks")


async def test_failed_test_event_shows_no_secret() -> None:
    """A network error is reported as a delivery's, and a receiver's echo is masked."""

    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("10.0.0.7 refused")

    result = await _tester(Receivers(answer=refuse)).send(an_endpoint())
    assert (str(result.error).startswith("the address could not be reached"), result.answer) == (True, None)
    echo = Receivers(answer=lambda request: httpx.Response(500, text=f"{dict(request.headers)} {SECRET}"))
    result = await _tester(echo).send(an_endpoint())
    assert result.answer is not None
    for secret in ("of-local", SECRET, OTHER_SECRET):
        assert secret not in f"{result.answer.body} {result.error}"


async def test_test_event_needs_the_webhook_handler() -> None:
    """Where it is not loaded, the reason is given."""
    with pytest.raises(Conflict, match="BOOMERANG_HANDLERS"):
        await _tester(Receivers(), webhook=False).send(an_endpoint())
