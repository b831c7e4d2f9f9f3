"""The OpenAI-shaped video API: translation, forms, refusals, repeated creates, other clients' videos."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.domain.errors import Conflict, QueueFull, StoreUnavailable
from service.domain.task import Status, TaskError
from tests.support.sample_media import image
from tests.unit.api.fakes import KEYS, NOW, FakeApplication, a_task, app_of, client_of, stored_content

MODEL = "viduq2_pro_reference"
URL = "https://example.org/cat.png"
BODY: dict[str, Any] = {"prompt": "a cat", "model": MODEL, "input_reference": {"image_url": URL}}


async def created(client: httpx.AsyncClient, fake: FakeApplication, **parts: Any) -> dict[str, Any]:
    """Create a video; return the parameters of its task."""
    answer = await client.post("/v1/videos", **parts)
    assert answer.status_code == 200, answer.text
    params = fake.accepted[-1].params
    assert isinstance(params, dict)
    return params


@pytest.mark.parametrize(
    ("more", "params"),
    [
        ({}, {}),
        ({"seconds": "8"}, {"duration": 8}),
        ({"seconds": 8, "seed": 3}, {"duration": 8, "seed": 3}),
        ({"size": "720x1280"}, {"aspect_ratio": "9:16", "resolution": "720p"}),
        ({"size": "1792x1024"}, {"aspect_ratio": "16:9", "resolution": "1080p"}),
        ({"size": "540x540"}, {"aspect_ratio": "1:1", "resolution": "540p"}),
    ],
)
async def test_request_becomes_parameters(
    client: httpx.AsyncClient, fake: FakeApplication, more: dict[str, Any], params: dict[str, Any]
) -> None:
    """Seconds, size and references are the model's own parameters; others keep their names."""
    found = await created(client, fake, json=BODY | more)
    assert found == {"prompt": "a cat", "images": [URL], **params}


