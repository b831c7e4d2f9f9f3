"""Searches for input that breaks the validation of parameters."""

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.errors import Fault, InvalidParams
from service.domain.media.file_headers import image_size, is_truncated, sniff
from service.domain.media.limits import DataUri, InlineMedia, Unreadable, decode, decoded_size, parse_data_uri
from service.domain.models.catalog import MODELS
from service.domain.models.json_schema import json_schema
from service.domain.models.media_descriptors import restore
from service.domain.models.validation import duration_bucket, validate_params
from service.tasks.media_inspector import MediaInspector
from tests.support.sample_media import MODEL, image, params, uri, video, with_data_uris

NAMES = list(MODELS[MODEL].model_fields)
OPEN = MediaInspector()

any_text = st.text(st.characters(exclude_categories=()), max_size=30)
starts = st.sampled_from(["data:", "data:image/png;base64,", "data:video/mp4;base64,", "https://", "http://[", ""])
any_string = any_text | st.builds(str.__add__, starts, any_text)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | any_string
any_json = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(any_text, inner), max_leaves=8)
media_lists = st.lists(any_json, max_size=9)
any_params = st.dictionaries(st.sampled_from(NAMES) | any_text, media_lists | any_json, max_size=8)

FILES = [
    uri("image/png", image("PNG")),
    uri("image/jpeg", image("JPEG")),
    uri("image/webp", image("WEBP")),
]
CLIPS = [uri("video/mp4", video()), uri("video/quicktime", video("mov")), uri("video/x-msvideo", video("avi"))]
addresses = st.integers(0, 99).map(lambda number: f"https://example.org/{number}")
short_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=50)

VALID: dict[str, st.SearchStrategy[Any]] = {
    "videos": st.lists(addresses | st.sampled_from(CLIPS), max_size=2),
    "bgm": st.booleans(),
    "duration": st.integers(0, 10),
    "seed": st.integers(-(2**63), 2**63 - 1),
    "aspect_ratio": st.sampled_from(["16:9", "9:16", "4:3", "3:4", "1:1"]),
    "resolution": st.sampled_from(["540p", "720p", "1080p"]),
    "payload": short_text,
    "off_peak": st.just(False),
    "watermark": st.booleans(),
    "wm_position": st.integers(1, 4),
    "wm_url": addresses,
    "meta_data": short_text,
    "callback_url": addresses,
}
WRONG: dict[str, Any] = {
    "images": [],
    "prompt": "",
    "videos": None,
    "bgm": "true",
    "duration": 11,
    "seed": 1.5,
    "aspect_ratio": "2:1",
    "resolution": "4K",
    "payload": 1,
    "off_peak": True,
    "watermark": 0,
    "wm_position": 5,
    "wm_url": "x",
    "meta_data": {},
    "callback_url": "ftp://example.org",
}
valid_params = st.fixed_dictionaries(
    {
        "images": st.lists(addresses | st.sampled_from(FILES), min_size=1, max_size=4),
        "prompt": short_text.map("a".__add__),
    },
    optional=VALID,
)


def faults_of(model: object, given_params: object) -> tuple[Fault, ...]:
    """Return the faults that the validation finds, with an inspector; empty if there are none."""
    try:
        validate_params(model, given_params, inspect=OPEN)
    except InvalidParams as error:
        return error.faults
    return ()


def unreadable(inspect: Callable[[], object]) -> str:
    """Return the reason why a file cannot be opened, or "" if it has facts."""
    try:
        return "" if inspect() else "neither facts nor a reason"
    except Unreadable as error:
        return error.reason


@given(model=st.just(MODEL) | any_json, given_params=any_json | any_params)
@settings(max_examples=200, deadline=None)
def test_only_invalid_params_is_raised(model: object, given_params: object) -> None:
    """For any JSON the validation returns a result or raises faults that can be encoded in a response."""
    found = faults_of(model, given_params)
    assert all(fault.loc[0] in {"params", "model"} and fault.msg for fault in found)
    assert json.dumps([[*fault.loc, fault.msg] for fault in found], ensure_ascii=False).encode()


