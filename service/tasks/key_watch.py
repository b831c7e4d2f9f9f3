"""Stores since when the provider rejects our key, until it accepts a request again."""

from dataclasses import dataclass, field

from service.domain.ports.key_rejections import KeyRejections
from service.domain.ports.signals import Clock
from service.domain.provider_key import KeyAnswers


@dataclass(kw_only=True, slots=True)
class KeyWatch:
    """Compares the answers to this process with those at the last check. Without new ones it does nothing."""

    answers: KeyAnswers
    rejections: KeyRejections
    clock: Clock
    _seen: tuple[int, int] = field(default=(0, 0), init=False)

    async def check(self) -> int:
        """Store what the last answer says of the key; return 1 if that is new. Raises StoreUnavailable."""
        seen = (self.answers.accepted, self.answers.rejected)
        if seen == self._seen:
            return 0
        if self.answers.last_rejected:
            changed = await self.rejections.rejected(self.clock.now())
        else:
            changed = await self.rejections.accepted()
        self._seen = seen
        return int(changed)
