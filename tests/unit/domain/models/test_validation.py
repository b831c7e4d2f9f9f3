"""The plain parameters of viduq2_pro_reference: each limit from both sides, and how faults are told."""

from typing import Any

import pytest

from service.domain.errors import Fault, InvalidParams
from service.domain.models.validation import ValidatedParams, validate_params
from tests.support.sample_media import MODEL, params


def validated(**more: Any) -> ValidatedParams:
    """Check valid parameters with `more` on top."""
    return validate_params(MODEL, params(**more))


def faults(given: object, model: object = MODEL, **options: Any) -> tuple[Fault, ...]:
    """Return the faults of what must be refused."""
    with pytest.raises(InvalidParams) as caught:
        validate_params(model, given, **options)
    return caught.value.faults


def only(fault: tuple[Fault, ...]) -> Fault:
    """Return the one fault that is expected."""
    assert len(fault) == 1, fault
    return fault[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", "x"),
        ("prompt", "x" * 5000),
        ("prompt", "\U0001f600" * 5000),
        ("bgm", True),
        ("bgm", False),
        ("duration", 0),
        ("duration", 10),
        ("seed", 0),
        ("seed", -1),
        ("seed", 2**63 - 1),
        ("aspect_ratio", "16:9"),
        ("aspect_ratio", "9:16"),
        ("aspect_ratio", "4:3"),
        ("aspect_ratio", "3:4"),
        ("aspect_ratio", "1:1"),
        ("resolution", "540p"),
        ("resolution", "720p"),
        ("resolution", "1080p"),
        ("off_peak", False),
        ("watermark", True),
        ("wm_position", 1),
        ("wm_position", 4),
        ("wm_url", "https://example.org/mark.png"),
        ("wm_url", "http://[::1]:8080/mark.png"),
        ("videos", []),
    ],
)
def test_value_inside_its_limits_is_kept_as_given(name: str, value: object) -> None:
    """What the page documents as valid passes, and stands unchanged in the parameters."""
    assert validated(**{name: value}).params[name] == value


@pytest.mark.parametrize(
    ("name", "value", "limit"),
    [
        ("prompt", "", "blank"),
        ("prompt", " \n\t\u3000", "blank"),
        ("prompt", "x" * 5001, "5,000"),
        ("duration", -1, "0 to 10"),
        ("duration", 11, "0 to 10"),
        ("duration", 10**400, "0 to 10"),
        ("seed", 2**63, "9223372036854775807"),
        ("seed", -(2**63) - 1, "-9223372036854775808"),
        ("aspect_ratio", "21:9", "16:9, 9:16, 4:3, 3:4 or 1:1"),
        ("resolution", "720P", "540p, 720p or 1080p"),
        ("payload", "x" * 1_048_577, "1,048,576"),
        ("wm_position", 0, "1 to 4"),
        ("wm_position", 5, "1 to 4"),
        ("wm_url", "ftp://example.org/mark.png", "http or https"),
        ("wm_url", "example.org/mark.png", "http or https"),
        ("callback_url", "https:///path", "host"),
        ("callback_url", "https://", "host"),
        ("callback_url", "https://[::1/", "host"),
        ("callback_url", "https://example.org:99999/", "host"),
        ("callback_url", "https://example.org/a b", "spaces"),
        ("callback_url", "https://exa\nmple.org/", "line breaks"),
        ("callback_url", "https://example.org/" + "x" * 8192, "8,192"),
    ],
)
def test_value_past_its_limit_is_refused_with_the_limit_named(name: str, value: object, limit: str) -> None:
    """One step past a limit is one fault, in its place, and the message names the limit."""
    fault = only(faults(params(**{name: value})))
    assert fault.loc == ("params", name)
    assert limit in fault.msg


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", 5),
        ("prompt", None),
        ("bgm", "true"),
        ("bgm", 1),
        ("duration", "5"),
        ("duration", 5.0),
        ("duration", True),
        ("duration", None),
        ("seed", float("nan")),
        ("aspect_ratio", 1),
        ("resolution", ["720p"]),
        ("payload", {}),
        ("off_peak", 0),
        ("watermark", "yes"),
        ("wm_position", "3"),
        ("wm_url", 1),
        ("meta_data", {"a": 1}),
        ("callback_url", False),
        ("images", "https://example.org/cat.png"),
        ("images", {"0": "https://example.org/cat.png"}),
        ("videos", None),
    ],
)
def test_wrong_type_is_refused(name: str, value: object) -> None:
    """Types are strict: nothing is converted, and null does not stand for left out."""
    assert only(faults(params(**{name: value}))).loc == ("params", name)


@pytest.mark.parametrize("name", ["prompt", "payload", "meta_data", "wm_url", "callback_url"])
@pytest.mark.parametrize("bad", ["\x00", "\ud800", chr(0xDFFF)])
def test_text_that_cannot_be_stored_is_refused(name: str, bad: str) -> None:
    """A NUL or a lone surrogate fits neither the database nor UTF-8, and the message says which it is."""
    fault = only(faults(params(**{name: f"https://example.org/{bad}"})))
    assert fault.loc == ("params", name)
    assert ("NUL" if bad == "\x00" else f"U+{ord(bad):04X}") in fault.msg
    fault.msg.encode()


