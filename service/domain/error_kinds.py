"""The kind of a task's error: who can do something about it. Only computes.

The kind follows from the provider's code, by one table for each provider; where the code says little, from the words of
the message. It is computed when an error is shown and is not stored: errors of earlier releases have one too, and the
previous release reads what this one writes.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from service.domain.task import Json, Status, Task, TaskError

ErrorKind = Literal["content", "input", "credit", "provider", "timeout", "unknown"]
"""`content`: a policy refuses it. `input`: the request has to change. `credit`: the provider's account is empty.
`provider`: the provider failed. `timeout`: the time was up. `unknown`: neither code nor message names one of these."""

Codes = Mapping[str, ErrorKind]


@dataclass(frozen=True, kw_only=True)
class CodeTable:
    """The codes of one provider, in lower case without separators.

    `certain` codes decide alone. After a `general` one the words of the message are read first: it says little.
    """

    certain: Codes
    general: Codes


HTTP_CERTAIN: Codes = {
    "401": "provider",
    "402": "credit",
    "408": "timeout",
    "413": "input",
    "415": "input",
    "451": "content",
}
HTTP_GENERAL: Codes = {
    **dict.fromkeys(("400", "406", "411", "414", "416", "422"), "input"),
    **dict.fromkeys(("403", "404", "405", "409", "410", "429", "500", "501", "502", "503"), "provider"),
    **dict.fromkeys(("504", "524"), "timeout"),
}

OWN: Codes = {
    "submissionunknown": "unknown",
    "inputsgone": "input",
    "deadlinepassed": "timeout",
    "modelunavailable": "provider",
}
"""Our own codes, and those of every provider."""

OWN_GENERAL: Codes = {"noresult": "provider", "failed": "unknown", "refused": "unknown"}
"""Our own codes in place of a missing one."""

VIDU_CERTAIN: Codes = {
    "creditinsufficient": "credit",
    **dict.fromkeys(("auditsubmitillegal", "taskpromptpolicyviolation", "creationpolicyviolation"), "content"),
    **dict.fromkeys(("fieldlacking", "fieldunwanted", "fieldinvalid", "fielditemcountoutofrange"), "input"),
    **dict.fromkeys(("imagedownloadfailure", "imageformatinvalid", "bodytoolarge"), "input"),
    **dict.fromkeys(("quotaexceeded", "toomanyrequests", "systemthrottling", "operationinprocess"), "provider"),
    **dict.fromkeys(("unauthorized", "tasknotfound"), "provider"),
}
VIDU_GENERAL: Codes = {
    "badrequest": "input",
    **dict.fromkeys(("forbidden", "conflict", "internalservicefailure"), "provider"),
}
VTRIX_CERTAIN: Codes = {str(code): "credit" for code in range(40201, 40209)}
VTRIX_GENERAL: Codes = {"002014001": "provider", "2014001": "provider"}

VIDU = CodeTable(certain=VIDU_CERTAIN, general=VIDU_GENERAL)
VTRIX = CodeTable(certain={**VIDU_CERTAIN, **VTRIX_CERTAIN}, general={**VIDU_GENERAL, **VTRIX_GENERAL})
"""Vtrix passes errors of Vidu on."""

TABLES: Mapping[str, CodeTable] = {"vidu": VIDU, "vtrix": VTRIX}

CREDIT_WORDS = re.compile(
    r"(?i)insufficient[\s_-]*(?:(?:account|user|api|plan|prepaid)[\s_-]*)?(?:credit|balance|fund|quota|point)"
    r"|\b(?:not[\s_-]*(?:have[\s_-]*)?enough|no|out[\s_-]*of|run[\s_-]*out[\s_-]*of|exhausted)[\s_-]*(?:credit|balance|funds)"
    r"|\black\w*[\s_-]*(?:of[\s_-]*)?(?:(?:sufficient|enough)[\s_-]*)?(?:credit|balance|funds)"
    r"|(?:credit|balance|funds)s?[\s_-]*(?:is|are|has|have)?[\s_-]*"
    r"(?:been[\s_-]*)?(?:insufficient|not[\s_-]*enough|exhausted|depleted|too[\s_-]*low|used[\s_-]*up|empty)"
    r"|payment[\s_-]*required|arrear|billing[\s_-]*(?:hard[\s_-]*limit|is[\s_-]*disabled|not[\s_-]*active)"
    r"|budget[\s_-]*(?:has[\s_-]*been[\s_-]*)?exceeded|exceeded[\s_-]*your[\s_-]*current[\s_-]*quota"
    r"|余额不足|积分不足|额度不足|预扣费额度失败|欠费"
)
"""Words that say that the account is empty."""

WORDS: tuple[tuple[ErrorKind, re.Pattern[str]], ...] = (
    ("credit", CREDIT_WORDS),
    (
        "content",
        re.compile(
            r"(?i)polic(?:y|ies)|moderat|nsfw|safety|sensitive|prohibited|violat|illegal|copyright"
            r"|inappropriate|content[\s_-]*filter|filtered|blocked|違規|违规|敏感|审核"
        ),
    ),
    (
        "input",
        re.compile(
            r"(?i)(?:image|video|url|file|media)s?\b.{0,40}(?:download|fetch|decode|format|unsupported|resolution|size)"
            r"|(?:download|fetch|decode)\w*\b.{0,40}(?:image|video|url|file|media)"
        ),
    ),
    ("timeout", re.compile(r"(?i)time[\s_-]*d?[\s_-]*out|deadline|expired|超时")),
    (
        "provider",
        re.compile(r"(?i)internal|unavailable|overload|capacity|busy|server|generation[\s_-]*failed|rate[\s_-]*limit"),
    ),
)
"""Words in codes and messages, the first match counts: what `image download timed out` needs is another address."""

FAULTY_REQUEST = re.compile(
    r"(?i)invalid|unsupported|not[\s_-]*supported|required|missing|must[\s_-]*be|too[\s_-]*(?:large|long|many)"
    r"|out[\s_-]*of[\s_-]*range|parameter|malformed|参数"
)
"""Words about a request, which count only if the code does not say that the provider failed."""

DEADLINE_PASSED = TaskError(
    code="deadline_passed",
    message="the deadline passed before the upstream reported an end; a later result still counts",
)
DEADLINE_PASSED_IN_QUEUE = TaskError(
    code="deadline_passed", message="the deadline passed while the task waited to be submitted"
)


def error_kind(provider: str, error: TaskError) -> ErrorKind:
    """Return the kind of an error of `provider`, whose name may be unknown."""
    table, code = TABLES.get(provider, VTRIX), _plain(error.code)
    for certain in (OWN, table.certain, HTTP_CERTAIN):
        if code in certain:
            return certain[code]
    general = next((known[code] for known in (table.general, HTTP_GENERAL, OWN_GENERAL) if code in known), None)
    texts = (error.message,) if general else (error.code, error.message)
    found = next((kind for text in texts if (kind := _kind_of_words(text))), None)
    if found in {None, "provider"} and general != "provider" and any(map(FAULTY_REQUEST.search, texts)):
        return "input"
    return found or general or "unknown"


def is_credit_refusal(provider: str, error: TaskError, sent: str) -> bool:
    """Return whether a refusal says that the account of `provider` has no credit.

    A message may repeat what the caller wrote: if `sent`, the texts of the request, has such words itself, only the
    code counts. Otherwise one client could stop the submissions of all.
    """
    if error_kind(provider, error) != "credit":
        return False
    by_code = error_kind(provider, TaskError(code=error.code, message="")) == "credit"
    return by_code or CREDIT_WORDS.search(sent) is None


def is_credit_code(code: str) -> bool:
    """Return whether the code of an error alone says that the account has no credit, whichever provider wrote it."""
    return error_kind("", TaskError(code=code, message="")) == "credit"


def task_error(task: Task) -> Json | None:
    """Return the error of `task` as the API shows it, None for none; an expired task has one of our own."""
    error = task.error
    if error is None and task.status is Status.EXPIRED:
        error = DEADLINE_PASSED if task.submission else DEADLINE_PASSED_IN_QUEUE
    return None if error is None else {"kind": error_kind(task.provider, error), **vars(error)}


def with_error_kind(data: Json) -> Json:
    """Return the stored view of a task with the kind of its error, which earlier releases did not store."""
    error = data.get("error")
    if not isinstance(error, dict) or "kind" in error:
        return data
    known = TaskError(code=str(error.get("code", "")), message=str(error.get("message", "")))
    return data | {"error": {"kind": error_kind("", known), **error}}


def request_texts(*values: object) -> str:
    """Return the texts of a request, in which `is_credit_refusal` searches."""
    return json.dumps(values, ensure_ascii=False, default=str)


def _plain(code: str) -> str:
    return "".join(char for char in code.lower() if char.isalnum())


def _kind_of_words(text: str) -> ErrorKind | None:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text[:2000])  # InsufficientBalance
    return next((kind for kind, words in WORDS if words.search(spaced)), None)
