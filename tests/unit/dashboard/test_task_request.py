"""The form for a new task: from the schema to fields, from a sent form to a request, and back with its faults."""

import json
from unittest.mock import AsyncMock

import pytest

from service.dashboard.filled_form import filled_in
from service.dashboard.forms import Form
from service.dashboard.task_fields import FormField, form_fields, read_value
from service.dashboard.task_request import read_request, shown_again
from service.dashboard.uploads import MAX_KEPT, Upload
from service.domain.blob import Blob
from service.domain.errors import Fault
from service.domain.models.catalog import known_models
from service.domain.models.json_schema import json_schema
from service.domain.ports.tasks import BlobStore
from service.domain.task import Json
from tests.unit.api.fakes import a_task

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
    assert [*dict.fromkeys(each.name.partition(".")[0] for each in found)] == list(schema["properties"])
    required = {each.name.partition(".")[0] for each in found if each.required}
    assert required == set(schema.get("required", ()))
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
        "data:image/png;base64,b2xk",
        "data:image/png;base64,bmV3",
    ]
    faults = [Fault(loc=("params", "images", index), msg="is bad") for index in (0, 2, 3, 4)]
    view = shown_again(wanted, [*wanted.faults, *faults])
    shown = next(each for each in view.fields if each.name == "images")
    assert shown.faults == (
        "images.7 is older than RETENTION and deleted here: choose the file again, or leave it out",
        "https://example.org/a.png: is bad",
        "stored here, images.0: is bad",
        "old|1.png: is bad",
        '<b>"é;.png: is bad',
    )
    again = read_request(fields_of(), Form([("images_kept", each.value) for each in shown.kept[1:]]), {})
    assert again.params["images"] == wanted.params["images"][3:]


SUBJECTS = "viduq2_reference2video"


def test_subjects_have_fields_of_their_own() -> None:
    """Each object that the list may have has a field for each of its properties; only the first one is required."""
    found = [each for each in fields_of(SUBJECTS) if each.item]
    assert len(found) == 7 * 3
    assert [(each.name, each.group, each.kind, each.required) for each in found[:4]] == [
        ("subjects.0.id", "Subject 1", "text", True),
        ("subjects.0.images", "Subject 1", "media", True),
        ("subjects.0.voice_id", "Subject 1", "text", False),
        ("subjects.1.id", "Subject 2", "text", False),
    ]
    assert (found[1].maximum, "image/png" in found[1].accept) == (3, True)


def test_subjects_without_a_value_are_left_out() -> None:
    """The list has the objects that were filled in; a fault of one stands beside its field, wherever that is."""
    upload = Upload(name="cat.png", media_type="image/png", data=b"new")
    pairs = [
        ("prompt", "@cat meets @dog"),
        ("subjects.1.id", "cat"),
        ("subjects.3.id", "dog"),
        ("subjects.3.images", "https://example.org/dog.png"),
    ]
    wanted = read_request(fields_of(SUBJECTS), Form(pairs, [("subjects.1.images", upload)]), {})
    assert wanted.params["subjects"] == [
        {"id": "cat", "images": ["data:image/png;base64,bmV3"]},
        {"id": "dog", "images": ["https://example.org/dog.png"]},
    ]
    locs = [
        ("subjects", 0, "images", 0),
        ("subjects", 1, "id"),
        ("subjects", 1),
        ("subjects", 1, "voice_id"),
        ("subjects",),
    ]
    view = shown_again(wanted, [Fault(loc=("params", *loc), msg="is bad") for loc in locs])
    assert {each.name: each.faults for each in view.fields if each.faults} == {
        "subjects.0.id": ("is bad",),
        "subjects.1.images": ("cat.png: is bad",),
        "subjects.3.id": ("is bad", "is bad"),
        "subjects.3.voice_id": ("is bad",),
    }
    assert view.texts.faults == ()


def test_wrong_text_of_a_subject_is_a_fault_of_its_field() -> None:
    """Also where the subject has nothing else, and is left out."""
    wanted = read_request(fields_of(SUBJECTS), Form([("subjects.2.id", "a\0b")]), {})
    assert "subjects" not in wanted.params
    view = shown_again(wanted, wanted.faults)
    assert [each.name for each in view.fields if each.faults] == ["subjects.2.id"]


async def test_subjects_of_another_task_are_filled_in() -> None:
    """Texts, addresses and stored images stand in the fields of their subject, and are sent again as they were."""
    stored = {"media_type": "image/png", "bytes": 3, "sha256": "00"}
    address = "https://example.org/a|cat.png"
    subjects = [{"id": "cat", "images": [stored, address, stored]}, {"id": "dog", "images": [address]}]
    task = a_task(1, model=SUBJECTS, params={"prompt": "@cat meets @dog", "subjects": subjects})
    store = AsyncMock(spec=BlobStore)
    store.stored_at.return_value = {"subjects.0.images.0", "subjects.0.images.2"}
    view = await filled_in(task, fields_of(SUBJECTS), store)
    fields = {each.name: each for each in view.fields}
    assert (fields["subjects.0.id"].value, fields["subjects.1.id"].value) == ("cat", "dog")
    assert (fields["subjects.0.images"].value, fields["subjects.1.images"].value) == ("", address)
    assert [each.label for each in fields["subjects.0.images"].kept] == [
        "stored here, subjects.0.images.0",
        address,
        "stored here, subjects.0.images.2",
    ]
    assert (fields["subjects.2.id"].value, fields["subjects.2.images"].kept) == ("", ())
    pairs = [
        (f"{each.name}{'_from' if kept.label.startswith('stored') else '_kept'}", kept.value)
        for each in view.fields
        for kept in each.kept
    ]
    pairs += [(each.name, each.value) for each in view.fields]
    blobs = {
        place: Blob(place=place, media_type="image/png", sha256="00", data=b"new")
        for place in ("subjects.0.images.0", "subjects.0.images.2")
    }
    again = read_request(fields_of(SUBJECTS), Form(pairs), blobs)
    uri = "data:image/png;base64,bmV3"
    assert again.params["subjects"] == [
        {"id": "cat", "images": [uri, address, uri]},
        {"id": "dog", "images": [address]},
    ]


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
