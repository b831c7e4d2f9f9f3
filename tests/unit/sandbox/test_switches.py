"""The switches of the sandbox: accepted values, refused values and JSON."""

import json
from typing import Any

import pytest

from service.sandbox import First, SwitchError, Switches
from service.sandbox.seeded_faults import SeededFaults
from service.sandbox.switches import switch_table
from tests.unit.sandbox.test_bench import seeded


def test_default_is_a_provider_without_faults() -> None:
    """Every chance is 0 by default."""
    chances = [switch for switch in switch_table().values() if switch.kind not in {str, bool, int, float}]
    assert {switch.default for switch in chances if "tuple" not in str(switch.kind)} == {0.0}


def test_each_switch_has_a_description() -> None:
    """Every switch has a group and a description for the help."""
    assert all(switch.about.group and switch.about.text.endswith(".") for switch in switch_table().values())


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("lose_callbacks", 0.3, 0.3),
        ("lose_callbacks", "0.3", 0.3),
        ("lose_callbacks", True, 1.0),
        ("lose_callbacks", "first 3", First(3)),
        ("lose_callbacks", First(3), First(3)),
        ("run_time", 2, 2.0),
        ("run_time", "500ms", 0.5),
        ("run_time", "1s..3s", (1.0, 3.0)),
        ("run_time", [1, 3], (1.0, 3.0)),
        ("url_life", "24h", 86400.0),
        ("callback_retries", "2", 2),
        ("tiny_videos", True, True),
        ("key", "secret", "secret"),
    ],
)
def test_value_is_parsed_to_one_form(name: str, value: object, read: object) -> None:
    """The constructor, the command line and JSON give the same value."""
    changes: dict[str, Any] = {name: value}
    assert getattr(Switches(**changes), name) == getattr(Switches().with_changes(changes), name) == read


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lose_callbacks", 1.5),
        ("lose_callbacks", -0.1),
        ("lose_callbacks", "often"),
        ("lose_callbacks", None),
        ("lose_callbacks", float("nan")),
        ("run_time", "3s..1s"),
        ("run_time", [1, 2, 3]),
        ("run_time", "soon"),
        ("url_life", -1),
        ("url_life", float("inf")),
        ("callback_retries", 1.5),
        ("callback_retries", float("nan")),
        ("callback_retries", "inf"),
        ("callback_retries", 10**400),
        ("url_life", 10**400),
        ("url_life", "9" * 400 + "s"),
        ("lose_callbacks", "first " + "9" * 5000),
        ("tiny_videos", "yes"),
        ("key", 7),
    ],
)
def test_invalid_value_is_refused_with_the_name(name: str, value: object) -> None:
    """A value out of range raises an error that names the switch."""
    with pytest.raises(SwitchError, match=name):
        Switches().with_changes({name: value})


def test_unknown_switch_is_refused() -> None:
    """A misspelt switch is an error."""
    with pytest.raises(SwitchError, match="lose_calbacks"):
        Switches().with_changes({"lose_calbacks": 1})


def test_switches_round_trip_through_json() -> None:
    """The sandbox accepts the JSON form of its own switches."""
    switches = Switches(lose_callbacks=First(2), run_time=(1.0, 2.0), key="k")
    assert Switches().with_changes(json.loads(json.dumps(switches.to_json()))) == switches


def test_equal_seeds_draw_equally_in_any_order() -> None:
    """A draw depends only on the seed, the fault and the occasion, not on earlier draws."""
    one, other = SeededFaults(seeded(3)), SeededFaults(seeded(3))
    first = [one.draw("slow_poll", str(number)) for number in range(20)]
    second = [other.draw("slow_poll", str(number)) for number in reversed(range(20))]
    assert first == second[::-1]
    assert SeededFaults(seeded(4)).draw("slow_poll", "0") != first[0]


def test_fault_occurs_with_its_probability() -> None:
    """A chance of 0.3 occurs about 300 times in 1000 draws of a known seed."""
    faults, switches = SeededFaults(seeded(5)), Switches(lose_callbacks=0.3)
    hits = sum(faults.hits(switches, "lose_callbacks", str(number)) for number in range(1000))
    assert 250 < hits < 350


def test_first_n_applies_to_the_first_occasions_only() -> None:
    """`First(2)` occurs twice, and again after a reset."""
    faults, switches = SeededFaults(seeded(5)), Switches(lose_callbacks=First(2))
    assert [faults.hits(switches, "lose_callbacks", str(number)) for number in range(4)] == [True, True, False, False]
    faults.reset("lose_callbacks")
    assert faults.hits(switches, "lose_callbacks", "5")


def test_span_draws_numbers_inside_it() -> None:
    """Each draw of a range lies inside the range, and the draws differ."""
    drawn = {SeededFaults(seeded(1)).within((2.0, 8.0), "run_time", str(number)) for number in range(50)}
    assert len(drawn) == 50
    assert all(2.0 <= seconds <= 8.0 for seconds in drawn)
