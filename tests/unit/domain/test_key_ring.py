"""The signing keys of a process: all verify, and the newest that every live process knows signs."""

import pytest

from service.domain.errors import BadSetting
from service.domain.key_ring import KeyRing, fingerprint

NEW, MIDDLE, OLD = ("n" * 40, "m" * 40, "o" * 40)


def known(*keys: str) -> set[str]:
    """Return the fingerprints of a process with these keys."""
    return {fingerprint(key) for key in keys}


def test_newest_signs_without_others() -> None:
    """A process alone signs with its newest key at once."""
    key_ring = KeyRing([NEW, OLD])
    assert key_ring.signing == NEW
    assert key_ring.select([])
    assert (key_ring.signing, key_ring.signing_fingerprint, key_ring.signing_index) == (NEW, fingerprint(NEW), 0)


def test_newest_common_key_signs() -> None:
    """A key signs once every live process knows it, and stops when a process comes that does not."""
    key_ring = KeyRing([NEW, MIDDLE, OLD])
    assert key_ring.select([known(NEW, OLD), known(OLD)])
    assert key_ring.signing == OLD
    assert key_ring.select([known(MIDDLE, OLD), known(OLD, MIDDLE)])
    assert key_ring.signing == MIDDLE
    assert key_ring.select([known(OLD, NEW)])
    assert key_ring.signing == NEW


def test_newest_signs_without_a_common_key() -> None:
    """Without a common key no choice is valid everywhere; the newest signs, and `select` returns False."""
    key_ring = KeyRing([NEW, OLD])
    assert key_ring.select([known(OLD)])
    assert not key_ring.select([known(MIDDLE)])
    assert key_ring.signing == NEW


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
