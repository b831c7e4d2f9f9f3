"""Words that the glossary retired do not return: each concept keeps one standard term."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("service", "handlers", "tests")
FILES = (
    *sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if path != Path(__file__)),
    *(ROOT / name for name in ("README.md", "service/README.md", "handlers/README.md", "tests/README.md")),
)

EVERYWHERE = {
    r"anothers|another's (?:provider |upstream )?ids?": "conflicting provider id",
    r"asked to stop": "shutdown requested",
    r"at hand": "buffered",
    r"barren": "bytes without progress",
    r"believ(?:e|es|ed|ing)": "accepted unconfirmed",
    r"bells?|crew|sneaks?": "name the mechanism",
    r"blam(?:e|es|ed|ing)": "responsible party",
    r"books?": "bookkeeping, records",
    r"born|births?|unborn": "claimed at insert, reservation",
    r"br(?:oke|oken|eaks?|eaking) off": "failed unexpectedly",
    r"breath(?:s|er|ers)?": "retry pause, minimum poll gap, check interval",
    r"by force": "forced exit",
    r"catch(?:es)? up|caught up": "process the inbox",
    r"clock watch|lag watch": "clock-jump detector, event-loop monitor",
    r"consequences?": "event writes",
    r"crowd(?:s|ed)?": "burst",
    r"deaf": "unresponsive, ignores cancellation",
    r"desk": "task service",
    r"(?<!fault.)dice": "seeded faults",
    r"doors?": "single writer, endpoint",
    r"film(?:s|ed)?": "video",
    r"flaws?": "invalid field, request error",
    r"forg(?:et|ets|etting|ot|otten)": "prune, delete, retention",
    r"giv(?:e|es|en|ing) back|gave back": "release, return to the OS",
    r"giv(?:e|es|en|ing) up|gave up": "abandoned, timed out",
    r"goodbyes?": "cancellation grace period",
    r"guests?": "sample handlers",
    r"hear(?:s|d|ing)?": "receive; callback statistics",
    r"in (?:\w+ )?hands?": "in flight, running, leased",
    r"judg(?:e|es|ed|ing)": "classify",
    r"last word": "grace for the final commit",
    r"learn(?:s|ed|ing|t)?|stud(?:y|ies|ied)|teach(?:es)?|taught": "estimate, update the estimates",
    r"look(?:s|ed|ing)? after": "keep leases alive",
    r"look(?:s|ed|ing)? again": "retry",
    r"look(?:s|ed|ing)? at once": "poll immediately",
    r"mend(?:s|ed|ing)?": "fix, hint",
    r"nameless": "without a provider id",
    r"no notice": "ignores cancellation",
    r"one trip": "SQLite thread",
    r"orphan(?:s|ed)?": "deliveries without a handler",
    r"pac(?:e|ed|es|ing)": "rate limit",
    r"patien(?:ce|t|tly)": "timeout, maximum wait",
    r"put(?:s|ting)?(?: \w+)? off": "defer, skip",
    r"questions?(?! marks?)": "poll",
    r"recall(?:s|ed)?": "repair after a clock jump",
    r"relax(?:es|ed)?": "reset",
    r"(?<!key[\s_])ring(?:s|ing)?(?! buffer)|rung|rang": "wake, schedule, trigger, notify",
    r"rooms?": "capacity, free capacity",
    r"said": "message, reason",
    r"second bills?": "duplicate charge",
    r"set(?:s|ting)? aside": "quarantine",
    r"sharers?": "share owner",
    r"she(?:lf|lves)": "file",
    r"slow(?:s|ed)? down": "back off",
    r"spoilt": "corrupted",
    r"spoken|after a word": "has unread callbacks",
    r"stillborn": "failed on create",
    r"stor(?:y|ies)": "output",
    r"strange(?:r|rs)?": "conflicting, unknown",
    r"studio": "media store",
    r"suits?": "tune, fit",
    r"tell(?:s|ing)?|told": "logged, reported, returned",
    r"unfit": "failure reason",
    r"unforeseen": "unexpected",
    r"unwell": "unavailable",
    r"never left|may have left|has left|have left|had left": "not sent, sent",
    r"vouch(?:es|ed)?": "verify the token",
    r"without (?:a|an|the) \w+(?:'s)? words?": "without explicit approval",
    r"worlds?": "state",
    r"worn": "lease half elapsed",
}
"""Retired phrase to its standard words; for prose, and for names split into their words."""

PROSE = {
    r"a look|each look|every look|last look|next look|one look|two looks": "check",
    r"ask(?:s|ed|ing)? about|asks the upstream": "poll",
    r"clocks? (?:is |was |that was )?put (?:back|on)|put(?:s|ting)? (?:the|a) clock": "moved backwards, forward",
    r"free places?|place is free|places? (?:of|for) (?:a|the|each|its) handlers?|handler'?s? places?": "slot",
    r"finds? a place": "leases a slot",
    r"(?<!e-)mail": "callbacks",
    r"of ours|of theirs": "own, local; the handler's, the provider's",
    r"orders? to the (?:upstream|provider)": "provider request",
    r"the plan(?! of)": "poll planner",
    r"rests|resting|rested|at rest": "idle",
    r"(?<!all.)rounds?(?! trips?| robin| up| down| to | half)": "job, worker, single pass",
    r"stood still|stands? still": "blocked",
    r"its turn|their turn|out of turn": "acquire the limiter",
}
"""The same where only a phrase is retired, in docstrings, comments, messages and documents."""

NAMES = {
    r"add surely": "with retry",
    r"among": "in_list",
    r"ask(?:s|ed|ing)?": "poll",
    r"hands?(?! over)": "lease pool, running delivery",
    r"lag(?! seconds)": "event-loop monitor",
    r"leaving": "not sent",
    r"library": "task queries",
    r"look(?:s|ed)?(?! up)": "check",
    r"(?<!at.)most|longest|largest": "max",
    r"(?<!at.)least|shortest|smallest": "min",
    r"ours|theirs": "own conclusion, local; handler's, provider's",
    r"places": "slots",
    r"(?<!query.)plans?": "poll planner",
    r"resting": "idle",
    r"rounds?(?! trips?)": "job, worker, single pass",
    r"says?": "message, reason",
    r"trials?": "attempt context",
    r"under way": "running",
    r"why not ready": "not-ready reason",
}
"""The same for names alone, split into their words: the words themselves are plain English."""

EXACT = {
    "Claim": "TokenClaims, DeliveryClaim",
    "Desk": "TaskService",
    "Entry": "TaskUpdate",
    "Frame": "RequestContextMiddleware",
    "Ledger": "UnitOfWorkFactory, BillingLog",
    "LedgerTransaction": "UnitOfWork",
    "Line": "ProviderHttp",
    "Memory": "Retention, RunTimeStats",
    "Reconcile": "Poller",
    "Verdict": "AttemptOutcome",
    "Words": "ErrorReader",
    "why": "error, reason (log field: error)",
}
"""Whole names that are retired, while their words are not."""

STORED = frozenset(
    {
        "broken off",  # outcome of a poll
        "cancel_unwell",  # label of a metric
        "create_never_left",  # label of a metric
        "fetch_unwell",  # label of a metric
        "never_left",  # outcome of a request, and label of a metric
        "ours",  # responsible party of a dead letter
        "unwell",  # outcome of a request, and label of a metric
    }
)
"""String literals that are stored or compared: they keep their words."""

OTHERS = frozenset({"round", "tell", "PLAN"})
"""Names of the standard library and of SQL that are retired words elsewhere."""

ALLOWED = {
    "tests/support/brokers.py": "guest",  # the user that RabbitMQ has from the start
    "tests/support/pgbouncer.py": "server_round_robin",  # a setting of PgBouncer
    "service/deliveries/handler_loader.py": "why",  # `boomerang handlers --json` prints this field
    "tests/unit/deliveries/test_handler_loader.py": "why",  # the same field
    "tests/unit/deliveries/test_handler_modules.py": "why",  # the same field
    "tests/simulation/callback_bursts.py": "crowd",  # key of a random draw: another one changes the run of every seed
    "tests/storage/test_grown_tables.py": "plan_cache_mode force_generic_plan",  # a setting of PostgreSQL, its value
    "tests/simulation/handlers.py": "book",  # the same for the name of a handler
}
"""The words that one module may use."""

Table = dict[str, str]
Finding = tuple[int, str, str]

TOKEN = re.compile(
    r"""(?P<text>\#[^\n]*(?:\n[ \t]*\#[^\n]*)*|[a-zA-Z]{0,2}(?:\'{3}(?s:.*?)\'{3}|"{3}(?s:.*?)"{3}"""
    r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))|(?P<name>[A-Za-z_]\w*)"""
)
BLANK = re.compile(r"[\s#_]+")
NAME = re.compile(r"[A-Za-z_]\w+")
PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def compiled(row: str) -> re.Pattern[str]:
    """Return the expression of a row, or of rows; a blank matches the white space and "#" of a line break, too."""
    return re.compile(rf"(?<![a-z])(?:{row})(?![a-z])".replace(" ", BLANK.pattern))


FOR_PROSE, FOR_NAMES = EVERYWHERE | PROSE, EVERYWHERE | NAMES
IN_PROSE, IN_NAMES = compiled("|".join(FOR_PROSE)), compiled("|".join(FOR_NAMES))


def standard(word: str, table: Table) -> str:
    """Return the standard words of a retired one: those of the row of the table that finds it."""
    return next(words for row, words in table.items() if compiled(row).fullmatch(word))


@cache
def retired_in_name(name: str) -> tuple[str, str] | None:
    """Return a name with a retired word in its snake case or camel case parts and the standard word, or None."""
    if name in EXACT:
        return name, EXACT[name]
    found = IN_NAMES.search(" ".join(PART.findall(name)).lower())
    return (name, standard(found.group(), FOR_NAMES)) if found and name not in OTHERS else None


def in_text(text: str, start: int) -> Iterator[Finding]:
    """Yield position, retired word and standard word of each finding in prose that begins at `start`."""
    lower = text.lower()
    for match in IN_PROSE.finditer(lower):
        yield start + match.start(), BLANK.sub(" ", match.group()), standard(match.group(), FOR_PROSE)
    for match in NAME.finditer(text):
        name = match.group()
        if ("_" in name or not name[1:].islower()) and (found := retired_in_name(name)):
            yield start + match.start(), *found


def in_code(text: str) -> Iterator[Finding]:
    """Yield the findings of a module: in its names, comments and strings, but for the stored ones."""
    for token in TOKEN.finditer(text):
        if token["name"]:
            if found := retired_in_name(token["name"]):
                yield token.start(), *found
        elif token["text"].strip("'\"") not in STORED:
            yield from in_text(token["text"], token.start())


def retired(file: Path) -> list[str]:
    """Return "file:line: 'word' → standard word" for each retired word of a module or a document."""
    text = file.read_text("utf-8")
    found = in_code(text) if file.suffix == ".py" else in_text(text, 0)
    name = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
    allowed = ALLOWED.get(str(name), "").split()
    lines = {(text.count("\n", 0, at) + 1, word, words) for at, word, words in found if word not in allowed}
    return [f"{name}:{line}: {word!r} → {words}" for line, word, words in sorted(lines)]


def test_no_retired_word_returns() -> None:
    """Each concept has one word: the glossary's."""
    found = [line for file in FILES for line in retired(file)]
    assert not found, f"{len(found)} retired words:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("log.warning('leases not looked after')", "looked after"),
        ("x = 1  # is put\n# off until tomorrow", "put off"),
        ('"""What is in\n    hand."""', "in hand"),
        ("def tell_what_is_left(): ...", "tell_what_is_left"),
        ("GivenUp = 1", "GivenUp"),
        ("class Desk: ...", "Desk"),
        ('"""Uses `one_trip` of MOST_ROWS."""', "MOST_ROWS"),
        ("f'{told}'", "told"),
        ("log.info('x', why=error)", "why"),
    ],
)
def test_retired_word_is_found(code: str, word: str) -> None:
    """In names, comments, strings and docstrings, over the end of a line too."""
    assert word in {found for _, found, _ in in_code(code)}


@pytest.mark.parametrize(
    "code",
    [
        "round(seconds)  # a round trip, rounds up to 5 s, all handlers",
        "outcome = 'unwell'",
        "x = 'broken off'",
        "file.tell()",
        '"""Return the query plan, at most 5 rows; at least one. Looks up the entry. Ring buffer, standard library."""',
        "lag_seconds = place = order = entry = page = memory = frame = 0",
        "for word in words: handle(word, question_mark)",
        "hand_over(line)",
    ],
)
def test_plain_use_is_allowed(code: str) -> None:
    """A word with another meaning, a stored word and a name of the standard library are no findings."""
    assert list(in_code(code)) == []


def test_finding_names_file_line_and_standard_words(tmp_path: Path) -> None:
    """A failure says where the word is and which one replaces it."""
    file = tmp_path / "log.py"
    file.write_text("import os\nx = 'nobody is told'\n")
    assert retired(file) == [f"{file}:2: 'told' → logged, reported, returned"]
