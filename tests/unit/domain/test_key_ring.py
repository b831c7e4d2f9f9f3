"""The signing keys of a process: all verify, and the newest that every live process knows signs."""

import pytest

from service.domain.errors import BadSetting
from service.domain.key_ring import KeyRing, fingerprint

NEW, MIDDLE, OLD = ("n" * 40, "m" * 40, "o" * 40)


def known(*keys: str) -> set[str]:
    """Return the fingerprints of a process with these keys."""
    return {fingerprint(key) for key in keys}


def test_newest_signs_at_first() -> None:
    """Without a decision the newest key signs."""
    key_ring = KeyRing([NEW, OLD])
    assert (key_ring.signing, key_ring.signing_fingerprint, key_ring.signing_index) == (NEW, fingerprint(NEW), 0)
    assert key_ring.newest_common([]) == fingerprint(NEW)


@pytest.mark.parametrize(
    ("others", "common"),
    [
        ([known(NEW, OLD), known(OLD)], OLD),
        ([known(MIDDLE, OLD), known(OLD, MIDDLE)], MIDDLE),
        ([known(OLD, NEW)], NEW),
        ([known(NEW), known(MIDDLE)], None),
        ([set()], None),
    ],
)
def test_newest_common_key(others: list[set[str]], common: str | None) -> None:
    """The key to sign with is the newest own one that every other process knows, in whichever order it has them."""
    key_ring = KeyRing([NEW, MIDDLE, OLD])
    assert key_ring.newest_common(others) == (common and fingerprint(common))


def test_chosen_key_signs() -> None:
    """The key of the given fingerprint signs; a foreign fingerprint is a programming error."""
    key_ring = KeyRing([NEW, OLD])
    key_ring.sign_with(fingerprint(OLD))
    assert (key_ring.signing, key_ring.signing_index) == (OLD, 1)
    with pytest.raises(ValueError, match="not in tuple"):
        key_ring.sign_with(fingerprint(MIDDLE))


@pytest.mark.parametrize("keys", [[], [""], [NEW, ""]])
def test_keys_are_required(keys: list[str]) -> None:
    """Without a key, and with an empty one, there is no key ring."""
    with pytest.raises(BadSetting, match="SECRET_KEYS"):
        KeyRing(keys)


def test_keys_stay_out_of_texts() -> None:
    """Neither the repr nor a fingerprint contains a part of a key; fingerprints are stable, processes compare them."""
    key_ring = KeyRing([NEW, OLD])
    assert "nnn" not in repr(key_ring)
    assert key_ring.fingerprints == (fingerprint(NEW), "d0c7a88822d28ae6b0942199aea753f4")
