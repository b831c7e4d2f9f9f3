"""The check of the handlers by `boomerang doctor`."""

from service.network.transport import Outgoing
from service.runtime.checks.finding import Installation
from service.runtime.checks.handler_checks import check_handlers
from service.runtime.config.settings import load_settings
from tests.support.task_loop import MovedClock


async def test_settings_of_handlers_that_are_not_named_are_a_warning() -> None:
    """The service starts and never posts: the doctor says which setting has no effect, and what to do."""
    given = {"BOOMERANG_HANDLERS": "log", "BOOMERANG_WEBHOOK_URL": "https://hooks.example/"}
    at = Installation(
        settings=load_settings(given),
        keys=(),
        network=Outgoing(),
        clock=MovedClock(),
        host="127.0.0.1",
        port=8080,
        variables=given,
    )
    [found] = [each for each in await check_handlers(at) if each.outcome == "warning"]
    assert found.text == "BOOMERANG_HANDLERS does not name webhook, so BOOMERANG_WEBHOOK_URL has no effect"
    assert found.fix == "add webhook to BOOMERANG_HANDLERS, or leave the setting out"
