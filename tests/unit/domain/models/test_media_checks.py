"""Images and videos in the parameters: counts, addresses and data URIs."""

import base64
import hashlib
from typing import Any

import pytest

from service.domain.errors import Fault, InvalidParams
from service.domain.media.limits import Inspector
from service.domain.models.media_descriptors import restore
from service.domain.models.validation import ValidatedParams, validate_params
from service.tasks.media_inspector import MediaInspector
from tests.support.sample_media import MODEL, image, params, uri, video, with_data_uris

PNG = uri("image/png", image())
URL = "https://example.org/cat.png"


def validated(inspect: Inspector | None = None, /, **more: Any) -> ValidatedParams:
    """Validate parameters, with a real inspector unless another one is given."""
    return validate_params(MODEL, params(**more), inspect=inspect or MediaInspector())


def faults(inspect: Inspector | None = None, /, **more: Any) -> tuple[Fault, ...]:
    """Return the faults of invalid parameters."""
    with pytest.raises(InvalidParams) as caught:
        validated(inspect, **more)
    return caught.value.faults


def message(inspect: Inspector | None = None, /, **more: Any) -> str:
    """Return the message of the only fault, which concerns the first item of a list."""
    (fault,) = faults(inspect, **more)
    assert fault.loc[:1] + fault.loc[2:] == ("params", 0)
    return fault.msg


@pytest.mark.parametrize(("images", "videos"), [(1, 0), (7, 0), (1, 1), (4, 1), (4, 2)])
def test_counts_inside_the_limits_pass(images: int, videos: int) -> None:
    """1 to 7 images, or 1 to 4 with 1 or 2 videos."""
    given = {"images": [URL] * images, "videos": [URL] * videos}
    assert validated(**given).params == params(**given)


@pytest.mark.parametrize(
    ("images", "videos", "place", "limit"),
    [
        (0, 0, "images", "1 to 7"),
        (8, 0, "images", "1 to 7"),
        (0, 1, "images", "1 to 4"),
        (5, 1, "images", "1 to 4 images when videos are given, holds 5: remove 1"),
        (7, 2, "images", "1 to 4"),
        (1, 3, "videos", "0 to 2"),
        (100_000, 0, "images", "remove 99993"),
    ],
)
def test_counts_outside_the_limits_are_one_fault(images: int, videos: int, place: str, limit: str) -> None:
    """Too few or too many items are one fault, with the limit that applies."""
    (fault,) = faults(images=[URL] * images, videos=[URL] * videos)
    assert fault.loc == ("params", place)
    assert limit in fault.msg


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org",
        "HTTPS://EXAMPLE.ORG/A.PNG?x=1#y",
        "https://user:secret@example.org:8443/%20",
        "https://例え.jp/猫",
    ],
)
def test_addresses_are_unchanged(address: str) -> None:
    """An http or https address is unchanged in the parameters, and is no blob."""
    result = validated(images=[address])
    assert result.params["images"] == [address]
    assert result.blobs == ()


@pytest.mark.parametrize("item", ["", "cat.png", "iVBORw0KGgo=", "//example.org/cat.png", 5, None, ["x"], {"url": URL}])
def test_item_that_is_neither_address_nor_data_uri_is_refused(item: object) -> None:
    """The message names both forms that an item may have."""
    text = message(images=[item])
    assert "http or https address" in text
    assert "data:image/png;base64," in text


@pytest.mark.parametrize(
    "item", ["ftp://example.org/cat.png", "file:///etc/passwd", "https://", "https:///x", "http://[x/"]
)
def test_address_of_another_scheme_or_without_host_is_refused(item: str) -> None:
    """Only http and https with a host are addresses."""
    assert "http or https address with a host" in message(images=[item])


