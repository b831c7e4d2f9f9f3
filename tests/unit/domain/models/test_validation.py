"""The plain parameters of viduq2_pro_reference: each limit from both sides, and the faults."""

from typing import Any

import pytest

from service.domain.errors import Fault, InvalidParams
from service.domain.models.catalog import known_models
from service.domain.models.json_schema import json_schema
from service.domain.models.media_descriptors import restore
from service.domain.models.validation import ValidatedParams, validate_params
from tests.support.sample_media import MODEL, image, params, uri, with_data_uris


def validated(**more: Any) -> ValidatedParams:
    """Validate valid parameters, changed by `more`."""
    return validate_params(MODEL, params(**more))


def faults(given: object, model: object = MODEL, **options: Any) -> tuple[Fault, ...]:
    """Return the faults of invalid parameters."""
    with pytest.raises(InvalidParams) as caught:
        validate_params(model, given, **options)
    return caught.value.faults


def only(fault: tuple[Fault, ...]) -> Fault:
    """Return the only fault."""
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
def test_value_inside_its_limits_is_unchanged(name: str, value: object) -> None:
    """A value that the page documents as valid is accepted and unchanged in the parameters."""
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
def test_value_outside_its_limit_is_refused_with_the_limit(name: str, value: object, limit: str) -> None:
    """One step outside a limit is one fault at its parameter, and the message names the limit."""
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
    """Types are strict: nothing is converted, and null is not the same as missing."""
    assert only(faults(params(**{name: value}))).loc == ("params", name)


@pytest.mark.parametrize("name", ["prompt", "payload", "meta_data", "wm_url", "callback_url"])
@pytest.mark.parametrize("bad", ["\x00", "\ud800", chr(0xDFFF)])
def test_text_that_cannot_be_stored_is_refused(name: str, bad: str) -> None:
    """A NUL or a lone surrogate fits neither the database nor UTF-8, and the message names the character."""
    fault = only(faults(params(**{name: f"https://example.org/{bad}"})))
    assert fault.loc == ("params", name)
    assert ("NUL" if bad == "\x00" else f"U+{ord(bad):04X}") in fault.msg
    fault.msg.encode()


def test_required_parameters_are_named_when_missing() -> None:
    """Without prompt and images there are two faults, one at each parameter."""
    assert {fault.loc for fault in faults({})} == {("params", "prompt"), ("params", "images")}


@pytest.mark.parametrize("given", [None, [], "x", 5, True])
def test_parameters_must_be_an_object(given: object) -> None:
    """Anything but an object is one fault about the parameters as a whole."""
    assert only(faults(given)).loc == ("params",)


def test_every_fault_is_reported_at_once() -> None:
    """A request with many faults gets all of them in one response."""
    bad = {"images": [], "prompt": " ", "duration": 11, "bgm": "no", "wm_position": 9, "colour": "red"}
    assert [fault.loc[1] for fault in faults(bad)] == ["colour", "images", "prompt", "duration", "bgm", "wm_position"]


@pytest.mark.parametrize(
    ("typo", "meant"), [("durration", "duration"), ("Prompt", "prompt"), ("aspectRatio", "aspect_ratio")]
)
def test_unknown_parameter_suggests_the_nearest(typo: str, meant: str) -> None:
    """A misspelt name is refused with the nearest known name."""
    fault = only(faults(params(**{typo: 5})))
    assert fault.loc == ("params", typo)
    assert f"did you mean {meant}?" in fault.msg


def test_unknown_parameter_without_similar_name_has_no_suggestion() -> None:
    """A name that is not similar to a known one has no suggestion."""
    assert only(faults(params(zzz=1))).msg.endswith("remove it")


def test_thousands_of_unknown_parameters_are_counted_not_listed() -> None:
    """Thousands of unknown names give a short list with the number of the others."""
    found = faults(params(**{f"x{index}": 1 for index in range(5000)}))
    assert len(found) == 101
    assert "4,900 more" in found[-1].msg


def test_unknown_name_that_cannot_be_sent_is_made_printable() -> None:
    """The location of a fault is short and can be encoded in the response."""
    for name in ("\ud800\x00", "x" * 100_000):
        place = only(faults(params(**{name: 1}))).loc[1]
        assert isinstance(place, str)
        assert len(place.encode()) < 100
        assert "\x00" not in place


