"""Texts that are searched for: what a field has cut off, and what does not count."""

import pytest

from service.domain.search import MAX_TEXT, search_terms, search_text, without_cut_word

PROMPT = "word " * 500


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("a cat", "a cat"),
        (PROMPT[: MAX_TEXT - 1], PROMPT[: MAX_TEXT - 1]),
        (PROMPT[:MAX_TEXT], PROMPT[:MAX_TEXT]),  # ends with a blank: no word is cut
        (f"x{PROMPT}"[:MAX_TEXT], f"x{PROMPT}"[: MAX_TEXT - 4]),
        (f"x{PROMPT}"[: MAX_TEXT - 2] + "\U0001f600w", f"x{PROMPT}"[: MAX_TEXT - 2] + "\U0001f600"),
        ("猫" * MAX_TEXT, "猫" * (MAX_TEXT - 1)),
        ("x" * MAX_TEXT, "x" * MAX_TEXT),
        ("!" * MAX_TEXT, "!" * MAX_TEXT),
        ("metadata.note=" + "x" * MAX_TEXT, "metadata.note=" + "x" * MAX_TEXT),
    ],
)
def test_word_that_a_field_has_cut_is_left_out(text: str, rest: str) -> None:
    """A text of the length at which a browser cuts loses the word at its end, any other one nothing."""
    assert without_cut_word(text) == rest


@pytest.mark.parametrize(
    ("text", "searched"),
    [
        (" 0198c2 \n", "0198c2"),
        ("a cat\r\nat dawn\u3000here\u00a0now", "a cat  at dawn here now"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468 \U0001f469"),
        ("metadata.note=a  b", "metadata.note=a  b"),
        (" \t", ""),
    ],
)
def test_white_space_around_a_text_does_not_count(text: str, searched: str) -> None:
    """Line breaks, wide blanks and invisible characters are blanks, as between the words of a prompt."""
    assert search_text(text) == searched


def test_text_without_a_word_searches_for_nothing() -> None:
    """A name of a handler beside it is no text."""
    for text in ("-", "\U0001f600", "metadata.", None):
        assert not search_terms(text, "log").has_text
