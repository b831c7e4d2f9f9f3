"""The manners of a provider's answers in a scenario: words, shapes, encodings, envelopes and late results."""

from collections.abc import Mapping
from random import Random

MANNERS: Mapping[str, tuple[object, ...]] = {
    "odd_ids": (0.5, 1.0),
    "odd_words": (0.5, 1.0),
    "odd_progress": (0.5,),
    "odd_reasons": (0.5,),
    "odd_json": (0.5, 1.0),
    "odd_encoding": (0.5, 1.0),
    "wrapped_answers": (0.5, 1.0),
    "bare_create_reply": (0.5,),
    "error_in_200_create": (0.2,),
    "error_status_create": (0.2,),
    "error_in_200_poll": (0.3,),
    "other_task_poll": (0.3,),
    "odd_results": (0.5, 1.0),
    "no_result": (0.3,),
    "result_delay": (2, 60, 400),
}
"""Each switch and its values."""

DELAYING = frozenset({"error_in_200_poll", "other_task_poll", "no_result", "result_delay"})
"""Those that make polls without a usable answer, or delay the end of a task."""


def manners_of(seed: int) -> dict[str, object]:
    """Return the manners of the scenario of `seed`: none in half of the scenarios."""
    random = Random(f"answers {seed}")  # noqa: S311 - a run needs a seed, not secrecy
    names = random.sample(sorted(MANNERS), random.choice((0, 0, 0, 1, 2, 5)))
    return {name: random.choice(MANNERS[name]) for name in names}