def test_inline_media_become_descriptors_and_blobs() -> None:
    """An inline value is replaced by its type, size and digest; its bytes become a blob with its place."""
    data, clip = image("JPEG"), video()
    result = validated(images=[URL, uri("image/jpeg", data)], videos=[uri("video/mp4", clip)])
    digest = hashlib.sha256(data).hexdigest()
    assert result.params["images"] == [URL, {"media_type": "image/jpeg", "bytes": len(data), "sha256": digest}]
    assert [(each.place, each.media_type, each.data) for each in result.blobs] == [
        ("images.1", "image/jpeg", data),
        ("videos.0", "video/mp4", clip),
    ]
    assert result.blobs[0].sha256 == digest


def test_blobs_and_parameters_keep_the_callers_order() -> None:
    """Parameters and blobs have the order of the request."""
    clip, picture = uri("video/mp4", video()), uri("image/png", image())
    given = {"videos": [clip], "seed": 1, "prompt": "a cat", "images": [URL, picture]}
    result = validate_params(MODEL, given, inspect=MediaInspector())
    assert list(result.params) == list(given)
    assert [blob.place for blob in result.blobs] == ["videos.0", "images.1"]


def test_restore_returns_the_given_parameters() -> None:
    """Restored parameters equal those of the caller."""
    given = params(images=[URL, PNG], videos=[uri("video/mp4", video())], seed=3)
    result = validated(**given)
    assert with_data_uris(restore(result.params, {each.place: each for each in result.blobs})) == given


def test_restore_names_a_missing_blob() -> None:
    """After the retention period a blob is missing, and the error names it."""
    with pytest.raises(KeyError, match=r"images\.0"):
        restore(validated(images=[PNG]).params, {})


@pytest.mark.parametrize(
    "head",
    [
        "data:image/png;base64,",
        "DATA:image/png;base64,",
        "data:IMAGE/PNG;BASE64,",
        "data:image/png;charset=utf-8;base64,",
    ],
)
def test_head_of_a_data_uri_follows_its_standard(head: str) -> None:
    """Letter case is ignored and further parameters are removed; the restored URI has the plain form."""
    result = validated(images=[head + PNG.partition(",")[2]])
    assert with_data_uris(restore(result.params, {each.place: each for each in result.blobs}))["images"] == [PNG]


@pytest.mark.parametrize(
    "head",
    [
        "data:",
        "data:,",
        "data:base64,",
        "data:;base64,",
        "data:image/png,",
        "data:image/png;base64",
        "data: image/png;base64,",
    ],
)
def test_incomplete_prefix_is_refused(head: str) -> None:
    """Base64 needs its content-type prefix; the message shows one."""
    assert "must begin like data:image/png;base64," in message(images=[head + "AAAA"])


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("images", "image/gif"), ("images", "video/mp4"), ("videos", "video/webm"), ("videos", "image/png")],
)
def test_unsupported_media_type_is_refused(name: str, media_type: str) -> None:
    """Another media type is refused, and the supported ones are named."""
    text = message(**{name: [f"data:{media_type};base64,AAAA"]})
    assert ("image/webp" if name == "images" else "video/quicktime") in text


@pytest.mark.parametrize(
    "corrupt",
    [
        lambda b: b[:-1],
        lambda b: b + "=",
        lambda b: b[:8] + "\n" + b[8:],
        lambda b: "A%2B" + b[4:],
        lambda b: "-_" + b[2:],
        lambda b: b[:-4] + "QQ==QQ==",
        lambda b: "é" + b[1:],
        lambda b: b[:-4] + "====",
        lambda _: "A===",
    ],
)
def test_base64_is_strict(corrupt: Any) -> None:
    """The exact alphabet and padding are required, since the provider refuses other base64."""
    body = base64.b64encode(image() + b"\0" * (3 - len(image()) % 3)).decode()
    assert "not strict base64" in message(images=["data:image/png;base64," + corrupt(body)])


@pytest.mark.parametrize("name", ["images", "videos"])
def test_empty_file_is_refused(name: str) -> None:
    """A data URI without content has its own message."""
    media_type = {"images": "image/png", "videos": "video/mp4"}[name]
    assert "is empty" in message(**{name: [f"data:{media_type};base64,"]})
