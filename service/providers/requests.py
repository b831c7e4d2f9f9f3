"""What both providers are asked for: the caller's parameters, with our tokens in place of the caller's."""

from service.domain.ports.provider import ProviderRequest
from service.domain.task import Json

OURS = frozenset({"payload", "meta_data", "callback_url"})


def with_tokens(order: ProviderRequest) -> Json:
    """Return the order's parameters without what is empty, with our payload, meta_data and callback_url.

    Values are shared with the order, not copied: inline media is held once.
    """
    asked = {name: value for name, value in order.params.items() if name not in OURS and value not in (None, [])}
    tokens = {"payload": order.payload, "meta_data": order.meta_data, "callback_url": order.callback_url}
    return asked | {name: value for name, value in tokens.items() if value is not None}