@given(valid_params)
@settings(max_examples=60, deadline=None)
def test_restored_parameters_equal_the_given_ones(given_params: dict[str, Any]) -> None:
    """Replacing inline media and restoring them changes nothing; separate values are beside the parameters."""
    result = validate_params(MODEL, given_params, inspect=OPEN)
    restored = with_data_uris(restore(result.params, {each.place: each for each in result.blobs}))
    separate = {"payload": result.payload, "meta_data": result.meta_data, "callback_url": result.callback_url}
    assert restored | {name: value for name, value in separate.items() if value is not None} == given_params
    assert len(json.dumps(result.params)) < 10_000
    assert duration_bucket(MODEL, result.params) == duration_bucket(MODEL, given_params)


@given(st.sets(st.sampled_from(NAMES), min_size=1), st.sets(st.sampled_from(["colour", "Prompt", "x"])))
def test_every_fault_is_reported(names: set[str], unknown: set[str]) -> None:
    """Each wrong parameter has a fault, and valid ones have none."""
    wrong = {name: WRONG[name] for name in names} | dict.fromkeys(unknown, 1)
    assert {fault.loc[1] for fault in faults_of(MODEL, params(**wrong))} == names | unknown


@given(
    st.lists(
        st.sampled_from(["https://example.org/a", "ftp://x", "x", "data:image/png;base64,!"]), min_size=1, max_size=7
    )
)
def test_every_wrong_item_has_its_index(items: list[str]) -> None:
    """The items of a list are checked independently."""
    wrong = {index for index, item in enumerate(items) if not item.startswith("https")}
    assert {fault.loc for fault in faults_of(MODEL, params(images=items))} == {("params", "images", at) for at in wrong}


@given(st.binary(max_size=200))
def test_data_uri_round_trip(data: bytes) -> None:
    """Encoding and decoding are inverse, and the size is known before decoding."""
    text = InlineMedia(media_type="image/png", data=data).data_uri()
    assert text == "data:image/png;base64," + base64.b64encode(data).decode()
    head = parse_data_uri(text)
    assert head == DataUri(media_type="image/png", body_at=22)
    assert decoded_size(text, head) == len(data)
    assert decode(text, head) == data


@given(st.text(alphabet="QRg=+/-_ \né", max_size=12))
def test_strict_base64_has_whole_groups_and_right_padding(body: str) -> None:
    """Accepted base64 has whole groups of the alphabet, with at most two padding characters at the end."""
    try:
        data = decode(body, DataUri(media_type="image/png", body_at=0))
    except ValueError:
        return
    core = body.rstrip("=")
    assert len(body) % 4 == 0
    assert len(body) - len(core) <= 2
    assert set(core) <= set("QRg+/")
    assert len(data) == len(core) * 6 // 8


@given(st.binary(min_size=1, max_size=600), st.integers(0), st.characters())
def test_invalid_character_is_found_at_any_position(data: bytes, at: int, wrong: str) -> None:
    """The decoder accepts and refuses the same texts as Python's own strict decoder."""
    text = base64.b64encode(data).decode()
    at %= len(text)
    corrupted = text[:at] + wrong + text[at + 1 :]
    expected = _or_none(lambda: binascii.a2b_base64(corrupted, strict_mode=True))
    assert _or_none(lambda: decode(corrupted, DataUri(media_type="image/png", body_at=0))) == expected


def _or_none(decoding: Callable[[], bytes]) -> bytes | None:
    try:
        return decoding()
    except ValueError:
        return None


HEADS = [
    image("PNG")[:40],
    image("JPEG")[:200],
    image("WEBP")[:40],
    image("WEBP", lossless=True)[:40],
    video()[:64],
    b"",
]


@given(st.sampled_from(HEADS), st.binary(max_size=80), st.integers(0, 200))
def test_invalid_headers_never_raise(head: bytes, tail: bytes, cut: int) -> None:
    """The readers of headers return a result for any bytes."""
    data = head[:cut] + tail
    size = image_size(data)
    assert size is None or min(size) > 0
    assert isinstance(sniff(data), str | None)
    assert isinstance(is_truncated(data), bool)