@pytest.mark.parametrize("name", ["prompt", "aspect_ratio", "wm_url", "duration", "images"])
def test_messages_never_repeat_a_long_value(name: str) -> None:
    """A message repeats a few characters of a value of a megabyte."""
    given = params(**{name: "y" * 1_000_000})
    assert all(len(fault.msg) < 300 for fault in faults(given))


def test_unknown_model_suggests_the_nearest() -> None:
    """A misspelt model is a fault at `model`, with the nearest known model."""
    fault = only(faults(params(), model="viduq2-pro-reference"))
    assert fault.loc == ("model",)
    assert "did you mean viduq2_pro_reference?" in fault.msg


@pytest.mark.parametrize("model", [None, 5, "", "gpt", "x" * 100_000, "\ud800"])
def test_unknown_model_is_refused(model: object) -> None:
    """Any other value is one short, printable fault at `model`."""
    fault = only(faults(params(), model=model))
    assert fault.loc == ("model",)
    assert len(fault.msg.encode()) < 200


def test_off_peak_is_refused_until_it_is_allowed() -> None:
    """off_peak is temporarily unavailable upstream; the setting allows it."""
    assert "temporarily unavailable" in only(faults(params(off_peak=True))).msg
    assert validate_params(MODEL, params(off_peak=True), allow_off_peak=True).params["off_peak"] is True


def test_separately_stored_values_are_not_in_the_parameters() -> None:
    """payload, meta_data and callback_url are stored beside the parameters."""
    result = validated(payload="p" * 1_048_576, meta_data='{"a": 1}', callback_url="https://example.org/done")
    assert result.params == params()
    assert result.payload == "p" * 1_048_576
    assert result.meta_data == '{"a": 1}'
    assert result.callback_url == "https://example.org/done"


def test_defaults_are_not_added() -> None:
    """A missing parameter is not in the result."""
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
        ({"wm_position": 3}, ()),
        ({"wm_position": 3, "wm_url": "https://a.example"}, ("wm_url has no effect without watermark",)),
        ({"wm_url": "https://a.example", "watermark": False}, ("wm_url has no effect without watermark",)),
        ({"wm_position": 1, "wm_url": "https://a.example", "watermark": True}, ()),
    ],
)
def test_parameter_without_effect_has_a_warning(more: dict[str, Any], warnings: tuple[str, ...]) -> None:
    """A valid parameter without effect is accepted with a warning; others have none."""
    assert validated(**more).warnings == warnings


@pytest.mark.parametrize("model", known_models())
@pytest.mark.parametrize("duration", [5, 9, 10])
def test_documented_defaults_draw_no_warning(model: str, duration: int) -> None:
    """Every parameter with its documented default, each alone and all together, has no warning at any duration."""
    properties: Any = json_schema(model)["properties"]
    defaults = {name: each["default"] for name, each in properties.items() if "default" in each} | {"seed": 0}
    assert {"resolution", "aspect_ratio"} <= set(defaults)
    needed = dict(NEEDED[model])
    if "duration" in properties:
        needed["duration"] = min(duration, properties["duration"]["maximum"])
    for given in (defaults, *({name: value} for name, value in defaults.items())):
        assert validate_params(model, given | needed).warnings == ()


SUBJECTS = [{"id": "cat", "images": [uri("image/png", image("PNG")), "https://example.org/cat.png"]}]
NEEDED: dict[str, dict[str, Any]] = {
    "viduq2_pro_reference": {"prompt": "a cat", "images": ["https://example.org/cat.png"]},
    "viduq2_reference2video": {"prompt": "@cat", "subjects": SUBJECTS},
    "viduq2_pro_fast_reference2video": {"prompt": "@cat", "subjects": SUBJECTS},
    "viduq2_pro_fast_text2video": {"prompt": "a cat"},
    "viduq2_reference2image": {"prompt": "a cat"},
}


