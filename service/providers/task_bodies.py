"""Reads a task's body: a provider's answer becomes a fact. What the providers differ in is a `TaskShape`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from service.domain.errors import ProviderUnavailable
from service.domain.fast_copy import replace_fields
from service.domain.result_wait import RESULT_LEFT_OUT
from service.domain.task import Fact, Status, TaskError, Usage
from service.providers.answer import DEFAULT_READING, Answer, Names, Reading
from service.providers.fields import amount, correlation, fraction, is_faulty_amount, money, number
from service.providers.reasons import reason
from service.providers.results import ResultReader
from service.providers.status_words import PLAIN_FAILURES, meaning, plain_word

MAX_WORD = 40
_REQUEST_CODE = re.compile("40[1348]|429|5[0-9]{2}")
NO_REASON = "the upstream gave no reason"
CANCELED_CODES = frozenset({"usercancelled", "usercanceled"})
"""Error codes of a task that the user canceled, although its status is a failure."""


@dataclass(frozen=True, kw_only=True)
class TaskShape:
    """What the bodies of one provider are like: field names, status words, the documented results.

    `in_dollars` is true if the provider reports the cost in `usage`; otherwise it reports `credits`.
    """

    names: Names
    words: Mapping[str, Status]
    results: ResultReader
    in_dollars: bool

    def answer(self, body: object, reading: Reading = DEFAULT_READING) -> Answer:
        """Return the fields of a parsed body."""
        return Answer(body, self.names, reading)

    def read(self, body: object, reading: Reading = DEFAULT_READING) -> Fact:
        """Return the fact in a parsed body; raises ProviderUnavailable for one that does not report on a task.

        A body without a status reports nothing, and neither does one without an id that reports no end. An unknown
        status word is an unfinished task; the fact repeats the word.
        """
        if not isinstance(body, dict | list):
            raise ProviderUnavailable("the provider's response is not a JSON object")
        return self.read_answer(self.answer(body, reading))

    def read_answer(self, answer: Answer, *, named: bool = False) -> Fact:
        """Return the fact in an answer; see `read`. With `named` the answer's task is known, also without an id."""
        if not answer.word:
            raise ProviderUnavailable(f"the provider's response has no status{_because(answer)}")
        fact = self.fact(answer)
        if fact.upstream_id is None and not fact.settles and not named:
            raise ProviderUnavailable("the provider's response names no task")
        if self.reports_error_alone(answer):
            raise ProviderUnavailable(f"the provider's response names no task and reports an error{_because(answer)}")
        return fact

    def reports_error_alone(self, answer: Answer) -> bool:
        """Return whether an answer may report that a request failed, and not that its task did.

        It names no task, neither by an id nor by a payload, and its word is not `failed`, which the providers document,
        or its code is an HTTP status that is about a request.
        """
        if not answer.word or answer.id or correlation(answer.get("payload")):
            return False
        failed = meaning(answer.word, self.words) in {Status.FAILED, Status.CANCELED}
        return failed and (plain_word(answer.word) != Status.FAILED or bool(_REQUEST_CODE.fullmatch(reason(answer)[0])))

    def fact(self, answer: Answer) -> Fact:
        """Return the fact in an answer; one without a status reports an unfinished task."""
        status = meaning(answer.word, self.words) if answer.word else Status.IN_PROGRESS
        error = self._error(answer) if status is Status.FAILED else None
        if error and plain_word(error.code) in CANCELED_CODES:
            status, error = Status.CANCELED, None
        fact = Fact(
            status=status or Status.IN_PROGRESS,
            upstream_id=answer.id,
            progress=_progress(answer),
            error=error,
            usage=self._usage(answer),
            credits=None if self.in_dollars else amount(answer.get("credits")),
            faulty_cost=is_faulty_amount(self._cost(answer)),
            word=None if status else answer.text(answer.word, MAX_WORD),
            correlation=correlation(answer.get("payload")),
        )
        return self._with_results(fact, answer) if status is Status.COMPLETED else fact

    def _with_results(self, fact: Fact, answer: Answer) -> Fact:
        """Return a completed fact with its results, or without any, with the provider's reason as its error."""
        results = self.results.read(answer)
        left_out = answer.text("; ".join(results.reasons))
        if results.items:
            warnings = (RESULT_LEFT_OUT + left_out,) if left_out else ()
            return replace_fields(fact, output=tuple(results.items), warnings=warnings)
        code, message = reason(answer)
        return replace_fields(fact, error=TaskError(code=code or "no_result", message=message or left_out or NO_REASON))

    def _error(self, answer: Answer) -> TaskError:
        code, message = reason(answer)
        word = plain_word(answer.word)
        if not message and not code and word not in PLAIN_FAILURES:
            code = answer.text(answer.word, MAX_WORD)
            message = f"the upstream reports the status {code}"
        message = message or answer.text("; ".join(self.results.read(answer).reasons))
        return TaskError(code=code or "failed", message=message or _text_of_code(answer, code) or NO_REASON)

    def _cost(self, answer: Answer) -> object:
        """Return the cost as the body gives it, in dollars or credits; None for none."""
        if not self.in_dollars:
            return answer.get("credits")
        usage = answer.get("usage")
        return usage.get("cost") if isinstance(usage, dict) else None

    def _usage(self, answer: Answer) -> Usage | None:
        if not self.in_dollars:
            return None if number(answer.get("credits")) is None else Usage()
        usage = answer.get("usage")
        if not isinstance(usage, dict):
            return None
        cost, discount = money(usage.get("cost")), number(usage.get("discount"))
        if cost is None and discount is None:
            return None
        return Usage(cost=cost, discount=None if discount is None else float(discount))


def _text_of_code(answer: Answer, code: str) -> str:
    return "" if code.isdigit() else answer.text(code)


def _because(answer: Answer) -> str:
    code, message = reason(answer)
    text = ": ".join(part for part in (code, message) if part)
    return f": {text}" if text else ""


def _progress(answer: Answer) -> float | None:
    for name, percent in (("progress", False), ("percent", True), ("percentage", True), ("progresspercent", True)):
        value = answer.get(name)
        if value is not None and (found := fraction(value, percent=percent)) is not None:
            return found
    return None
