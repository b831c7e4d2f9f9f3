"""Seals stored secrets again with the key that signs now, so that an old key can be removed without losing them."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from service.domain.errors import BadSetting
from service.domain.ports.signals import Clock
from service.domain.ports.tasks import SealedRows
from service.domain.sealed_targets import Resealed
from service.tasks.endpoints import EndpointService
from service.tasks.secret_sealer import SecretSealer

AT_ONCE = 1_000
"""Secrets of `notify` entries that one run reads."""

SETTLED_AFTER = timedelta(minutes=1)
"""Time after which every process signs with a newly selected key: what was sealed before is found after it."""

log = structlog.get_logger("boomerang.tasks")


@dataclass(kw_only=True, slots=True, eq=False)
class SecretResealing:
    """Seals the secrets of endpoints and of `notify` entries again; `run` is one step of it, for a job."""

    endpoints: EndpointService
    rows: SealedRows
    secrets: SecretSealer
    clock: Clock
    _key: str | None = field(init=False, default=None)
    _key_since: datetime = field(init=False, repr=False)
    _pass_began: datetime = field(init=False, repr=False)
    _after: str = field(init=False, default="")
    _unreadable: int = field(init=False, default=0)
    _finished: bool = field(init=False, default=False)

    async def run(self) -> int:
        """Seal again what another key sealed; return how many secrets changed. Raises StoreUnavailable."""
        return await self.endpoints.seal_again() + await self._entries()

    async def _entries(self) -> int:
        """Go through the secrets of entries, a part in each run, until one pass found all sealed with the key.

        Rows do not say which key sealed them, so that a process with a single key, which could open no others, reads
        none.
        """
        keys, now = self.secrets.keys, self.clock.now()
        if not self.secrets.registered() or len(keys.keys) == 1:
            return 0
        if keys.signing_fingerprint != self._key:
            self._key, self._key_since = keys.signing_fingerprint, now
            self._begin(now)
        if self._finished:
            return 0
        rows = await self.rows.page(after=self._after, limit=AT_ONCE)
        changed = await self.rows.replace([new for id_, sealed in rows.items() if (new := self._again(id_, sealed))])
        if len(rows) == AT_ONCE:
            self._after = max(rows)
        elif self._pass_began - self._key_since >= SETTLED_AFTER:
            self._finished = True
            log.info("no secret needs an older key", key=self._key, unreadable=self._unreadable)
        else:
            self._begin(now)
        return changed

    def _begin(self, now: datetime) -> None:
        self._pass_began, self._after, self._unreadable, self._finished = now, "", 0, False

    def _again(self, secret_id: str, sealed: str) -> Resealed | None:
        """Return the row sealed with the key that signs now, None if it is or cannot be opened."""
        try:
            new = self.secrets.seal_text_again(sealed)
        except BadSetting:
            self._unreadable += 1
            return None
        return None if new is None else Resealed(id=secret_id, before=sealed, sealed=new)
