"""Whether a submission has been sent, for a shutdown that must not start another one."""

from collections.abc import Callable
from dataclasses import dataclass

from service.domain.errors import NotSent


@dataclass(kw_only=True)
class SubmissionGuard:
    """Tracks whether a submission may have been sent, in `begun`: then the provider may charge for it.

    `allowed` returns whether it may be sent, `stopping` whether the process stops: its reply may come too late.
    """

    allowed: Callable[[], bool]
    stopping: Callable[[], bool]
    begun: bool = False

    def begin(self) -> None:
        """Note that it is sent from now on; raises ShuttingDown or NotSent if it must not be."""
        if self.stopping():
            raise ShuttingDown
        if not self.allowed():
            raise NotSent("its lease ran out before it was sent")
        self.begun = True


class ShuttingDown(Exception):
    """A submission was not sent because the process stops."""