async def test_form_is_read_like_json(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """Texts get the types of the parameters, lists and objects their shape, files become data URIs."""
    fields = {"prompt": "a cat", "model": MODEL, "bgm": "true", "seconds": "4", "metadata[order]": "17"}
    files = [("input_reference", ("cat.png", image("PNG"))), ("images[]", (None, URL))]
    found = await created(client, fake, data=fields, files=files)
    images = found.pop("images")
    assert found == {"prompt": "a cat", "bgm": True, "duration": 4}
    assert (images[0], images[1][:22]) == (URL, "data:image/png;base64,")
    assert fake.accepted[-1].metadata == {"order": "17"}


async def test_repeated_field_is_a_list(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """Clients of other gateways repeat `images` without brackets; none of their references is dropped."""
    files = [("images", ("1.png", image("PNG"))), ("images", ("2.png", image("PNG"))), ("images[]", (None, URL))]
    found = await created(client, fake, data={"prompt": "a cat"}, files=files)
    assert len(found["images"]) == 3


@pytest.mark.parametrize("name", ["input_reference[image_url]", "input_reference[][image_url]"])
async def test_reference_object_in_a_form(client: httpx.AsyncClient, fake: FakeApplication, name: str) -> None:
    """The SDK writes a reference object of `extra_body` so, one or a list; several of them are several images."""
    files = [("prompt", (None, "a cat")), (name, (None, URL)), (name, (None, URL + "?2"))]
    assert (await created(client, fake, files=files))["images"] == [URL, URL + "?2"]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ([("input_reference[file_id]", (None, "file-1"))], "input_reference", "are of another service"),
        ([("input_reference", ("cat.png", b""))], "input_reference", "is an empty file"),
        ([("input_reference[detail]", (None, "low"))], "input_reference", "must be an uploaded file"),
        ([("subjects[][images][]", (None, URL))], "subjects[][images][]", "in a body of application/json"),
        ([("metadata[chat][id]", (None, "4"))], "metadata[chat][id]", "in a body of application/json"),
    ],
)
async def test_form_that_cannot_be_translated(
    client: httpx.AsyncClient, fake: FakeApplication, fields: Any, param: str, words: str
) -> None:
    """The message says what to send instead, never that a file id is a malformed address."""
    answer = await client.post("/v1/videos", files=[("prompt", (None, "a cat")), *fields])
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert words in error["message"]
    assert not fake.accepted


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ([], None, "an object with a prompt"),
        (BODY | {"seconds": "4.5"}, "seconds", "whole number"),
        (BODY | {"seconds": "99"}, "seconds", "from 0 to 10"),
        (BODY | {"seconds": "4", "duration": 4}, "seconds", "one of them"),
        (BODY | {"size": "1x1"}, "size", "1280x720"),
        (BODY | {"size": "1280x720", "resolution": "720p"}, "size", "one of them"),
        (BODY | {"input_reference": {"file_id": "file-1"}}, "input_reference", "of another service"),
        (
            BODY | {"input_reference": {"image_url": "https://example.org/cat.png", "detail": "low"}},
            "input_reference",
            "must be an uploaded file",
        ),
        (BODY | {"input_reference": {"image_url": "data:text/plain,x"}}, "input_reference", "data:image/png"),
        (BODY | {"input_reference": 5}, "input_reference", "uploaded file"),
        (BODY | {"model": "sora-2"}, "model", "'sora-2' is unknown"),
        (BODY | {"model": "sora-2", "size": "720x1280", "seconds": "12"}, "model", "'sora-2' is unknown"),
        ({"model": MODEL, "prompt": "a cat"}, "input_reference", "is required"),
        (BODY | {"prompt": "\0"}, "prompt", "U+0000"),
        (BODY | {"n": 2}, "n", "unknown parameter"),
    ],
)
async def test_refusal_names_the_key_of_the_request(
    client: httpx.AsyncClient, fake: FakeApplication, body: Any, param: str | None, words: str
) -> None:
    """The SDK shows message, type, code and param; nothing is stored."""
    answer = await client.post("/v1/videos", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (400, "invalid_request_error", "invalid_value")
    assert str(error["param"]).partition(".")[0] == str(param)
    assert words in error["message"]
    assert not fake.accepted


BOUNDARY = {"Content-Type": "multipart/form-data; boundary=b"}
PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\nx\r\n'


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"", {"Content-Type": "multipart/form-data"}),
        (b"", {"Content-Type": f"multipart/form-data; boundary={'b' * 300}"}),
        (PART % b"prompt", {"Content-Type": "multipart/form-data; boundary=b; charset=unicode_escape"}),
        (b"--c\r\n\r\n--c--", BOUNDARY),
        (PART % b"prompt" + b"--b", BOUNDARY),
        (b"--b\r\nX: y\r\n\r\nx\r\n--b--\r\n", BOUNDARY),
        (b"--b\r\n" + b"X: y\r\n" * 100 + b"\r\nx\r\n--b--\r\n", BOUNDARY),
        (b"--b\r\nContent-Disposition: " + b"y" * 9000 + b"\r\n\r\nx\r\n--b--\r\n", BOUNDARY),
        (b"".join(PART % b"f%d" % number for number in range(100)) + b"--b--\r\n", BOUNDARY),
        (PART % b"prompt" + PART % b"prompt" + b"--b--\r\n", BOUNDARY),
        (PART % b"../../etc" + b"--b--\r\n", BOUNDARY),
        (PART % b"a[b][c]" + b"--b--\r\n", BOUNDARY),
        (PART % b"images" + PART % b"images[]" + b"--b--\r\n", BOUNDARY),
    ],
)
async def test_odd_form_is_refused(
    client: httpx.AsyncClient, fake: FakeApplication, content: bytes, headers: dict[str, str]
) -> None:
    """Without, with a long or with another boundary; cut off; with too many headers, fields or forms of one name."""
    answer = await client.post("/v1/videos", content=content, headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert not fake.accepted


async def test_too_many_files_and_large_fields_are_refused(client: httpx.AsyncClient) -> None:
    """A form may have 16 files; a text in it is at most 4 MiB, and the whole body is limited like every other."""
    many = [("input_reference", (f"{number}.png", b"x")) for number in range(17)]
    assert (await client.post("/v1/videos", files=many)).json()["error"]["message"].startswith("the form cannot be")
    large = await client.post("/v1/videos", files={"prompt": (None, b"x" * (5 * 1024 * 1024))})
    assert large.status_code == 400
    huge = await client.post("/v1/videos", files={"input_reference": ("x.png", b"x" * (25 * 1024 * 1024))})
    assert huge.status_code == 413


@pytest.mark.parametrize(
    ("error", "status", "should_retry"),
    [
        (StoreUnavailable("away"), 503, "false"),
        (RuntimeError("broken"), 500, "false"),
        (QueueFull("full"), 429, None),
        (Conflict("another body"), 400, "false"),
    ],
)
async def test_sdk_does_not_repeat_what_may_be_stored(
    fake: FakeApplication, error: Exception, status: int, should_retry: str | None
) -> None:
    """A refusal that stored nothing may be repeated."""
    fake.error = error
    async with client_of(app_of(fake)) as client:
        answer = await client.post("/v1/videos", json=BODY)
    assert (answer.status_code, answer.headers.get("x-should-retry")) == (status, should_retry)


async def test_repeated_create_gets_the_first_task(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """A first request makes a task, also of an equal body; one that the SDK repeats does not, whatever its form."""
    again = {"X-Stainless-Retry-Count": "1", "X-Stainless-Read-Timeout": "600"}
    body = {"prompt": "a cat", "model": MODEL, "images": [URL]}
    for headers, count in (({}, 1), ({"X-Stainless-Retry-Count": "0"}, 2), (again, 2)):
        await created(client, fake, json=body, headers=headers)
        assert len(fake.accepted) == count
    form = [("prompt", (None, "a cat")), ("model", (None, MODEL)), ("images[]", (None, URL))]
    await client.post("/v1/videos", files=form, headers=again)
    assert len(fake.accepted) == 2
    await client.post("/v1/videos", json=body | {"seed": 2}, headers=again)
    assert len(fake.accepted) == 3


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (Status.QUEUED, "queued"),
        (Status.IN_DOUBT, "in_progress"),
        (Status.COMPLETED, "completed"),
        (Status.CANCELED, "failed"),
        (Status.EXPIRED, "failed"),
    ],
)
async def test_status_is_a_word_that_the_sdk_knows(
    client: httpx.AsyncClient, fake: FakeApplication, status: Status, word: str
) -> None:
    """A video that has not ended says when to ask again; a failed one has a reason."""
    fake.add(a_task(status=status, progress=0.5, settled_at=NOW))
    answer = await client.get("/v1/videos/task-1")
    shown = answer.json()
    assert (shown["status"], shown["seconds"], shown["size"]) == (word, "5", "1280x720")
    assert ("openai-poll-after-ms" in answer.headers) == (word in {"queued", "in_progress"})
    assert bool(shown["error"]) == (word == "failed")


