"""A callback comes in: verify, record, and only then answer."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from service.core.callback import Callback, UnreadableCallback, Verifier, read_callback
from service.core.facts import fact_to_json
from service.core.task import Source
from service.core.tokens import Tokens
from service.entry import NOTHING_MADE, Entry, Hint
from service.errors import BadSignature
from service.ports import Clock, InboxEntry
from service.record import Record

KEPT_HEADERS = frozenset({"content-type", "date", "user-agent", "x-hmac-signed-headers", "x-hmac-algorithm"})
"""Headers kept beside a raw callback: nothing that is secret or signs."""


class Receive:
    """Turns HTTP callbacks into facts.

    `verifier_for(token)` makes the check of the provider's own signature for the address that held `token`, or None
    where the provider's key is not ours. With `confirm` a terminal callback is only a hint, and a GET decides.
    """

    def __init__(
        self,
        record: Record,
        *,
        tokens: Tokens,
        clock: Clock,
        confirm: bool,
        verifier_for: Callable[[str], Verifier | None],
    ) -> None:
        self._record = record
        self._tokens = tokens
        self._clock = clock
        self._confirm = confirm
        self._verifier_for = verifier_for

    def vouch(self, token: str) -> None:
        """Raise BadToken unless the token is ours and in date: known before a body is waited for; changes nothing."""
        self._tokens.read_callback_token(token, self._clock.now())

    async def receive(self, token: str, headers: Mapping[str, str], body: bytes) -> None:
        """Return once the callback is durable; a repeat changes nothing.

        Raises BadToken, BadSignature, UnreadableBody or StoreUnavailable.
        """
        now = self._clock.now()
        verifier = self._verifier_for(token)
        try:
            callback = read_callback(token, headers, body, now, tokens=self._tokens, verifier=verifier)
        except UnreadableCallback as unread:
            await self._look_at_once(unread, headers, body)
            raise
        recorded = await self._record.add(self._entry(callback, headers, body))
        if recorded.inbox == "nonce_reused":
            raise BadSignature("this nonce was used for another callback")

    async def _look_at_once(self, unread: UnreadableCallback, headers: Mapping[str, str], body: bytes) -> None:
        """Somebody who holds our token said something: ask the upstream what it was."""
        row = InboxEntry(
            task_id=unread.claim.task_id,
            submission=unread.claim.submission,
            digest=unread.digest,
            body=body,
            headers=_kept(headers),
            received_at=self._clock.now(),
            verdict="unreadable",
        )
        await self._record.add(Entry(task_id=row.task_id, inbox=row, hint=Hint(ended=False)))

    def _entry(self, callback: Callback, headers: Mapping[str, str], body: bytes) -> Entry:
        row = InboxEntry(
            task_id=callback.task_id,
            submission=callback.submission,
            digest=callback.digest,
            body=body,
            headers=_kept(headers),
            received_at=self._clock.now(),
            verdict="accepted",
            nonce=callback.nonce,
        )
        fact = replace(callback.fact, upstream_id=None)
        if callback.fact.settles and self._confirm:
            return Entry(task_id=row.task_id, submission=row.submission, inbox=row, hint=_hint(callback))
        return Entry(
            task_id=row.task_id,
            submission=row.submission,
            inbox=row,
            fact=fact,
            source=Source.CALLBACK,
            named=callback.fact.upstream_id,
        )


def _hint(callback: Callback) -> Hint:
    """Keep the body's fact only where its payload token is ours: it may have to stand in for a GET."""
    fact = fact_to_json(callback.fact) if callback.correlated else None
    nothing_made = callback.fact.status in NOTHING_MADE
    return Hint(upstream_id=callback.fact.upstream_id, fact=fact, nothing_made=nothing_made)


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value[:200] for name, value in headers.items() if name.lower() in KEPT_HEADERS}
