"""The secrets of an endpoint: those that sign, with rotation, and the values of its headers. Only computes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from service.domain.endpoint import MAX_OLD_SECRETS
from service.domain.errors import Conflict
from service.domain.task_view import parse_time


@dataclass(frozen=True, kw_only=True)
class OldSecret:
    """A replaced secret, which signs beside the newest one `until` a time."""

    secret: str = field(repr=False)
    until: datetime


@dataclass(frozen=True, kw_only=True)
class EndpointSecrets:
    """The newest `secret`, the replaced ones, newest first, and the values of the headers by name."""

    secret: str = field(repr=False)
    old: tuple[OldSecret, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def signing(self, now: datetime) -> list[str]:
        """Return the secrets that sign now, the newest first."""
        return [self.secret, *(each.secret for each in self.old if each.until > now)]

    def without_expired(self, now: datetime) -> "EndpointSecrets":
        """Return the same without the secrets that no longer sign."""
        return replace(self, old=tuple(each for each in self.old if each.until > now))

    def old_until(self, now: datetime) -> datetime | None:
        """Return until when a replaced secret signs, None if none does."""
        return max((each.until for each in self.old if each.until > now), default=None)

    def rotated(self, secret: str, now: datetime, overlap: timedelta) -> "EndpointSecrets":
        """Return these secrets with a new one; the last one signs during `overlap`, without one no replaced one does.

        Raises Conflict if too many replaced secrets still sign: none of them is dropped before its time.
        """
        if secret == self.secret:
            raise Conflict("this is the secret of the endpoint already")
        if not overlap:
            return replace(self, secret=secret, old=())
        old = self.without_expired(now).old
        if len(old) >= MAX_OLD_SECRETS:
            raise Conflict(
                f"{len(old)} replaced secrets still sign, until {min(each.until for each in old):%Y-%m-%dT%H:%MZ}: "
                "wait, or rotate with overlap_seconds 0, which ends all of them"
            )
        return replace(self, secret=secret, old=(OldSecret(secret=self.secret, until=now + overlap), *old))

    def to_text(self) -> str:
        """Return these secrets as the text to seal."""
        old = [[each.secret, each.until.isoformat()] for each in self.old]
        return json.dumps({"secret": self.secret, "old": old, "headers": dict(self.headers)})

    @classmethod
    def from_text(cls, text: str) -> "EndpointSecrets":
        """Return the secrets that `to_text` wrote."""
        data = json.loads(text)
        old = [OldSecret(secret=secret, until=until) for secret, at in data["old"] if (until := parse_time(at))]
        return cls(secret=data["secret"], old=tuple(old), headers=data["headers"])
