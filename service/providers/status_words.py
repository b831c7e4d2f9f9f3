"""The status words of each provider, and what they mean here."""

import re
from collections.abc import Mapping

from service.domain.task import Status

_COMMON: Mapping[Status, str] = {
    Status.IN_PROGRESS: (
        "accepted active assigned canceling cancelling created dispatched doing executing finalizing generating"
        " init initialized initializing inprogress inqueue new notstart notstarted ongoing pending postprocessing"
        " preparing processing queued queueing queuing received rendering retrying running scheduled scheduling"
        " started starting submitted submitting throttled uploading wait waiting working"
    ),
    Status.COMPLETED: "complete completed done finish finished generated ready succeed succeeded success successful",
    Status.FAILED: (
        "aborted blocked contentfiltered contentmoderated contentviolation crashed error errored exception expired fail"
        " failed failure filtered invalid moderated nsfw policyviolation refused rejected requestmoderated sensitive"
        " terminated timedout timeout unsuccessful violation"
    ),
    Status.CANCELED: (
        "cancel canceled canceledbyuser cancelled cancelledbyuser deleted revoked stopped usercanceled usercancelled"
    ),
}


def _table(*documented: tuple[Status, str]) -> Mapping[str, Status]:
    """Return the meaning of each word: those of the trade, and the provider's documented ones."""
    words = {word: status for status, text in _COMMON.items() for word in text.split()}
    return words | {word: status for status, text in documented for word in text.split()}


VTRIX_WORDS = _table(
    (Status.IN_PROGRESS, "pending queued processing inprogress"),
    (Status.COMPLETED, "completed done"),
    (Status.FAILED, "failed"),
)
"""Vtrix's own words (`in_progress` without its separator), and those of the trade."""

VIDU_WORDS = _table(
    (Status.IN_PROGRESS, "created queueing processing"),
    (Status.COMPLETED, "success"),
    (Status.FAILED, "failed"),
)
"""Vidu's own words, and those of the trade."""

PLAIN_FAILURES = frozenset({"fail", "failed", "failure", "error", "errored", "unsuccessful"})
"""Words of a failure that give no reason by themselves."""

NEUTRAL_WORDS = frozenset({"", "0", "200", "false", "none", "null", "ok", "true", "undefined"})
"""Words that describe the response, not the task."""

_SEPARATORS = re.compile(r"[\s_.\-]+")
_PREFIX = re.compile(r"(?:task|job|generation)?(?:status|state)?")


def plain_word(text: str) -> str:
    """Return a word without upper case, separators and surrounding blanks: `In-Progress` becomes `inprogress`."""
    return _SEPARATORS.sub("", text).lower()


def meaning(text: str, words: Mapping[str, Status]) -> Status | None:
    """Return what a status word means; None for an unknown one. `TASK_STATUS_RUNNING` means `running`."""
    word = plain_word(text)
    if word in words:
        return words[word]
    prefix = _PREFIX.match(word)
    return words.get(word[prefix.end() :]) if prefix else None
