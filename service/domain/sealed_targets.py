"""The stored form of a `notify` entry that has a secret of its own. Only computes.

The entry holds the id of the secret, which is stored sealed in a row of its own until it is deleted. The scheme of
its address is changed: the previous release, which knows no sealed secrets, refuses to dial such an address and tries
again later. It would otherwise sign with another secret, or read the sealed text as the secret.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from service.domain.task import Json, TaskId

SCHEME = "sealed+"
"""Prefix of the scheme of an address whose entry has a sealed secret."""

SECRET_ID = "sealed_secret"  # noqa: S105 - the name of a field
"""The field of an entry that names its sealed secret. No request may contain it."""


@dataclass(frozen=True, kw_only=True)
class SealedSecret:
    """The sealed secret of one `notify` entry of a task."""

    id: str
    task_id: TaskId
    sealed: str = field(repr=False)


def secret_id(target: Json) -> str | None:
    """Return the id of the sealed secret of a stored entry, None if it has none."""
    found = target.get(SECRET_ID)
    return found if isinstance(found, str) else None


def secret_ids(entries: Sequence[Json]) -> list[str]:
    """Return the ids of the sealed secrets of stored entries."""
    return [found for entry in entries if (found := secret_id(entry))]


def with_secret_id(entry: Json, new_id: str) -> Json:
    """Return the stored form of `entry`, whose secret is stored under `new_id`."""
    stored = {name: value for name, value in entry.items() if name != "secret"} | {SECRET_ID: new_id}
    if isinstance(entry.get("url"), str):
        stored["url"] = SCHEME + entry["url"]
    return stored


def with_secret(target: Json, secret: str) -> Json:
    """Return the entry whose stored form is `target`, with its secret."""
    entry = {name: value for name, value in target.items() if name != SECRET_ID} | {"secret": secret}
    if isinstance(target.get("url"), str):
        entry["url"] = target["url"].removeprefix(SCHEME)
    return entry


def seal_entries(
    entries: Sequence[Json], task_id: TaskId, *, seal: Callable[[str], str], new_id: Callable[[], str]
) -> tuple[tuple[Json, ...], tuple[SealedSecret, ...]]:
    """Return the stored form of `entries`, each different one once, and their secrets sealed with `seal`."""
    stored: list[Json] = []
    secrets: list[SealedSecret] = []
    for entry in _different(entries):
        if secret := entry.get("secret"):
            secrets.append(SealedSecret(id=new_id(), task_id=task_id, sealed=seal(str(secret))))
            stored.append(with_secret_id(entry, secrets[-1].id))
        else:
            stored.append(entry)
    return tuple(stored), tuple(secrets)


def _different(entries: Sequence[Json]) -> Iterator[Json]:
    """Yield each different entry: equal ones would differ by the ids of their secrets, and be delivered twice."""
    seen: set[str] = set()
    for entry in entries:
        canonical = json.dumps(entry, sort_keys=True)
        if canonical not in seen:
            seen.add(canonical)
            yield entry
