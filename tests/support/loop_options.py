"""Settings of the use cases in tests."""

from dataclasses import dataclass, field
from datetime import timedelta

from service.deliveries.handler_api import Handler
from service.domain.callback import Verifier
from service.domain.notify import AddressCheck
from service.domain.prices import Pricing
from service.domain.submission_limits import Limits
from service.domain.tokens import Tokens
from tests.support.no_egress_guard import any_address
from tests.support.scripted_provider import TOKENS


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings that tests change; `local_handlers` are the handlers that run in this process."""

    confirm: bool = True
    resubmit_in_doubt: bool = False
    pricing: Pricing = field(default_factory=Pricing)
    limits: Limits = field(default_factory=Limits)
    credit_waits: bool = True
    concurrency: int = 16
    handlers: tuple[str, ...] = ("log", "webhook")
    refusal: AddressCheck = any_address
    local_handlers: tuple[Handler, ...] = ()
    verifier: Verifier | None = None
    public_url: str | None = "https://boomerang.example"
    lease: timedelta = timedelta(minutes=1)
    rate: float | None = None
    tokens: Tokens = TOKENS
