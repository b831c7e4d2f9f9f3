"""Upstream ids in paths and answers: they come from outside, so that neither is taken on trust."""

from dataclasses import replace

from service.domain.errors import ProviderUnavailable, UnknownTask
from service.domain.task import Fact, UpstreamId
from service.providers.fields import UPSTREAM_ID


def segment(upstream_id: UpstreamId) -> str:
    """Return the id as one segment of a path; raises UnknownTask for one that no provider would give."""
    if not UPSTREAM_ID.fullmatch(upstream_id):
        raise UnknownTask("that is no upstream id")
    return str(upstream_id)


def same_task(fact: Fact, asked: UpstreamId) -> Fact:
    """Return the fact with the id that was asked for; raises Unwell when it speaks of another task."""
    if fact.upstream_id not in (None, asked):
        raise ProviderUnavailable("the upstream answered about another task than the one asked for")
    return replace(fact, upstream_id=asked)
