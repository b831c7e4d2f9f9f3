"""Rules for deliveries: claimed at the head of their lane, tried, retried, dead, replayed."""

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from service.domain.ports.queues import AttemptResult, HandlerCapacity, Outcome
from service.domain.ports.unit_of_work import DeliveryClaim
from tests.stateful.lifecycle_rules import LifeMachine
from tests.stateful.machine import MOMENT, which
from tests.support.task_loop import LEASE

OUTCOMES: tuple[Outcome, ...] = ("delivered", "retry", "dead")


class WholeMachine(LifeMachine):
    """Tasks and what follows from them."""

    def __init__(self) -> None:
        super().__init__()
        self.in_hand: list[DeliveryClaim] = []

    @precondition(lambda self: any(one.pending for one in self.model.deliveries.values()))
    @rule(handler=st.sampled_from(("log", "webhook")), limit=st.sampled_from((1, 100)))
    def claim_deliveries(self, handler: str, limit: int) -> None:
        """Claim what is due: heads of lanes that are in nobody's hands, and all of them."""
        now = self.clock.now() + MOMENT
        due = self.model.due_heads(handler, now)
        room = HandlerCapacity(names=(handler,), slots=limit)
        claims = self.do(self.house.store.deliveries.claim([room], now=now, until=now + LEASE))
        found = {claim.id for claim in claims}
        assert len(found) == len(claims) == min(limit, len(due))
        assert found <= due
        for claim in claims:
            one = self.model.deliveries[claim.id]
            assert claim.abandoned == (one.lease is not None)
            one.fence, one.lease = one.fence + 1, now + LEASE
            assert (claim.fence, claim.attempt) == (one.fence, one.attempts + 1)
        self.in_hand += claims

    @precondition(lambda self: self.in_hand)
    @rule(number=which, outcome=st.sampled_from(OUTCOMES))
    def finish(self, number: int, outcome: Outcome) -> None:
        """Record how an attempt ended, however late: only its holder may."""
        claim = self.in_hand.pop(number % len(self.in_hand))
        now = self.clock.now() + MOMENT
        due = now + timedelta(seconds=30) if outcome == "retry" else None
        result = AttemptResult(
            delivery_id=claim.id,
            fence=claim.fence,
            attempt=claim.attempt,
            started_at=now,
            finished_at=now,
            outcome=outcome,
            fault="ours" if outcome == "dead" else None,
            due_at=due,
        )
        one = self.model.deliveries[claim.id]
        ours = one.held_by(claim.fence)
        assert self.do(self.house.store.deliveries.finish([result])) == ({claim.id} if ours else set())
        if ours:
            self.model.finish(one, outcome, now, due)

    @precondition(lambda self: self.in_hand)
    @rule(number=which, gives=st.booleans())
    def renew_or_release_delivery(self, number: int, gives: bool) -> None:
        """Prolong a lease or give it back: only whoever holds it may."""
        claim = self.in_hand[number % len(self.in_hand)]
        one = self.model.deliveries[claim.id]
        ours = one.held_by(claim.fence)
        until = self.clock.now() + LEASE
        queue = self.house.store.deliveries
        if gives:
            self.do(queue.release({claim.id: claim.fence}))
        else:
            assert self.do(queue.renew({claim.id: claim.fence}, until=until)) == ({claim.id} if ours else set())
        one.lease = (None if gives else until) if ours else one.lease

    @precondition(lambda self: self.model.deliveries)
    @rule(number=st.integers(0, 20))
    def replay(self, number: int) -> None:
        """Put one through again: only what has ended."""
        one = list(self.model.deliveries.values())[number % len(self.model.deliveries)]
        now = self.clock.now() + MOMENT
        ended = not one.pending
        assert self.do(self.house.store.deliveries.replay([one.id], now=now)) == ([one.id] if ended else [])
        if ended:
            one.status, one.attempts, one.due, one.lease = "pending", 0, now, None

    @precondition(lambda self: any(one.pending for one in self.model.deliveries.values()))
    @rule(outcome=st.sampled_from(OUTCOMES))
    def deliver(self, outcome: Outcome) -> None:
        """Claim what is due, and record how one attempt ended, as mostly happens."""
        before = len(self.in_hand)
        self.claim_deliveries("log", 1)
        if len(self.in_hand) > before:
            self.finish(before, outcome)

    @precondition(lambda self: self.in_hand)
    @rule(outcome=st.sampled_from(OUTCOMES))
    def overtake_attempt(self, outcome: Outcome) -> None:
        """Sleep through a lease: another worker takes the delivery up, and then the first one goes on."""
        self.clock.move(LEASE + MOMENT)
        for handler in ("log", "webhook"):
            self.claim_deliveries(handler, 100)
        self.finish(0, outcome)

    @precondition(lambda self: self._behind())
    @rule()
    def replay_before_what_is_in_hand(self) -> None:
        """Replay a delivery while a later one of its lane is in hand: it waits for that one."""
        self.replay(list(self.model.deliveries).index(self._behind()[0]))
        self.claim_deliveries("log", 100)

    def _behind(self) -> list[str]:
        """Return deliveries that have ended, in lanes of which a later one is in hand."""
        lanes = {one.lane: one.seq for one in map(self.model.deliveries.get, (each.id for each in self.in_hand)) if one}
        return [
            one.id
            for one in self.model.deliveries.values()
            if not one.pending and one.handler == "log" and one.seq < lanes.get(one.lane, 0)
        ]

    @precondition(lambda self: self.in_hand)
    @rule(outcome=st.sampled_from(OUTCOMES))
    def replay_in_hand(self, outcome: Outcome) -> None:
        """Replay what has just ended, and hear once more from a holder of before."""
        claim = self.in_hand[0]
        self.finish(0, "dead")
        self.in_hand.append(claim)
        self.replay(list(self.model.deliveries).index(claim.id))
        self.finish(len(self.in_hand) - 1, outcome)
