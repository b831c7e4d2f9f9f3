"""The manners of a provider's callbacks in a scenario: address, encoding, envelope, size, and probes before them."""

from collections.abc import Mapping
from random import Random

CALLBACK_MANNERS: Mapping[str, tuple[object, ...]] = {
    "slash_callbacks": (0.5, 1.0),
    "encoded_callbacks": (0.5, 1.0),
    "probe_callbacks": (0.5,),
    "gzip_callbacks": (0.5, 1.0),
    "bom_callbacks": (0.5,),
    "form_callbacks": (0.5, 1.0),
    "wrapped_callbacks": (0.5, 1.0),
    "oversized_callbacks": (0.3,),
}
"""Each switch and its values."""


def callback_manners_of(seed: int) -> dict[str, object]:
    """Return the manners of the scenario of `seed`: none in half of the scenarios."""
    random = Random(f"callbacks {seed}")  # noqa: S311 - a run needs a seed, not secrecy
    names = random.sample(sorted(CALLBACK_MANNERS), random.choice((0, 0, 0, 1, 2, 4)))
    return {name: random.choice(CALLBACK_MANNERS[name]) for name in names}
