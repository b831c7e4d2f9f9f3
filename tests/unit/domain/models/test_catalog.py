"""The catalog of models, their JSON Schema, and the key of the run-time estimates."""

import re
from typing import Any

import pytest

from service.domain.media.limits import DURATION_SLACK
from service.domain.models.catalog import MODELS, known_models
from service.domain.models.json_schema import json_schema
from service.domain.models.media_checks import MediaList
from service.domain.models.parameter_types import Unavailable
from service.domain.models.validation import STORED_SEPARATELY, duration_bucket
from tests.support.sample_media import MODEL, params


def test_models_are_known_by_their_own_names() -> None:
    """The first one is that of the API page which the project began with."""
    assert known_models() == (
        "viduq2_pro_reference",
        "viduq2_reference2video",
        "viduq2_pro_fast_reference2video",
        "viduq2_pro_fast_text2video",
        "viduq2_reference2image",
    )
    assert [json_schema(name)["title"] for name in known_models()] == list(known_models())


@pytest.mark.parametrize(
    ("model", "name", "limits"),
    [
        ("viduq2_reference2video", "subjects", {"minItems": 1, "maxItems": 7}),
        ("viduq2_reference2video", "duration", {"minimum": 1, "maximum": 10}),
        ("viduq2_pro_fast_reference2video", "duration", {"minimum": 1, "maximum": 8}),
        ("viduq2_pro_fast_reference2video", "resolution", {"enum": ["720p", "1080p"], "default": "720p"}),
        ("viduq2_pro_fast_text2video", "prompt", {"maxLength": 2000}),
        ("viduq2_pro_fast_text2video", "aspect_ratio", {"enum": ["16:9", "9:16", "3:4", "4:3", "1:1"]}),
        ("viduq2_reference2image", "images", {"minItems": 0, "maxItems": 7}),
        ("viduq2_reference2image", "resolution", {"enum": ["1080p", "2K", "4K"], "default": "1080p"}),
    ],
)
def test_each_model_has_its_own_limits(model: str, name: str, limits: dict[str, Any]) -> None:
    """A parameter of one name may differ between models."""
    schema: Any = json_schema(model)
    assert schema["properties"][name] == schema["properties"][name] | limits


def test_every_documented_parameter_exists() -> None:
    """The model has exactly the parameters of its API page."""
    page = """images videos prompt bgm duration seed aspect_ratio resolution payload off_peak watermark wm_position
    wm_url meta_data callback_url"""
    assert list(MODELS[MODEL].model_fields) == page.split()


def test_rules_refer_to_existing_parameters() -> None:
    """All names in the rules of a model are names of its parameters."""
    for model in MODELS.values():
        annotations = [each for field in model.model_fields.values() for each in field.metadata]
        media = [each for each in annotations if isinstance(each, MediaList)]
        kept = set(STORED_SEPARATELY) - {"meta_data"}  # which a model may lack
        referred = {*model.run_time_by, *kept, *(name for each in media for name in each.maximum_with)}
        assert referred <= set(model.model_fields)


def test_every_parameter_is_described_and_has_a_default_unless_required() -> None:
    """A default is never null, since null is not the same as missing; the class has a docstring."""
    for model in MODELS.values():
        assert model.__doc__
        for field in model.model_fields.values():
            assert field.description
            assert field.is_required() or field.get_default(call_default_factory=True, validated_data={}) is not None


def test_schema_has_the_documented_limits() -> None:
    """The JSON Schema has the limits of the API page."""
    schema: Any = json_schema(MODEL)
    properties = schema["properties"]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["images", "prompt"]
    assert schema["additionalProperties"] is False
    assert (properties["images"]["minItems"], properties["images"]["maxItems"]) == (1, 7)
    assert properties["videos"]["maxItems"] == 2
    assert properties["prompt"]["maxLength"] == 5000
    assert properties["duration"] | {"description": ""} == {
        "type": "integer",
        "minimum": 0,
        "maximum": 10,
        "default": 5,
        "description": "",
    }
    assert properties["resolution"]["enum"] == ["540p", "720p", "1080p"]
    assert schema["allOf"][0]["then"] == {"properties": {"images": {"maxItems": 4}}}


