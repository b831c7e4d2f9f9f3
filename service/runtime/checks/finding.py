"""What a check of an installation finds, and what it looks at."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from service.domain.ports.signals import Clock
from service.network.transport import Outgoing
from service.runtime.config.settings import Settings

Outcome = Literal["ok", "warning", "fault", "skipped"]
"""`fault`: the service does not work so; `warning`: it works less well; `skipped`: it could not be checked."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of a check in one sentence, and how to fix it; the text has no key, password or token."""

    outcome: Outcome
    text: str
    fix: str = ""


def ok(text: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(outcome="ok", text=text)


def warning(text: str, fix: str) -> Finding:
    """Return a finding that should be fixed."""
    return Finding(outcome="warning", text=text, fix=fix)


def fault(text: str, fix: str) -> Finding:
    """Return a finding that must be fixed."""
    return Finding(outcome="fault", text=text, fix=fix)


def skipped(text: str) -> Finding:
    """Return a finding of a check that could not be made."""
    return Finding(outcome="skipped", text=text)


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What the checks look at.

    `keys` are the signing keys, newest first; empty where the start of the service makes them. `network` is how other
    hosts are reached. `host` and `port` are where the service listens. `variables` are those of the environment and of
    the file `.env`.
    """

    settings: Settings
    keys: Sequence[str] = field(repr=False)
    network: Outgoing
    clock: Clock
    host: str
    port: int
    variables: Mapping[str, str] = field(repr=False)
    handlers: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, kw_only=True)
class InstallationCheck:
    """One check: its name, the settings (fields) that must be valid for it, and what it does."""

    name: str
    run: Callable[[Installation], Awaitable[Sequence[Finding]]]
    needs: frozenset[str] = frozenset()