async def test_error_of_the_provider_is_shown(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """Code and message are the provider's."""
    fake.add(a_task(status=Status.FAILED, error=TaskError(code="E1", message="no")))
    assert (await client.get("/v1/videos/task-1")).json()["error"] == {"code": "E1", "message": "no"}


async def test_list_has_pages_in_both_orders(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """A page ends where the next one begins."""
    fake.add(*(a_task(number) for number in range(1, 6)))
    for order, ids in (("desc", [5, 4, 3, 2, 1]), ("asc", [1, 2, 3, 4, 5])):
        found: list[str] = []
        after: dict[str, str] = {}
        more = True
        while more:
            page = (await client.get("/v1/videos", params={"limit": 2, "order": order, **after})).json()
            found += [each["id"] for each in page["data"]]
            after, more = {"after": page["last_id"]}, page["has_more"]
        assert found == [f"task-{number}" for number in ids]
    refused = await client.get("/v1/videos?limit=0")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "limit")


async def test_list_goes_on_behind_an_erased_video(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """The last id of a page may be that of a video which has been deleted."""
    fake.add(*(a_task(number, status=Status.COMPLETED) for number in range(1, 4)), a_task(4, erased_at=NOW))
    page = (await client.get("/v1/videos", params={"limit": 2})).json()
    behind = await client.get("/v1/videos", params={"limit": 1, "after": "task-4"})
    assert [each["id"] for each in page["data"]] == ["task-3"]
    assert [each["id"] for each in behind.json()["data"]] == ["task-3"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/videos/task-1/remix", 404),
        ("POST", "/v1/videos/edits", 405),
        ("POST", "/v1/videos/extensions", 405),
        ("POST", "/v1/videos/characters", 405),
        ("GET", "/v1/videos/characters/one", 404),
    ],
)
async def test_unsupported_operation_is_named(
    client: httpx.AsyncClient, fake: FakeApplication, method: str, path: str, status: int
) -> None:
    """What the SDK has and this service does not is no wrong address."""
    fake.add(a_task(1, status=Status.COMPLETED))
    answer = await client.request(method, path, json={"prompt": "x"} if method == "POST" else None)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, "not_supported")
    assert error["message"].startswith("this operation is not supported here: ")