def test_required_parameters_are_named_when_missing() -> None:
    """Without prompt and images there are two faults, each in its place."""
    assert {fault.loc for fault in faults({})} == {("params", "prompt"), ("params", "images")}


@pytest.mark.parametrize("given", [None, [], "x", 5, True])
def test_parameters_must_be_an_object(given: object) -> None:
    """Anything but an object is one fault about the parameters as a whole."""
    assert only(faults(given)).loc == ("params",)


def test_every_fault_is_told_at_once() -> None:
    """A request with many faults gets all of them in one answer."""
    bad = {"images": [], "prompt": " ", "duration": 11, "bgm": "no", "wm_position": 9, "colour": "red"}
    assert [fault.loc[1] for fault in faults(bad)] == ["colour", "images", "prompt", "duration", "bgm", "wm_position"]


@pytest.mark.parametrize(
    ("typo", "meant"), [("durration", "duration"), ("Prompt", "prompt"), ("aspectRatio", "aspect_ratio")]
)
def test_unknown_parameter_suggests_the_nearest(typo: str, meant: str) -> None:
    """A misspelt name is refused with the name that was meant."""
    fault = only(faults(params(**{typo: 5})))
    assert fault.loc == ("params", typo)
    assert f"did you mean {meant}?" in fault.msg


def test_unknown_parameter_like_none_is_to_be_removed() -> None:
    """A name that is like no known one gets no far-fetched suggestion."""
    assert only(faults(params(zzz=1))).msg.endswith("remove it")


def test_thousands_of_unknown_parameters_are_counted_not_listed() -> None:
    """The answer to a flood of unknown names stays short, and says how many there were."""
    found = faults(params(**{f"x{index}": 1 for index in range(5000)}))
    assert len(found) == 101
    assert "4,900 more" in found[-1].msg


def test_unknown_name_that_cannot_be_sent_is_made_printable() -> None:
    """The place of a fault can always be written into an answer, and is short."""
    for name in ("\ud800\x00", "x" * 100_000):
        place = only(faults(params(**{name: 1}))).loc[1]
        assert isinstance(place, str)
        assert len(place.encode()) < 100
        assert "\x00" not in place


@pytest.mark.parametrize("name", ["prompt", "aspect_ratio", "wm_url", "duration", "images"])
def test_messages_never_repeat_a_long_value(name: str) -> None:
    """A megabyte of nonsense is told back in a few characters."""
    given = params(**{name: "y" * 1_000_000})
    assert all(len(fault.msg) < 300 for fault in faults(given))


def test_unknown_model_suggests_the_nearest() -> None:
    """A misspelt model is a fault in the place `model`, with the one that was meant."""
    fault = only(faults(params(), model="viduq2-pro-reference"))
    assert fault.loc == ("model",)
    assert "did you mean viduq2_pro_reference?" in fault.msg


@pytest.mark.parametrize("model", [None, 5, "", "gpt", "x" * 100_000, "\ud800"])
def test_model_like_none_is_refused(model: object) -> None:
    """Whatever is no model is one short, printable fault in the place `model`."""
    fault = only(faults(params(), model=model))
    assert fault.loc == ("model",)
    assert len(fault.msg.encode()) < 200


def test_off_peak_is_refused_until_it_is_allowed() -> None:
    """off_peak is temporarily unavailable upstream; the setting lets it through on the day it works."""
    assert "temporarily unavailable" in only(faults(params(off_peak=True))).msg
    assert validate_params(MODEL, params(off_peak=True), allow_off_peak=True).params["off_peak"] is True


def test_what_is_kept_apart_leaves_the_parameters() -> None:
    """payload, meta_data and callback_url are ours to keep and stand beside the parameters."""
    result = validated(payload="p" * 1_048_576, meta_data='{"a": 1}', callback_url="https://example.org/done")
    assert result.params == params()
    assert result.payload == "p" * 1_048_576
    assert result.meta_data == '{"a": 1}'
    assert result.callback_url == "https://example.org/done"


def test_defaults_are_not_invented() -> None:
    """Parameters are kept as given: what the caller left out stays out."""
    result = validated()
    assert result.params == params()
    assert (result.payload, result.meta_data, result.callback_url, result.warnings) == (None, None, None, ())


@pytest.mark.parametrize(
    ("more", "warnings"),
    [
        ({"bgm": True, "duration": 9}, ("bgm has no effect when duration is 9 or 10",)),
        ({"bgm": True, "duration": 10}, ("bgm has no effect when duration is 9 or 10",)),
        ({"bgm": True, "duration": 8}, ()),
        ({"bgm": True, "duration": 0}, ()),
        ({"bgm": True}, ()),
        ({"bgm": False, "duration": 9}, ()),
        ({"duration": 9}, ()),
        ({"wm_position": 1}, ("wm_position has no effect without watermark",)),
        ({"wm_url": "https://a.example", "watermark": False}, ("wm_url has no effect without watermark",)),
        ({"wm_position": 1, "wm_url": "https://a.example", "watermark": True}, ()),
    ],
)
def test_parameter_without_effect_draws_a_warning(more: dict[str, Any], warnings: tuple[str, ...]) -> None:
    """What is valid and does nothing is passed on with a warning, and only then."""
    assert validated(**more).warnings == warnings
