"""A finished run, as the checks read it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from service.domain.errors import BadToken
from tests.simulation.facts import Facts
from tests.simulation.history import History
from tests.simulation.key_changes import TOKENS
from tests.simulation.run import Simulation
from tests.simulation.scenario import Scenario


@dataclass(kw_only=True)
class FinishedRun:
    """Everything that a check may read."""

    simulation: Simulation
    facts: Facts

    @property
    def scenario(self) -> Scenario:
        """Return the scenario of the run."""
        return self.simulation.scenario

    @property
    def history(self) -> History:
        """Return the observed history."""
        return self.simulation.history

    def bills(self) -> Iterator[tuple[str, int, Any]]:
        """Yield task id, submission and the provider's task for each bill."""
        known = self.simulation.sandbox._state.tasks
        for bill in self.simulation.sandbox.bills:
            try:
                claim = TOKENS.read_payload_token(bill.payload or "")
            except BadToken:
                yield "", 0, known[bill.upstream_id]
            else:
                yield claim.task_id, claim.submission, known[bill.upstream_id]