WHOLE = [image("PNG"), image("JPEG"), image("WEBP"), video(), video("mov"), video("avi"), video(codec="libx264")]


@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=12),
    st.floats(0, 1),
)
@settings(max_examples=150, deadline=None)
def test_damaged_files_end_in_facts_or_unreadable(data: bytes, spots: list[tuple[int, int]], keep: float) -> None:
    """Changed bytes and truncation lead to facts or to `Unreadable` only."""
    damaged = bytearray(data)
    for at, value in spots:
        damaged[at % len(damaged)] = value
    broken = bytes(damaged[: max(1, round(len(damaged) * keep))])
    assert unreadable(lambda: OPEN.image(broken)) != "neither facts nor a reason"
    assert unreadable(lambda: OPEN.video(broken)) != "neither facts nor a reason"


def test_every_parameter_has_a_valid_and_a_wrong_sample() -> None:
    """The tests above cover all parameters of all models."""
    assert {*VALID, "images", "prompt"} == set(WRONG) == set(NAMES)
    assert set(MODELS) == {MODEL, *OTHERS}


subjects = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.uuids().map(str),
            "images": st.lists(addresses | st.sampled_from(FILES), min_size=1, max_size=2),
        },
        optional={"voice_id": short_text},
    ),
    min_size=1,
    max_size=3,
)
COMMON = {
    name: VALID[name] for name in VALID if name not in {"videos", "bgm", "duration", "resolution", "aspect_ratio"}
}
PROMPT = {"prompt": short_text.map("a".__add__)}
WITH_SUBJECTS = st.fixed_dictionaries(
    PROMPT | {"subjects": subjects}, optional=COMMON | {"audio": st.booleans(), "duration": st.integers(1, 8)}
)
OTHERS: dict[str, st.SearchStrategy[Any]] = {
    "viduq2_reference2video": WITH_SUBJECTS,
    "viduq2_pro_fast_reference2video": WITH_SUBJECTS,
    "viduq2_pro_fast_text2video": st.fixed_dictionaries(
        PROMPT, optional=COMMON | {"bgm": st.booleans(), "duration": st.integers(1, 8)}
    ),
    "viduq2_reference2image": st.fixed_dictionaries(
        PROMPT,
        optional={name: COMMON[name] for name in ("seed", "payload", "callback_url")}
        | {
            "images": st.lists(addresses | st.sampled_from(FILES), max_size=7),
            "resolution": st.sampled_from(["2K", "4K"]),
        },
    ),
}


@given(st.sampled_from(sorted(OTHERS)).flatmap(lambda name: st.tuples(st.just(name), OTHERS[name])))
@settings(max_examples=60, deadline=None)
def test_restored_parameters_of_other_models_equal_the_given_ones(drawn: tuple[str, dict[str, Any]]) -> None:
    """Replacing inline media, also in subjects, and restoring them changes nothing, and the schema accepts them."""
    name, given_params = drawn
    result = validate_params(name, given_params, inspect=OPEN)
    restored = with_data_uris(restore(result.params, {each.place: each for each in result.blobs}))
    separate = {"payload": result.payload, "meta_data": result.meta_data, "callback_url": result.callback_url}
    assert restored | {key: value for key, value in separate.items() if value is not None} == given_params
    assert jsonschema_rs.is_valid(json_schema(name), given_params)


@given(
    model=st.sampled_from(sorted(OTHERS)) | any_text,
    given_params=st.dictionaries(st.sampled_from(["subjects", "images", "prompt", "audio"]) | any_text, any_json),
    unchecked=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_only_invalid_params_is_raised_for_other_models(model: str, given_params: Any, unchecked: bool) -> None:
    """For any JSON, and for models that are not checked."""
    try:
        validate_params(model, given_params, inspect=OPEN, allow_unchecked=unchecked)
    except InvalidParams as error:
        found = [[*fault.loc, fault.msg] for fault in error.faults]
        assert json.dumps(found, ensure_ascii=False).encode()