def test_schema_states_the_slack_of_durations() -> None:
    """Clients read in the description of videos how much longer than its limit one may be; images have no length."""
    schema: Any = json_schema(MODEL)
    described = {name: schema["properties"][name]["description"] for name in ("images", "videos")}
    assert f"may be up to {DURATION_SLACK:g} seconds above its limit" in described["videos"]
    assert "seconds" not in described["images"]


def test_schema_has_the_documented_defaults_and_no_others() -> None:
    """A parameter without a documented default has none in the schema, and no title."""
    schema: Any = json_schema(MODEL)
    properties = schema["properties"]
    assert {name: each["default"] for name, each in properties.items() if "default" in each} == {
        "bgm": False,
        "duration": 5,
        "aspect_ratio": "16:9",
        "resolution": "720p",
        "off_peak": False,
        "watermark": False,
        "wm_position": 3,
    }
    assert not [name for name, each in properties.items() if "title" in each]


def test_schema_refuses_off_peak_until_it_is_allowed() -> None:
    """The schema allows only false for off_peak while the service refuses true."""
    closed: Any = json_schema(MODEL)
    opened: Any = json_schema(MODEL, allow_off_peak=True)
    assert closed["properties"]["off_peak"]["const"] is False
    assert "const" not in opened["properties"]["off_peak"]


def test_schema_patterns_distinguish_addresses_from_inline_media() -> None:
    """The pattern of addresses accepts only addresses, that of inline media only supported data URIs."""
    schema: Any = json_schema(MODEL)
    address, inline = (each["pattern"] for each in schema["properties"]["images"]["items"]["anyOf"])
    assert re.search(address, "https://example.org/cat.png")
    assert not re.search(address, "ftp://example.org/cat.png")
    assert re.search(inline, "data:image/png;base64,AAAA")
    assert not re.search(inline, "data:image/gif;base64,AAAA")


def test_schema_of_an_unknown_model_raises_key_error() -> None:
    """An unknown model raises KeyError."""
    with pytest.raises(KeyError):
        json_schema("gpt")


def test_schemas_are_copies() -> None:
    """A change to one schema does not change the next one."""
    first: Any = json_schema(MODEL)
    first["properties"]["wm_url"]["type"] = "integer"
    second: Any = json_schema(MODEL)
    assert second["properties"]["wm_url"]["type"] == "string"


@pytest.mark.parametrize(
    ("more", "bucket"),
    [
        ({}, "5/720p"),
        ({"duration": 5, "resolution": "720p", "videos": [], "off_peak": False}, "5/720p"),
        ({"duration": 0, "resolution": "1080p"}, "0/1080p"),
        ({"videos": ["https://example.org/cat.mp4"]}, "5/720p/videos"),
        ({"off_peak": True}, "5/720p/off_peak"),
        ({"prompt": "another", "seed": 7, "bgm": True}, "5/720p"),
    ],
)
def test_bucket_has_the_parameters_that_affect_the_run_time(more: dict[str, Any], bucket: str) -> None:
    """Parameters that affect the run time are in the key, with defaults applied; others are not."""
    assert duration_bucket(MODEL, params(**more)) == f"{MODEL}/{bucket}"


def test_bucket_of_a_removed_model_is_its_name() -> None:
    """A stored task of a model that is no longer known still has a key."""
    assert duration_bucket("gone", params()) == "gone"


def test_only_off_peak_is_unavailable() -> None:
    """No other flag is marked as unavailable."""
    flags = {name: field for name, field in MODELS[MODEL].model_fields.items() if field.annotation is bool}
    assert list(flags) == ["bgm", "off_peak", "watermark"]
    marked = [name for name, field in flags.items() if any(isinstance(each, Unavailable) for each in field.metadata)]
    assert marked == ["off_peak"]
