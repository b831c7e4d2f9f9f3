"""The words by which tasks are found: of the prompt, of metadata, and names of handlers. Only computes.

A word is stored as a number of 64 bits; two words with the same number are distinguished by the task itself.
"""

import json
import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice

from service.domain.task import Json

MAX_WORDS = 96
"""Different words of a prompt by which its task is found: the first ones."""

MAX_ENTRIES = 24
"""Entries of metadata by which a task is found: the first ones."""

MAX_LENGTH = 200
"""Characters of one word or entry that count."""

MAX_LOOKED_UP = 12
"""Words of a search that are looked up, the longest ones: the tasks that have these are compared with all of them."""

MAX_TEXT = 2000
"""Characters of a text that is searched for: more than the first MAX_WORDS words of a prompt usually have."""

METADATA = "metadata."
_WITHOUT_SPACES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_WITHOUT_SPACES}]|[^\W_{_WITHOUT_SPACES}]+")
"""A word; in scripts that write no spaces each character is one."""


@dataclass(frozen=True, kw_only=True)
class SearchTerms:
    """What a search asks for: words of the prompt, an entry `key=value` or a key of metadata, and a handler."""

    words: frozenset[str] = frozenset()
    entry: str | None = None
    key: str | None = None
    handler: str | None = None

    @property
    def has_text(self) -> bool:
        """Whether there is anything but a handler to search for."""
        return bool(self.words or self.entry or self.key)

    @property
    def looks_up_all(self) -> bool:
        """Whether `numbers` has all words."""
        return len(self.words) <= MAX_LOOKED_UP

    def numbers(self) -> list[int]:
        """Return the numbers of the words to look up, which a task must have: of many words those of the longest."""
        looked_up = sorted(self.words, key=lambda word: (-len(word), word))[:MAX_LOOKED_UP]
        found = {number("w", word) for word in looked_up}
        for kind, text in (("m", self.entry), ("k", self.key), ("h", self.handler)):
            found |= {number(kind, text)} if text else set()
        return sorted(found)

    def matches(self, params: Json, metadata: Json) -> bool:
        """Return whether a task has the words and the entry: their numbers may be those of others."""
        if self.words and not self.words <= set(words_of(prompt_of(params))):
            return False
        entries = dict(entries_of(metadata)) if self.entry or self.key else {}
        if self.key and self.key not in entries:
            return False
        return not self.entry or self.entry in {f"{key}={value}"[:MAX_LENGTH] for key, value in entries.items()}


NO_TERMS = SearchTerms()


def search_terms(text: str | None, handler: str | None) -> SearchTerms:
    """Return what the search `text` asks for: `metadata.key`, `metadata.key=value`, or words of the prompt."""
    if text is None:
        return SearchTerms(handler=handler)
    if text.startswith(METADATA):
        key, equals, value = text.removeprefix(METADATA).partition("=")
        if equals:
            return SearchTerms(entry=f"{key}={value}"[:MAX_LENGTH], handler=handler)
        return SearchTerms(key=key[:MAX_LENGTH], handler=handler)
    return SearchTerms(words=frozenset(words_of(text)), handler=handler)


def search_text(text: str) -> str:
    """Return a text as it is searched for: white space and invisible characters are blanks, and none is around it."""
    return "".join(" " if each.isspace() or unicodedata.category(each) == "Cf" else each for each in text).strip()


def without_cut_word(text: str) -> str:
    """Return a text that a field has cut off at MAX_TEXT without the word at its end, which may be part of one.

    Browsers count the units of UTF-16. The only word stays, and so does an entry of metadata.
    """
    units = len(text) + sum(each > "\uffff" for each in text)
    ends = [match.start() for match in _WORD.finditer(text) if match.end() == len(text)]
    if units < MAX_TEXT or text.startswith(METADATA) or not ends:
        return text
    return text[: ends[0]] or text


def task_numbers(params: Json, metadata: Json, handlers: Collection[str]) -> set[int]:
    """Return the numbers of all words of a task."""
    found = {number("w", word) for word in words_of(prompt_of(params))}
    for key, value in entries_of(metadata):
        found |= {number("k", key), number("m", f"{key}={value}"[:MAX_LENGTH])}
    return found | {number("h", handler) for handler in handlers}


def prompt_of(params: Json) -> str:
    """Return the prompt in the parameters of a task."""
    prompt = params.get("prompt")
    return prompt if isinstance(prompt, str) else ""


def words_of(text: str) -> list[str]:
    """Return the first MAX_WORDS different words of a text, without regard to case and width."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    words = dict.fromkeys(match.group()[:MAX_LENGTH] for match in _WORD.finditer(plain))
    return list(islice(words, MAX_WORDS))


def entries_of(metadata: Json) -> list[tuple[str, str]]:
    """Return the first MAX_ENTRIES single values in metadata with their keys, in inner objects `outer.inner`."""
    return list(islice(_entries(metadata, ""), MAX_ENTRIES))


def _entries(value: Json, path: str) -> Iterator[tuple[str, str]]:
    for name, inner in value.items():
        key = f"{path}{name}"[:MAX_LENGTH]
        if isinstance(inner, dict):
            yield from _entries(inner, f"{key}.")
        elif not isinstance(inner, list):
            yield key, inner if isinstance(inner, str) else json.dumps(inner)


def number(kind: str, text: str) -> int:
    """Return the number of a word: of the prompt (`w`), a key (`k`) or an entry (`m`) of metadata, a handler (`h`)."""
    digest = blake2b(f"{kind}:{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
