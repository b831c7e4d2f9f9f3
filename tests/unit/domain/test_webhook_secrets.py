"""The secrets that sign webhooks: shared ones, and one for each client."""

from dataclasses import replace

import pytest

from service.domain import webhook_secrets
from service.domain.webhook_secrets import (
    ClientSecrets,
    derive_client_secret,
    derive_webhook_secret,
    is_webhook_secret,
)

NEW, OLD = "new-signing-key-of-32-characters-1", "old-signing-key-of-32-characters-2"
SHARED = (derive_webhook_secret(NEW), derive_webhook_secret(OLD))
SECRETS = ClientSecrets(keys=(NEW, OLD), shared=SHARED, with_shared=frozenset({"root"}))


def test_each_client_and_key_has_another_secret() -> None:
    """None of them is the shared one; all have the format of Standard Webhooks, and are the same in every process."""
    names = ["ann", "bob", "", "ann\0", "änn"]
    found = [derive_client_secret(key, name) for key in (NEW, OLD) for name in names]
    assert len({*found, *SHARED}) == len(found) + 2
    assert all(map(is_webhook_secret, found))
    assert found[0] == "whsec_" + "BcoUaxgfljoh3tpwLr03+ULJ/mLi6z847dFjIJJ+J2Q="


def test_own_and_shared_secrets_sign_during_the_change() -> None:
    """Newest first, those of the client before the shared ones, so that its receivers can change at any time."""
    own = (derive_client_secret(NEW, "ann"), derive_client_secret(OLD, "ann"))
    assert SECRETS.for_client("ann") == (*own, *SHARED)


def test_own_secret_alone_signs_after_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared secret then proves nothing to the receivers of a client."""
    monkeypatch.setattr(webhook_secrets, "SHARED_SECRETS_SIGN", False)
    assert SECRETS.for_client("ann") == (derive_client_secret(NEW, "ann"), derive_client_secret(OLD, "ann"))


def test_shared_secret_signs_for_admins() -> None:
    """An admin's receivers are the operator's own."""
    assert SECRETS.for_client("root") == SHARED


def test_new_key_keeps_the_old_signatures() -> None:
    """After SECRET_KEYS changed, a receiver verifies with the secret of either key."""
    before = replace(SECRETS, keys=(OLD,), shared=SHARED[1:])
    assert set(before.for_client("ann")) <= set(SECRETS.for_client("ann"))


def test_secrets_are_not_in_the_repr() -> None:
    """A log line of the object has no secret."""
    assert not any(text in repr(SECRETS) for text in (NEW, OLD, *SHARED))
