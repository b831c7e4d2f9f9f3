"""The check of the provider's signature under a callback."""

from service.domain.callback import Verifier, callback_address, token_in
from service.providers.vidu.signature import ViduVerifier
from service.runtime.config.settings import Settings


def signature_check(settings: Settings, segment: str) -> Verifier:
    """Return the check of Vidu's signature, which covers the callback address; Vtrix has no key to sign with.

    It covers our address, or the same one as its last `segment` spells it, for example with a slash behind it.
    """
    spellings = dict.fromkeys((token_in(segment), segment))
    addresses = [callback_address(settings.public_url or "", each) for each in spellings]
    return ViduVerifier([settings.upstream_key or ""], *addresses)
