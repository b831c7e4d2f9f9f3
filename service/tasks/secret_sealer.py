"""Seals the secrets of `notify` entries and endpoints for the database, and opens them for an attempt."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from service.domain.errors import BadSetting, Conflict, Reject, StoreUnavailable
from service.domain.key_ring import KeyRing
from service.domain.ports.tasks import SealedSecrets
from service.domain.sealed_targets import (
    SEALED_FIELDS,
    SealedSecret,
    SecretFields,
    opened_entry,
    seal_entries,
    secret_id,
    secret_ids,
)
from service.domain.task import Json, TaskId

SALT = b"boomerang.sealed-webhook-secret"

DELETED = "the secret of its notify entry was deleted with the last delivery of the task"


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretSealer:
    """Seals with the key that signs now, and opens with every key. `new_id` makes ids of secrets.

    `registered` returns whether the key that signs now is one that all processes know. `declared` are the secret fields
    of entries that handlers declare, by the name of the handler.
    """

    store: SealedSecrets
    keys: KeyRing
    new_id: Callable[[], str]
    registered: Callable[[], bool] = lambda: True
    declared: SecretFields = field(default_factory=dict)

    def seal(self, notify: Sequence[Json], task_id: TaskId) -> tuple[tuple[Json, ...], tuple[SealedSecret, ...]]:
        """Return the stored form of the entries of a new task, and their sealed secrets.

        Raises StoreUnavailable for a secret while the keys of this process are not registered: another process might
        lack the key, and could not open it.
        """
        return seal_entries(notify, task_id, seal=self.seal_text, new_id=self.new_id, declared=self.declared)

    async def seal_again(
        self, notify: Sequence[Json], task_id: TaskId
    ) -> tuple[tuple[Json, ...], tuple[SealedSecret, ...]]:
        """Return the same for `notify` of a stored task; raises Conflict if a secret is deleted."""
        if not secret_ids(notify):
            return self.seal(notify, task_id)
        try:
            return self.seal([await self.open(entry) for entry in notify], task_id)
        except Reject as deleted:
            raise Conflict(f"{deleted}; submit a new task with it") from deleted

    async def open(self, target: Json) -> Json:
        """Return the entry whose stored form is `target`, with its secrets.

        Raises Reject if the secret is deleted, BadSetting if it was sealed with a key that is no longer known.
        """
        found = secret_id(target)
        if found is None:
            return target
        sealed = (await self.store.load([found])).get(found)
        if sealed is None:
            raise Reject(DELETED)
        return opened_entry(target, self.open_text(sealed.removeprefix(SEALED_FIELDS)))

    def seal_text(self, secret: str) -> str:
        """Return `secret` sealed; raises StoreUnavailable while the keys of this process are not registered."""
        from cryptography.fernet import Fernet  # noqa: PLC0415 - heavy, and most tasks have no secret

        if not self.registered():
            raise StoreUnavailable("the signing keys of this process are not registered yet")
        return Fernet(_fernet_key(self.keys.signing)).encrypt(secret.encode()).decode("ascii")

    def seal_text_again(self, sealed: str) -> str | None:
        """Return a sealed text sealed with the key that signs now, None if that key has sealed it.

        Raises BadSetting if the key is no longer known.
        """
        from cryptography.fernet import Fernet, InvalidToken  # noqa: PLC0415 - see above

        text = sealed.removeprefix(SEALED_FIELDS)
        try:
            Fernet(_fernet_key(self.keys.signing)).decrypt(text)
        except InvalidToken:
            return sealed.removesuffix(text) + self.seal_text(self.open_text(text))
        return None

    def open_text(self, sealed: str) -> str:
        """Return the text that was sealed; raises BadSetting if the key is no longer known."""
        from cryptography.fernet import Fernet, InvalidToken, MultiFernet  # noqa: PLC0415 - see above

        try:
            found = MultiFernet([Fernet(_fernet_key(key)) for key in self.keys.keys]).decrypt(sealed)
        except InvalidToken:
            raise BadSetting("a webhook secret was sealed with a key that BOOMERANG_SECRET_KEYS lacks") from None
        return found.decode()


def _fernet_key(signing_key: str) -> bytes:
    return base64.urlsafe_b64encode(hmac.digest(signing_key.encode(), SALT, hashlib.sha256))
