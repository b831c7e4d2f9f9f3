"""What happened to a task in plain words, and what a person can do about it. Only computes."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.domain.error_kinds import ErrorKind, task_error
from service.domain.task import Status, Task


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What happened, what to do, and how bad it is: `bad` or `warn`. `code` and `message` are the provider's."""

    what: str
    todo: str
    tone: str = "bad"
    code: str = ""
    message: str = ""


BY_KIND: Mapping[ErrorKind, tuple[str, str]] = {
    "content": (
        "The provider refused the content: its policy does not allow this prompt or one of the inputs.",
        "Change the prompt or the inputs and submit it again with edits. The same request fails again.",
    ),
    "input": (
        "The provider could not use the request as it is: a parameter or an input file does not fit.",
        "Read the message below, correct the parameter, and submit it again with edits.",
    ),
    "credit": (
        "The account at the provider has no credit.",
        "Add credit at the provider, then submit the task again.",
    ),
    "provider": (
        "The provider failed. The request itself was accepted.",
        "Submit it again. If this repeats, ask the provider, with the id of the task there.",
    ),
    "timeout": (
        "The time for this task was up before the provider reported a result.",
        "Submit it again, or raise TASK_DEADLINE if tasks of this kind take longer.",
    ),
    "unknown": (
        "The task failed, and the provider's words do not say why.",
        "Read the message below. If it does not help, submit it again once.",
    ),
}
UNKNOWN_SUBMISSION = (
    "The reply to the submission was lost, and nothing showed later whether the provider has the task.",
    "Look at the provider's own list first. To submit it again may be charged a second time.",
)
IN_DOUBT = Advice(
    what="The reply to the submission was lost. The provider may be working on it, and charging for it.",
    todo="Wait: a callback or the provider's list settles it. Submit it again only if a second charge is acceptable.",
    tone="warn",
)
EXPIRED = Advice(
    what="The deadline of this task passed without a result.",
    todo="A late result is still accepted. Submit it again if it can no longer be useful.",
    tone="warn",
)
WITHOUT_RESULT = Advice(
    what="The provider reports the task as completed, and paid, but sent no result.",
    todo="Ask the provider for the result or the money, with the id of the task there. It can be submitted again.",
)


def advice(task: Task) -> Advice | None:
    """Return what to say about a task, None where nothing is wrong."""
    if task.erased_at is not None:
        return None
    error = task_error(task)
    if task.status is Status.IN_DOUBT:
        return IN_DOUBT
    if task.without_result:
        return WITHOUT_RESULT
    if task.status is Status.EXPIRED:
        return EXPIRED
    if not error:
        return None
    what, todo = BY_KIND[error["kind"]]
    if error["code"] == "submission_unknown":
        what, todo = UNKNOWN_SUBMISSION
    return Advice(what=what, todo=todo, code=str(error["code"]), message=str(error["message"]))