@pytest.mark.parametrize(
    ("subjects", "loc", "words"),
    [
        ({}, (), "list of subjects"),
        ([], (), "add one"),
        ([5], (0,), "an object"),
        ([{}], (0, "id"), "is required"),
        ([{"id": "a"}], (0, "images"), "is required"),
        ([{"id": "a", "images": []}], (0, "images"), "1 to 3 images"),
        ([{"id": "a", "images": ["x"]}], (0, "images", 0), "https"),
        ([{"id": "a b", "images": ["https://a.example/1"]}], (0, "id"), "spaces"),
        ([{"id": "a", "images": ["https://a.example/1"], "voice": "b"}], (0, "voice"), "voice_id"),
        ([{"id": "a", "images": ["https://a.example/1"], "voice_id": 1}], (0, "voice_id"), "a string"),
        ([{"id": "a", "images": ["https://a.example/1"]}] * 2, (1, "id"), "another subject"),
        ([{"id": str(n), "images": ["https://a.example/1"]} for n in range(8)], (), "remove 1"),
        ([{"id": str(n), "images": ["https://a.example/1"] * 3} for n in range(3)], (), "at most 7 images"),
    ],
)
def test_wrong_subjects_are_refused_where_they_are(subjects: Any, loc: tuple[Any, ...], words: str) -> None:
    """Each fault names the subject and the field."""
    with pytest.raises(InvalidParams) as refused:
        validate_params("viduq2_reference2video", {"prompt": "@a", "subjects": subjects})
    found = {fault.loc: fault.msg for fault in refused.value.faults}
    assert words in found["params", "subjects", *loc]


def test_subjects_are_stored_apart_and_restored() -> None:
    """An inline image of a subject becomes a blob of its place; one that the prompt does not name has a warning."""
    given: dict[str, Any] = {"prompt": "a dog", "subjects": SUBJECTS}
    found = validate_params("viduq2_reference2video", given)
    assert [blob.place for blob in found.blobs] == ["subjects.0.images.0"]
    assert found.warnings == ("the prompt does not mention the subject @cat",)
    assert with_data_uris(restore(found.params, {blob.place: blob for blob in found.blobs})) == given


def test_audio_excludes_off_peak() -> None:
    """Both together are refused although each alone is allowed."""
    both = NEEDED["viduq2_reference2video"] | {"audio": True, "off_peak": True}
    with pytest.raises(InvalidParams, match="not possible together with audio"):
        validate_params("viduq2_reference2video", both, allow_off_peak=True)
    found = validate_params("viduq2_reference2video", both | {"audio": False}, allow_off_peak=True)
    assert found.params["off_peak"] is True


def test_unknown_model_is_taken_unchecked_on_request() -> None:
    """Its parameters are kept as they are, with inline media apart and a warning."""
    given: dict[str, Any] = {"a": {"b": [uri("image/png", image("PNG")), 1.5, None]}, "payload": "mine", "prompt": ""}
    found = validate_params("veo-9", given, allow_unchecked=True)
    assert (found.model, found.payload, [blob.place for blob in found.blobs]) == ("veo-9", "mine", ["a.b.0"])
    assert "not checked" in found.warnings[0]
    restored = with_data_uris(restore(found.params, {blob.place: blob for blob in found.blobs}))
    assert restored | {"payload": "mine"} == given
    assert not validate_params(MODEL, params(), allow_unchecked=True).warnings


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("veo 9", {}),
        ("../veo", {}),
        ("veo", []),
        ("veo", {"payload": 5}),
        ("veo", {"callback_url": "ftp://x"}),
        ("veo", {"off_peak": True}),
        ("veo", {"a": "\0"}),
        ("veo", {"a": "x" * 300_000}),
        ("veo", {"a": "data:image/png;base64,!"}),
        ("veo", {"a": {"media_type": "image/png", "bytes": 1, "sha256": "00"}}),
        ("veo", {"a.0": uri("image/png", image("PNG")), "a": [uri("image/png", image("PNG"))]}),
    ],
)
def test_what_this_service_needs_is_checked_of_unknown_models(model: str, given: Any) -> None:
    """Its own texts, what no database stores, and the places of inline media."""
    with pytest.raises(InvalidParams):
        validate_params(model, given, allow_unchecked=True)
