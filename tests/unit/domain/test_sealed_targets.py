"""The stored form of `notify` entries with a secret of their own."""

from itertools import count

import pytest

from service.domain.event_routing import target_host
from service.domain.sealed_targets import (
    SEALED_FIELDS,
    opened_entry,
    opened_secrets,
    seal_entries,
    secret_id,
    secret_ids,
)
from service.domain.task import Json, TaskId

SECRET = "whsec_" + "c2VjcmV0" * 4
ENTRY: Json = {"handler": "webhook", "url": "https://Example.org:8443/hook", "secret": SECRET}
TASK = TaskId("t1")
TOKEN = "T0000000/B0000000/" + "x" * 24
DECLARED = {"slack": {"url"}, "crm": {"token"}}


def _sealed(*entries: Json) -> tuple[tuple[Json, ...], list[str]]:
    numbers = count(1)
    stored, secrets = seal_entries(
        entries, TASK, seal=lambda text: text[::-1], new_id=lambda: f"s{next(numbers)}", declared=DECLARED
    )
    assert all(secret.task_id == TASK for secret in secrets)
    assert [secret.id for secret in secrets] == secret_ids(stored)
    return stored, [secret.sealed for secret in secrets]


def test_secret_is_replaced_by_its_id() -> None:
    """The entry names its secret; the address has another scheme, which the previous release refuses to dial."""
    stored, secrets = _sealed(ENTRY)
    assert stored == ({"handler": "webhook", "url": "sealed+https://Example.org:8443/hook", "sealed_secret": "s1"},)
    assert secrets == [SECRET[::-1]]
    assert opened_entry(stored[0], SECRET) == ENTRY


def test_entry_without_a_secret_is_stored_as_it_is() -> None:
    """Also an empty or missing secret."""
    entries = ({"handler": "webhook", "url": "https://example.org"}, {"handler": "crm", "secret": None})
    assert _sealed(*entries) == (entries, [])
    assert [secret_id(entry) for entry in entries] == [None, None]


def test_secret_of_an_entry_without_an_address_is_sealed() -> None:
    """A handler of the operator may take a secret, and no address."""
    stored, _ = _sealed({"handler": "crm", "secret": SECRET})
    assert stored == ({"handler": "crm", "sealed_secret": "s1"},)
    assert opened_entry(stored[0], SECRET) == {"handler": "crm", "secret": SECRET}


@pytest.mark.parametrize(
    ("entry", "url", "hidden"),
    [
        ({"handler": "slack", "url": f"https://hooks.slack.example/services/{TOKEN}"}, "hooks.slack.example", TOKEN),
        ({**ENTRY, "url": "https://Example.org:8443/hook?token=topsecret99"}, "example.org", "topsecret99"),
        ({"handler": "webhook", "url": "https://me:password-of-mine@[::1]/x"}, "[::1]", "password-of-mine"),
        (
            {"handler": "webhook", "url": "vtrix+https://example.org/cb?t=topsecret99", "form": "vtrix"},
            "example.org",
            "t=",
        ),
        ({"handler": "crm", "token": "topsecret99", "account": "shop"}, None, "topsecret99"),
    ],
)
def test_address_and_declared_fields_are_sealed(entry: Json, url: str | None, hidden: str) -> None:
    """Only the host of the address stays, with a scheme that the previous release refuses; each part is masked."""
    [stored], [row] = _sealed(entry)
    sealed = row.removeprefix(SEALED_FIELDS)
    assert sealed != row
    assert hidden not in str(stored)
    assert stored.get("url") == (url and f"sealed-fields+https://{url}")
    assert target_host(stored) == target_host(entry)
    opened = opened_entry(stored, sealed[::-1])
    assert opened == entry
    masked = "a text with " + str(entry.get("url") or entry.get("token"))
    for secret in sorted(opened_secrets(stored, opened), key=len, reverse=True):
        masked = masked.replace(secret, "…")
    assert hidden not in masked


def test_address_that_is_not_sealed_is_not_masked() -> None:
    """The answer of a receiver may name its own path."""
    stored, _ = _sealed(ENTRY)
    assert opened_secrets(stored[0], opened_entry(stored[0], SECRET)) == [SECRET]
    assert opened_secrets(ENTRY, ENTRY) == []


def test_equal_entries_are_stored_once() -> None:
    """Their stored forms would differ by the ids of their secrets, and each event would be delivered twice."""
    reordered = dict(reversed(ENTRY.items()))
    stored, secrets = _sealed(ENTRY, reordered, {**ENTRY, "url": "https://example.org/2"}, ENTRY)
    assert [entry["sealed_secret"] for entry in stored] == ["s1", "s2"]
    assert len(secrets) == 2


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (ENTRY, "example.org"),
        (_sealed(ENTRY)[0][0], "example.org"),
        ({"url": "http://EXAMPLE.org./a"}, "example.org"),
        ({"url": "http://[::1]:80/"}, "::1"),
        ({"url": "http://[::1"}, None),
        ({"url": "nonsense"}, None),
        ({"url": 5}, None),
        ({}, None),
    ],
)
def test_host_of_a_target(target: Json, host: str | None) -> None:
    """In lower case, without port, and the same for the stored form."""
    assert target_host(target) == host
