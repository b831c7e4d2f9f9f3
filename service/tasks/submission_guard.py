"""Whether a submission has left: what has may be billed, and only what has not is sent again."""

from collections.abc import Callable
from dataclasses import dataclass

from service.domain.errors import NotSent


@dataclass(kw_only=True)
class SubmissionGuard:
    """Whether a submission may have left by now.

    `allowed` says whether it may leave, `stopping` whether the process stops: its reply might come too late.
    """

    allowed: Callable[[], bool]
    stopping: Callable[[], bool]
    begun: bool = False

    def begin(self) -> None:
        """Note that it is being sent from now on; raises TooLate or NeverLeft when it may not."""
        if self.stopping():
            raise ShuttingDown
        if not self.allowed():
            raise NotSent("its lease ran out before it was sent")
        self.begun = True


class ShuttingDown(Exception):
    """A submission that had not left when the process began to stop."""
