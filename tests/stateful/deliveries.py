"""Rules for deliveries: claims of lane heads, results, retries, dead letters and replays."""

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from service.domain.ports.queues import AttemptResult, HandlerCapacity, Outcome
from service.domain.ports.unit_of_work import DeliveryClaim
from tests.stateful.lifecycle_rules import LifecycleMachine
from tests.stateful.machine import MOMENT, which
from tests.support.task_loop import LEASE

OUTCOMES: tuple[Outcome, ...] = ("delivered", "retry", "dead")


class DeliveryMachine(LifecycleMachine):
    """Tasks and their deliveries."""

    def __init__(self) -> None:
        super().__init__()
        self.attempting: list[DeliveryClaim] = []

    @precondition(lambda self: any(one.pending for one in self.model.deliveries.values()))
    @rule(handler=st.sampled_from(("log", "webhook")), limit=st.sampled_from((1, 100)))
    def claim_deliveries(self, handler: str, limit: int) -> None:
        """Claim due deliveries: every head of a lane that has no lease."""
        now = self.clock.now() + MOMENT
        due = self.model.due_heads(handler, now)
        capacity = HandlerCapacity(names=(handler,), slots=limit)
        claims = self.do(self.system.store.deliveries.claim([capacity], now=now, until=now + LEASE))
        found = {claim.id for claim in claims}
        assert len(found) == len(claims) == min(limit, len(due))
        assert found <= due
        for claim in claims:
            one = self.model.deliveries[claim.id]
            assert claim.abandoned == (one.lease is not None)
            one.fence, one.lease = one.fence + 1, now + LEASE
            assert (claim.fence, claim.attempt) == (one.fence, one.attempts + 1)
        self.attempting += claims

    @precondition(lambda self: self.attempting)
    @rule(number=which, outcome=st.sampled_from(OUTCOMES))
    def finish(self, number: int, outcome: Outcome) -> None:
        """Store the result of an attempt, perhaps late: only the holder of the lease may."""
        claim = self.attempting.pop(number % len(self.attempting))
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
        held = one.held_by(claim.fence)
        assert self.do(self.system.store.deliveries.finish([result])) == ({claim.id} if held else set())
        if held:
            self.model.finish(one, outcome, now, due)

    @precondition(lambda self: self.attempting)
    @rule(number=which, releases=st.booleans())
    def renew_or_release_delivery(self, number: int, releases: bool) -> None:
        """Renew or release a lease: only its holder may."""
        claim = self.attempting[number % len(self.attempting)]
        one = self.model.deliveries[claim.id]
        held = one.held_by(claim.fence)
        until = self.clock.now() + LEASE
        queue = self.system.store.deliveries
        if releases:
            self.do(queue.release({claim.id: claim.fence}))
        else:
            assert self.do(queue.renew({claim.id: claim.fence}, until=until)) == ({claim.id} if held else set())
        one.lease = (None if releases else until) if held else one.lease

    @precondition(lambda self: self.model.deliveries)
    @rule(number=st.integers(0, 20))
    def replay(self, number: int) -> None:
        """Replay a delivery: an ended one anew, a waiting one at once, and not one that is leased."""
        one = list(self.model.deliveries.values())[number % len(self.model.deliveries)]
        now = self.clock.now() + MOMENT
        running = one.pending and one.lease is not None and one.lease > now
        outcome = "running" if running else "replayed"
        assert self.do(self.system.store.replays.replay([one.id], now=now)) == {one.id: outcome}
        if running:
            return
        for each in self.model.deliveries.values():
            if each.pending and each.lane == one.lane and each.seq < one.seq and each.lease is None:
                each.due = min(each.due or now, now)
        one.lease = one.lease if one.pending else None
        one.due = min(one.due or now, now) if one.pending else now
        one.status, one.attempts = "pending", 0

    @precondition(lambda self: any(one.pending for one in self.model.deliveries.values()))
    @rule(outcome=st.sampled_from(OUTCOMES))
    def deliver(self, outcome: Outcome) -> None:
        """Claim due deliveries, and store the result of one attempt."""
        before = len(self.attempting)
        self.claim_deliveries("log", 1)
        if len(self.attempting) > before:
            self.finish(before, outcome)

    @precondition(lambda self: self.attempting)
    @rule(outcome=st.sampled_from(OUTCOMES))
    def overtake_attempt(self, outcome: Outcome) -> None:
        """Wait past a lease: another worker claims the delivery, and then the first one continues."""
        self.clock.move(LEASE + MOMENT)
        for handler in ("log", "webhook"):
            self.claim_deliveries(handler, 100)
        self.finish(0, outcome)

    @precondition(lambda self: self._ended_before_a_leased_one())
    @rule()
    def replay_before_a_leased_one(self) -> None:
        """Replay a delivery while a later one of its lane is leased: it waits for that one."""
        self.replay(list(self.model.deliveries).index(self._ended_before_a_leased_one()[0]))
        self.claim_deliveries("log", 100)

    def _ended_before_a_leased_one(self) -> list[str]:
        """Return ended deliveries in lanes of which a later delivery is leased."""
        lanes = {
            one.lane: one.seq for one in map(self.model.deliveries.get, (each.id for each in self.attempting)) if one
        }
        return [
            one.id
            for one in self.model.deliveries.values()
            if not one.pending and one.handler == "log" and one.seq < lanes.get(one.lane, 0)
        ]

    @precondition(lambda self: self.attempting)
    @rule(outcome=st.sampled_from(OUTCOMES))
    def replay_after_finish(self, outcome: Outcome) -> None:
        """Replay a delivery that has just ended, and then store a late result of its former holder."""
        claim = self.attempting[0]
        self.finish(0, "dead")
        self.attempting.append(claim)
        self.replay(list(self.model.deliveries).index(claim.id))
        self.finish(len(self.attempting) - 1, outcome)
