"""The tools of an attempt, and what its error may contain."""

from collections.abc import Sequence

import httpx
import pytest

from service.deliveries.egress_clients import EgressClients
from service.deliveries.error_text import SecretMask
from service.deliveries.handler_api import Event, Handler, Tools
from service.deliveries.handler_loader import survey
from service.deliveries.handler_tools import ToolsFactory
from service.deliveries.notify_options import secret_options
from service.domain.blob import Blob
from service.domain.callback_forms import callback_entry
from service.domain.delivery_errors import UNREACHABLE
from service.domain.endpoint import Endpoint
from service.domain.key_ring import KeyRing
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.task import TaskId
from service.domain.webhook_secrets import ClientSecrets, derive_client_secret
from service.tasks.callback_bodies import CallbackBodies
from service.tasks.endpoint_targets import EndpointTargets
from service.tasks.secret_sealer import SecretSealer
from tests.support.delivery_builders import NOW, ManualClock, Results, claim_for, dispatcher_setup, handler
from tests.support.delivery_builders import tools as tools_of_a_test

KEY = "signing-key-of-32-characters-no-1"
SECRET = "whsec_" + "c2VjcmV0" * 4
TARGET = {"handler": "sample", "url": "https://example.org/hook"}


async def _nothing(event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id


async def test_target_has_the_guard_and_the_secrets_of_its_client() -> None:
    """A delivery without a target has the operator's."""
    async with httpx.AsyncClient() as notify, httpx.AsyncClient() as handlers:
        make = ToolsFactory(
            clients=EgressClients(notify=notify, handlers=handlers),
            results=Results(),
            now=lambda: NOW,
            settings={"WEBHOOK_SECRETS": "shared", "HANDLER_A": "1"},
            client_secrets=ClientSecrets(keys=[KEY], shared=["shared"]),
        )
        own = make(claim_for("sample", target=TARGET), handler("sample", _nothing))
        operators = make(claim_for("sample"), handler("sample", _nothing))
        assert (own.http, operators.http) == (notify, handlers)
    assert own.settings == {"WEBHOOK_SECRETS": f"{derive_client_secret(KEY, 'ada')},shared", "HANDLER_A": "1"}
    assert operators.settings == {"WEBHOOK_SECRETS": "shared", "HANDLER_A": "1"}
    assert (own.target, operators.target) == (TARGET, {})


async def test_dispatcher_masks_and_hides_errors() -> None:
    """Values of settings are masked in every error, and a target's network error begins with the sentence."""

    async def fail(event: Event, tools: Tools) -> None:
        await _nothing(event, tools)
        raise httpx.ConnectError("value-of-a-setting is not there")

    setup = dispatcher_setup(handler("sample", fail), mask=SecretMask(["value-of-a-setting"]))
    setup.queue.put("sample")
    setup.queue.put("sample", target=TARGET)
    await setup.run_until_idle()
    found = {result.delivery_id: result.error for result in setup.queue.results}
    text = "ConnectError: … is not there"
    assert found == {"delivery-1": text, "delivery-2": f"{UNREACHABLE}: {text}"}


class Rows:
    """One sealed secret in memory."""

    sealed = ""

    async def load(self, ids: Sequence[str]) -> dict[str, str]:
        """Return it under every id."""
        return dict.fromkeys(ids, self.sealed)


class NoEndpoints:
    """Knows no endpoint."""

    async def get(self, endpoint_id: str) -> Endpoint | None:
        """Return None."""
        assert endpoint_id
        return None


class NoBlobs:
    """A store without what a caller sent beside a task."""

    async def stored_at(self, task_id: TaskId) -> frozenset[str]:
        """Return none."""
        del task_id
        return frozenset()

    async def load(self, task_id: TaskId) -> dict[str, Blob]:
        """Return none."""
        assert task_id
        return {}

    async def payload(self, task_id: TaskId) -> str | None:
        """Return None."""
        assert task_id
        return None

    async def meta_data(self, task_id: TaskId) -> str | None:
        """Return None."""
        assert task_id
        return None


async def test_handler_gets_the_opened_secret_and_no_error_has_it() -> None:
    """The dispatcher opens the sealed secret of a target for the attempt, and masks it like a plain one."""
    rows, seen = Rows(), []

    async def fail(event: Event, tools: Tools) -> None:
        assert event.id
        seen.append(tools.message_id)
        raise ValueError(f"signing with {SECRET[6:]} failed")

    secrets = SecretSealer(store=rows, keys=KeyRing([KEY]), new_id=lambda: "s1")
    [stored], [one] = secrets.seal([{**TARGET, "secret": SECRET}], TaskId("task-1"))
    rows.sealed = one.sealed
    setup = dispatcher_setup(handler("sample", fail), sealer=secrets)
    setup.queue.put("sample", target=stored)
    opened = []

    def make(claim: DeliveryClaim, _: Handler) -> Tools:
        opened.append(claim.target)
        return tools_of_a_test()

    setup.dispatcher._attempts.tools = make
    await setup.run_until_idle()
    assert seen
    assert opened == [{**TARGET, "secret": SECRET}]
    assert "c2VjcmV0" not in str([result.error for result in setup.queue.results])


async def test_sealed_address_is_opened_and_rendered_and_no_answer_shows_it() -> None:
    """An address with a token, in the form of the provider's API: the handler gets both, all else a mask."""
    rows, opened = Rows(), []

    async def fail(event: Event, tools: Tools) -> None:
        assert event.id
        opened.append(dict(tools.target))
        tools.keep_answer(404, b"Cannot POST /back?token=of-the-receiver")
        raise ValueError("no /back?token=of-the-receiver")

    secrets = SecretSealer(store=rows, keys=KeyRing([KEY]), new_id=lambda: "s1")
    entry = callback_entry("https://example.org/back?token=of-the-receiver", "vtrix")
    [stored], [one] = secrets.seal([entry], TaskId("task-1"))
    rows.sealed = one.sealed
    assert "of-the-receiver" not in str(stored)
    targets = EndpointTargets(
        endpoints=NoEndpoints(),
        sealer=secrets,
        clock=ManualClock(),
        callback_bodies=CallbackBodies(blobs=NoBlobs()),
    )
    setup = dispatcher_setup(handler("webhook", fail), sealer=secrets, endpoints=targets)
    setup.queue.put("webhook", target=stored)
    setup.dispatcher._attempts.tools = lambda claim, _: tools_of_a_test(target=claim.target)
    await setup.run_until_idle()
    assert opened[0]["url"] == "https://example.org/back?token=of-the-receiver"
    assert opened[0]["body"]["id"] == "task-1"
    assert "of-the-receiver" not in str([(result.error, result.answer) for result in setup.queue.results])


@pytest.mark.parametrize("name", ["slack", "discord"])
def test_addresses_of_the_chats_are_sealed(name: str) -> None:
    """The token of a webhook of Slack or Discord is in its path."""
    options = survey().handlers[name].options
    assert options is not None
    assert secret_options(options) == {"url"}
