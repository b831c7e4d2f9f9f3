"""The form for a new task: from the schema to fields, from a sent form to a request, and back with its faults."""

import json

import pytest

from service.dashboard.forms import Form
from service.dashboard.task_fields import FormField, form_fields, read_value
from service.dashboard.task_request import read_request, shown_again
from service.dashboard.uploads import MAX_KEPT, Upload
from service.domain.blob import Blob
from service.domain.errors import Fault
from service.domain.models.catalog import known_models
from service.domain.models.json_schema import json_schema
from service.domain.task import Json

MODEL = "viduq2_pro_reference"


def fields_of(model: str = MODEL) -> list[FormField]:
    """Return the fields of the form for a model."""
    return form_fields(model, json_schema(model))


def field(name: str) -> FormField:
    """Return one field."""
    return next(each for each in fields_of() if each.name == name)


@pytest.mark.parametrize("model", known_models())
def test_every_parameter_of_every_model_has_a_field(model: str) -> None:
    """The form of each model of the catalog is complete, and what the model requires is required."""
    schema: Json = json_schema(model)
    found = fields_of(model)
    assert [each.name for each in found] == list(schema["properties"])
    assert {each.name for each in found if each.required} == set(schema.get("required", ()))
    assert all(each.help for each in found)


def test_limits_of_the_schema_are_those_of_the_fields() -> None:
    """Numbers, choices, lengths and media have their limits; a number too large for browsers is a text."""
    duration, seed, images = field("duration"), field("seed"), field("images")
    assert (duration.kind, duration.minimum, duration.maximum, duration.value) == ("number", 0, 10, "5")
    assert (seed.kind, seed.maximum) == ("text", 2**63 - 1)
    assert (images.kind, images.maximum, "4 together with videos" in images.help) == ("media", 7, True)
    assert field("resolution").choices == ("540p", "720p", "1080p")
    assert (field("prompt").kind, field("prompt").max_length) == ("long", 5000)
    assert field("off_peak").fixed


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("duration", "", None),
        ("duration", " 7 ", 7),
        ("duration", "5", None),
        ("duration", "0", 0),
        ("seed", "9223372036854775807", 9223372036854775807),
        ("resolution", "1080p", "1080p"),
        ("resolution", "720p", None),
        ("bgm", "on", True),
        ("bgm", "", None),
        ("prompt", "a\r\nb ", "a\nb "),
        ("prompt", "  ", None),
        ("wm_url", " https://example.org/a.png ", "https://example.org/a.png"),
    ],
)
def test_texts_become_values(name: str, text: str, value: object) -> None:
    """An empty field and a default are left out; nothing is rounded; line ends are those that were typed."""
    found, fault = read_value(field(name), text)
    assert fault is None
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text"), [("duration", "5.5"), ("seed", "1e3"), ("prompt", "a\0b"), ("duration", "٣" * 40)]
)
def test_wrong_texts_are_faults(name: str, text: str) -> None:
    """What is no value of the field is a fault of the field."""
    value, fault = read_value(field(name), text)
    assert value is None
    assert fault


def test_media_keep_their_order_and_their_names() -> None:
    """Addresses, stored files, kept files and new files, each with what a person calls it in its fault."""
    upload = Upload(name='<b>"é;.png', media_type="image/png", data=b"new")
    pairs = [
        ("images", "https://example.org/a.png\r\n\r\n https://example.org/b.png "),
        ("images_from", "images.0"),
        ("images_from", "images.7"),
        ("images_kept", "old%7C1.png|data:image/png;base64,b2xk"),
    ]
    blob = Blob(place="images.0", media_type="image/jpeg", sha256="", data=b"stored")
    wanted = read_request(fields_of(), Form(pairs, [("images", upload)]), {"images.0": blob})
    assert wanted.params["images"] == [
        "https://example.org/a.png",
        "https://example.org/b.png",
        "data:image/jpeg;base64,c3RvcmVk",
        "images.7",
        "data:image/png;base64,b2xk",
        "data:image/png;base64,bmV3",
    ]
    faults = [Fault(loc=("params", "images", index), msg="is bad") for index in (0, 2, 3, 4, 5)]
    view = shown_again(wanted, faults)
    shown = next(each for each in view.fields if each.name == "images")
    assert shown.faults == (
        "https://example.org/a.png: is bad",
        "stored here, images.0: is bad",
        "stored here, images.7: is bad",
        "old|1.png: is bad",
        '<b>"é;.png: is bad',
    )
    again = read_request(fields_of(), Form([("images_kept", each.value) for each in shown.kept[1:]]), {})
    assert again.params["images"] == wanted.params["images"][4:]


def test_large_files_are_chosen_again() -> None:
    """A form with faults is no larger than its limit; the field says what is lost."""
    upload = Upload(name="large.png", media_type="image/png", data=bytes(MAX_KEPT))
    wanted = read_request(fields_of(), Form([], [("images", upload)]), {})
    shown = next(each for each in shown_again(wanted, []).fields if each.name == "images")
    assert shown.kept == ()
    assert shown.faults == ("choose 1 file again: too large to keep here",)


@pytest.mark.parametrize("text", ["{", '{"a": 1, "a": 2}', '"\\u0000"', "NaN", "[" * 100, '"\\ud800"'])
def test_odd_json_is_a_fault_of_its_field(text: str) -> None:
    """Metadata that is no strict JSON, or that no database stores, never reaches the task service."""
    wanted = read_request(fields_of(), Form([("metadata", text), ("notify", text)]), {})
    assert {fault.loc for fault in wanted.faults} == {("metadata",), ("notify",)}
    texts = shown_again(wanted, wanted.faults).texts
    assert texts.metadata == text
    assert texts.metadata_faults
    assert texts.notify_faults


def test_address_and_entries_are_one_list() -> None:
    """The address is a webhook entry before the others; without any there is no notify."""
    form = Form([("notify_url", " https://example.org/h "), ("notify", json.dumps({"handler": "telegram"}))])
    assert read_request(fields_of(), form, {}).notify == [
        {"handler": "webhook", "url": "https://example.org/h"},
        {"handler": "telegram"},
    ]
    assert read_request(fields_of(), Form([]), {}).notify is None


def test_fault_without_a_field_stands_above() -> None:
    """Nothing that is wrong is hidden."""
    view = shown_again(read_request(fields_of(), Form([]), {}), [Fault(loc=("params", "gone"), msg="is unknown")])
    assert view.texts.faults == ("gone: is unknown",)
