"""The stored form of a `notify` entry that has secrets of its own. Only computes.

The entry holds the id of its secrets, which are stored sealed in a row of their own until they are deleted. The scheme
of its address is changed: the previous release refuses to dial an address that it cannot complete, and tries again
later. It would otherwise sign with another secret, or send the event to an address that is only a host.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from service.domain.event_routing import WEBHOOK, target_host
from service.domain.task import Json, TaskId

SCHEME = "sealed+"
"""Prefix of the scheme of an address whose entry has a sealed `secret` and nothing else sealed."""

FIELDS_SCHEME = "sealed-fields+"
"""The same for an entry with other sealed fields: the address itself, of which the host alone stays, among them."""

SEALED_FIELDS = "fields:"
"""Begins the sealed text of an entry with other sealed fields than `secret`.

The previous release takes it for the text of a key that it lacks, and tries again later: it would reject the fields.
"""

SECRET_ID = "sealed_secret"  # noqa: S105 - the name of a field
"""The field of an entry that names its sealed secrets. No request may contain it."""

MIN_PART = 8
"""Characters from which a part of a sealed address is masked: shorter ones are words of every text."""

SecretFields = Mapping[str, Collection[str]]
"""The fields of entries that are secret beside `secret`, by the name of the handler."""


@dataclass(frozen=True, kw_only=True)
class SealedSecret:
    """The sealed secrets of one `notify` entry of a task."""

    id: str
    task_id: TaskId
    sealed: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Resealed:
    """A secret that was sealed again: the row's id, the text that it must still have, and the new one."""

    id: str
    before: str = field(repr=False)
    sealed: str = field(repr=False)


def secret_id(target: Json) -> str | None:
    """Return the id of the sealed secrets of a stored entry, None if it has none."""
    found = target.get(SECRET_ID)
    return found if isinstance(found, str) else None


def secret_ids(entries: Sequence[Json]) -> list[str]:
    """Return the ids of the sealed secrets of stored entries."""
    return [found for entry in entries if (found := secret_id(entry))]


def is_secret_address(url: str) -> bool:
    """Return whether an address has a query or a password: both often contain the token of the receiver."""
    return "?" in url or "@" in urlsplit(url).netloc


def address_secrets(url: str) -> list[str]:
    """Return what no error and no answer may show of a secret address: all of it, and parts that may be a token."""
    parts = urlsplit(url)
    pieces = [*parts.path.split("/"), *(pair.partition("=")[2] for pair in parts.query.split("&"))]
    whole = [url, parts.path, parts.query, parts.password or ""]
    return [each for each in [*whole, *pieces] if len(each) >= MIN_PART]


def secret_values(entry: Json, declared: SecretFields) -> dict[str, str]:
    """Return the fields of an entry that are sealed: those that its handler declares, and a webhook's own.

    That is an address, too, if it is a secret one.
    """
    names = {"secret", *declared.get(str(entry.get("handler")), ())}
    url = entry.get("url")
    if entry.get("handler") == WEBHOOK and isinstance(url, str) and is_secret_address(url):
        names.add("url")
    return {name: value for name in sorted(names) if isinstance(value := entry.get(name), str) and value}


def stored_entry(entry: Json, secrets: Collection[str], new_id: str) -> Json:
    """Return the stored form of `entry`, whose fields `secrets` are stored under `new_id`."""
    stored = {name: value for name, value in entry.items() if name not in secrets} | {SECRET_ID: new_id}
    url = entry.get("url")
    if "url" in secrets:
        host = target_host(entry) or "unknown"
        stored["url"] = f"{FIELDS_SCHEME}https://{f'[{host}]' if ':' in host else host}"
    elif isinstance(url, str):
        stored["url"] = (SCHEME if set(secrets) == {"secret"} else FIELDS_SCHEME) + url
    return stored


def sealed_text(secrets: Mapping[str, str]) -> str:
    """Return what is sealed: the text of `secret` alone, as the previous release reads it, or the fields as JSON."""
    return secrets["secret"] if set(secrets) == {"secret"} else json.dumps(secrets)


def opened_entry(target: Json, text: str) -> Json:
    """Return the entry whose stored form is `target`, with the secrets of the opened `text`."""
    entry = {name: value for name, value in target.items() if name != SECRET_ID}
    if isinstance(url := target.get("url"), str):
        entry["url"] = url.removeprefix(SCHEME).removeprefix(FIELDS_SCHEME)
    return entry | (json.loads(text) if text.startswith("{") else {"secret": text})


def opened_secrets(stored: Json, opened: Json) -> list[str]:
    """Return what no error and no answer may show of an entry that was sealed: its fields, and parts of its address."""
    if secret_id(stored) is None:
        return []
    kept = {str(each) for each in stored.values()}
    values = [value for value in opened.values() if isinstance(value, str) and value not in kept]
    url = opened.get("url")
    if not isinstance(url, str) or any(scheme + url in kept for scheme in (SCHEME, FIELDS_SCHEME)):
        return [value for value in values if value != url]
    return [*values, *address_secrets(url)]


def seal_entries(
    entries: Sequence[Json],
    task_id: TaskId,
    *,
    seal: Callable[[str], str],
    new_id: Callable[[], str],
    declared: SecretFields | None = None,
) -> tuple[tuple[Json, ...], tuple[SealedSecret, ...]]:
    """Return the stored form of `entries`, each different one once, and their secrets sealed with `seal`."""
    stored: list[Json] = []
    rows: list[SealedSecret] = []
    for entry in _different(entries):
        if secrets := secret_values(entry, declared or {}):
            prefix = "" if set(secrets) == {"secret"} else SEALED_FIELDS
            rows.append(SealedSecret(id=new_id(), task_id=task_id, sealed=prefix + seal(sealed_text(secrets))))
            stored.append(stored_entry(entry, secrets, rows[-1].id))
        else:
            stored.append(entry)
    return tuple(stored), tuple(rows)


def _different(entries: Sequence[Json]) -> Iterator[Json]:
    """Yield each different entry: equal ones would differ by the ids of their secrets, and be delivered twice."""
    seen: set[str] = set()
    for entry in entries:
        canonical = json.dumps(entry, sort_keys=True)
        if canonical not in seen:
            seen.add(canonical)
            yield entry