@pytest.mark.parametrize(
    ("operation", "status", "code", "words"),
    [
        ("GET /v1/models/sora-2", 404, "not_found", "known are viduq2_pro_reference"),
        ("DELETE /v1/models/sora-2", 405, "not_supported", "only videos and models"),
        ("POST /v1/images/generations", 404, "not_supported", "only videos and models"),
        ("POST /v1/chat/completions", 404, "not_supported", "only videos and models"),
        ("POST /videos", 404, "not_supported", "base_url must be the address of this service with /v1"),
    ],
)
async def test_sdk_reads_the_error_of_every_address(
    client: httpx.AsyncClient, operation: str, status: int, code: str, words: str
) -> None:
    """It shows only `error.message`; another client gets our own form at the same address."""
    method, path = operation.split()
    sdk, other = [await client.request(method, path, headers=sent) for sent in ({"X-Stainless-Lang": "python"}, {})]
    error = sdk.json()["error"]
    assert (sdk.status_code, error["type"], error["code"]) == (status, "invalid_request_error", code)
    assert words in error["message"]
    assert (other.status_code, other.headers["content-type"]) == (status, "application/problem+json")


async def test_sdk_reads_that_its_key_is_unknown(fake: FakeApplication) -> None:
    """Also at an address outside of the video API."""
    async with client_of(app_of(fake, api_keys=KEYS), "wrong") as client:
        refused = await client.get("/v1/models", headers={"X-Stainless-Lang": "node"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_thumbnail_of_a_video_that_just_ended_is_retried(
    client: httpx.AsyncClient, fake: FakeApplication
) -> None:
    """The archive stores the file after the end: the SDK retries, but not for ever."""
    item = {"type": "video", "url": "https://cdn.example.org/v.mp4"}
    for number, ended in ((1, NOW), (2, NOW - timedelta(minutes=2))):
        fake.add(a_task(number, status=Status.COMPLETED, output=(item,), settled_at=ended))
    early, late = [await client.get(f"/v1/videos/task-{number}/content?variant=thumbnail") for number in (1, 2)]
    assert (early.status_code, early.headers["x-should-retry"], early.headers["retry-after"]) == (404, "true", "2")
    assert (late.status_code, "x-should-retry" in late.headers) == (404, False)


async def test_video_is_shown_to_its_client_alone(fake: FakeApplication) -> None:
    """Bob gets the same answer as for a video that does not exist, in each place of an id."""
    fake.add(a_task(client="ann", status=Status.COMPLETED))
    async with client_of(app_of(fake, api_keys=KEYS), "key-of-bob") as bob:
        for path in ("/v1/videos/{}", "/v1/videos/{}/content", "/v1/videos?after={}"):
            hidden, unknown = [await bob.get(path.format(name)) for name in ("task-1", "task-2")]
            assert (hidden.status_code, hidden.json()) == (404, unknown.json())
        assert (await bob.get("/v1/videos")).json()["data"] == []
        for odd in ("..%2f..%2fetc%2fpasswd", "%00", "a" * 65):
            assert (await bob.get(f"/v1/videos/{odd}/content")).status_code == 404


async def test_content_without_an_archive_is_at_the_provider(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """The SDK follows the redirect; a thumbnail and a sprite sheet are not there; an unfinished video is a 409."""
    item = {"type": "video", "url": "https://cdn.example.org/v.mp4"}
    fake.add(a_task(1, status=Status.COMPLETED, output=(item,)), a_task(2))
    found = await client.get("/v1/videos/task-1/content")
    assert (found.status_code, found.headers["location"]) == (302, item["url"])
    for variant, status in (("thumbnail", 404), ("spritesheet", 400), ("poster", 400)):
        assert (await client.get(f"/v1/videos/task-1/content?variant={variant}")).status_code == status
    early = await client.get("/v1/videos/task-2/content")
    assert (early.status_code, early.headers["x-should-retry"]) == (409, "false")


async def test_content_is_the_stored_file(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """With its type and parts, as in our own API."""
    item = {"type": "video", "url": "https://cdn.example.org/v.mp4", "archived_url": "file:///v.mp4"}
    fake.add(a_task(1, status=Status.COMPLETED, output=(item,)))
    fake.stored["file:///v.mp4"] = stored_content(b"the bytes of a video")
    found = await client.get("/v1/videos/task-1/content", headers={"Range": "bytes=4-8"})
    assert (found.status_code, found.content, found.headers["content-type"]) == (206, b"bytes", "video/mp4")
