"""The content of inline images and videos, their size limits, and that of the whole request."""

from fractions import Fraction
from typing import Any

import pytest

from service.domain.errors import Fault, InvalidParams
from service.domain.media.limits import MB, ImageFacts, Inspector, MediaLimits, VideoFacts, frame_faults
from service.domain.models.catalog import MODELS
from service.domain.models.media_checks import MediaList
from service.domain.models.validation import ValidatedParams, validate_params
from service.tasks.media_inspector import MediaInspector
from tests.support.sample_media import MODEL, image, params, sound, uri, video

URL = "https://example.org/cat.png"
PAGE_IN_BYTES = 20 * MB


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


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("image/png", image("PNG")),
        ("image/jpeg", image("JPEG")),
        ("image/jpg", image("JPEG")),
        ("image/webp", image("WEBP")),
    ],
)
def test_supported_images_open(media_type: str, data: bytes) -> None:
    """png, jpeg, jpg and webp are accepted if the content has the declared type."""
    assert validated(images=[uri(media_type, data)]).blobs[0].media_type == media_type


@pytest.mark.parametrize(
    ("media_type", "form"),
    [
        ("video/mp4", "mp4"),
        ("video/quicktime", "mov"),
        ("video/x-msvideo", "avi"),
        ("video/avi", "avi"),
        ("video/msvideo", "avi"),
    ],
)
def test_supported_videos_open(media_type: str, form: str) -> None:
    """mp4, mov and avi are accepted with each of their usual media types."""
    assert validated(videos=[uri(media_type, video(form))]).blobs[0].media_type == media_type


@pytest.mark.parametrize("inspect", [MediaInspector(), MediaInspector(images=False, videos=False)])
@pytest.mark.parametrize(
    ("name", "declared", "data", "fix"),
    [
        ("images", "image/png", image("JPEG"), "declare it image/jpeg"),
        ("images", "image/jpeg", image("WEBP"), "declare it image/webp"),
        ("images", "image/webp", image("PNG"), "declare it image/png"),
        ("images", "image/png", image("GIF"), "send png, jpeg or webp"),
        ("images", "image/png", b"no picture at all", "send png, jpeg or webp"),
        ("videos", "video/mp4", video("avi"), "declare it video/x-msvideo"),
        ("videos", "video/mp4", video("mov"), "declare it video/quicktime"),
        ("videos", "video/quicktime", video("mp4"), "declare it video/mp4"),
        ("videos", "video/mp4", video("matroska"), "send mp4, avi or mov"),
        ("videos", "video/mp4", image("PNG"), "send mp4, avi or mov"),
    ],
)
def test_declared_type_must_match_the_content(
    inspect: MediaInspector, name: str, declared: str, data: bytes, fix: str
) -> None:
    """A file of another type than declared is refused with the fix, with and without a library."""
    assert fix in message(inspect, **{name: [uri(declared, data)]})


@pytest.mark.parametrize(("size", "fault"), [((16384, 16384), False), ((16385, 16384), True), ((2**31 - 1,) * 2, True)])
def test_number_of_pixels_is_bounded(size: tuple[int, int], fault: bool) -> None:
    """A picture that no decoder would open is refused by its size, whatever it weighs."""
    facts = ImageFacts(format="png", width=size[0], height=size[1])
    found = frame_faults(facts, MediaLimits(kind="image", formats={}, max_bytes=1))
    assert found == (
        [f"must have at most 268,435,456 pixels, is {size[0]}x{size[1]}: send a smaller image"] if fault else []
    )


@pytest.mark.parametrize("inspect", [MediaInspector(), MediaInspector(images=False)])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    ("size", "limits"),
    [
        ((128, 128), ()),
        ((127, 128), ("128x128",)),
        ((128, 127), ("128x128",)),
        ((512, 128), ()),
        ((128, 512), ()),
        ((513, 128), ("1:4 to 4:1",)),
        ((128, 513), ("1:4 to 4:1",)),
        ((127, 509), ("128x128", "1:4 to 4:1")),
    ],
)
def test_size_and_ratio_of_images(
    inspect: MediaInspector, form: str, size: tuple[int, int], limits: tuple[str, ...]
) -> None:
    """At least 128x128 pixels and a ratio from 1:4 to 4:1, bounds inclusive; also checked without Pillow."""
    given = [uri(f"image/{form.lower()}", image(form, size))]
    if not limits:
        assert len(validated(inspect, images=given).blobs) == 1
        return
    found = faults(inspect, images=given)
    assert len(found) == len(limits)
    assert all(limit in fault.msg for limit, fault in zip(limits, found, strict=True))


@pytest.mark.parametrize(
    ("size", "limit"),
    [
        ((128, 128), None),
        ((126, 128), "128x128"),
        ((128, 126), "128x128"),
        ((512, 128), None),
        ((128, 512), None),
        ((514, 128), "1:4 to 4:1"),
        ((128, 514), "1:4 to 4:1"),
    ],
)
def test_size_and_ratio_of_videos(size: tuple[int, int], limit: str | None) -> None:
    """Videos have the same limits as images."""
    given = [uri("video/mp4", video(size=size, frames=2))]
    if limit:
        assert limit in message(videos=given)
    else:
        assert len(validated(videos=given).blobs) == 1


@pytest.mark.parametrize(
    ("frames", "rate", "count", "holds"),
    [
        (80, 10, 1, True),
        (81, 10, 1, True),
        (82, 10, 1, False),
        (803, 100, 1, True),
        (193, 24, 1, True),
        (240, Fraction(30000, 1001), 1, True),
        (242, Fraction(30000, 1001), 1, True),
        (243, Fraction(30000, 1001), 1, False),
        (50, 10, 2, True),
        (503, 100, 2, True),
        (52, 10, 2, False),
    ],
)
@pytest.mark.parametrize("form", ["mp4", "avi"])
def test_length_of_videos(form: str, frames: int, rate: Fraction, count: int, *, holds: bool) -> None:
    """One video of 8 seconds or two of 5, with a tenth of a second for the rounding of the container.

    A second video at an address counts as well.
    """
    media_type = {"mp4": "video/mp4", "avi": "video/x-msvideo"}[form]
    given = [uri(media_type, video(form, frames=frames, rate=rate)), *[URL] * (count - 1)]
    if holds:
        assert len(validated(videos=given).blobs) == 1
    else:
        assert f"at most {8 if count == 1 else 5} seconds" in message(videos=given)


def test_file_without_video_stream_is_refused() -> None:
    """A file with audio only is refused although its container is supported."""
    assert "holds no video" in message(videos=[uri("video/mp4", sound())])


def test_one_item_may_have_several_faults() -> None:
    """A small, narrow image under a wrong type has three faults, all at its index."""
    found = faults(images=[URL, uri("image/png", image("JPEG", (20, 100)))])
    assert [fault.loc for fault in found] == [("params", "images", 1)] * 3


def test_damaged_header_is_detected_without_pillow() -> None:
    """The structure is checked without a library: a PNG with a valid start and an invalid header is refused."""
    broken = uri("image/png", image()[:12] + b"nonsense" * 4)
    with pytest.raises(InvalidParams, match="header is damaged"):
        validate_params(MODEL, params(images=[broken]))


def limits_of(name: str) -> MediaList:
    """Return the type of one of the media parameters."""
    (found,) = MODELS[MODEL].model_fields[name].metadata
    assert isinstance(found, MediaList)
    return found


def test_documented_file_sizes_are_in_the_model() -> None:
    """An image has at most 50 MB, a video 100 MB, and less than 20 MB in base64."""
    images, videos = limits_of("images").limits, limits_of("videos").limits
    assert (images.max_bytes, images.below_bytes) == (50 * MB, None)
    assert (videos.max_bytes, videos.below_bytes) == (100 * MB, 20 * MB)


def test_huge_inline_video_is_refused_without_decoding() -> None:
    """The size is known from the length of the base64, so invalid base64 of that length is never decoded."""
    given = "data:video/mp4;base64," + "!" * (20 * MB // 3 * 4 + 4)
    found = faults(videos=[given])
    assert [fault.loc for fault in found] == [("params", "videos", 0), ("params",)]
    assert "less than 20 MB" in found[0].msg


class BrokenInspector:
    """An inspector that fails with an error that is not the caller's fault."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def image(self, data: bytes) -> ImageFacts | None:
        """Fail."""
        del data
        raise self.error

    def video(self, data: bytes) -> VideoFacts | None:
        """Fail."""
        del data
        raise self.error


@pytest.mark.parametrize("error", [ValueError("secret"), AssertionError("secret"), RuntimeError("secret")])
@pytest.mark.parametrize("given", [{"images": [uri("image/png", image())]}, {"videos": [uri("video/mp4", video())]}])
def test_failure_of_an_inspector_is_not_the_callers_fault(error: Exception, given: dict[str, Any]) -> None:
    """An unexpected error of an inspector is raised unchanged, and never becomes a message to the caller."""
    with pytest.raises(type(error)) as caught:
        validated(BrokenInspector(error), **given)
    assert caught.value is error


def padded_to(size: int) -> dict[str, Any]:
    """Return valid parameters whose JSON, as sent to the provider, is `size` bytes long."""
    base = params(meta_data="")
    return base | {"meta_data": "x" * (size - len(MODEL) - json_size(base))}


def json_size(given: dict[str, Any]) -> int:
    """Return the size of parameters as the validation measures it."""
    with pytest.raises(InvalidParams) as caught:
        validate_params(MODEL, given | {"meta_data": "x" * PAGE_IN_BYTES})
    reported = caught.value.faults[0].msg.partition(", is ")[2].partition(" bytes")[0]
    return int(reported.replace(",", "")) - PAGE_IN_BYTES - len(MODEL)


def test_whole_request_has_at_most_20_mb() -> None:
    """20 MB (the larger reading) are accepted; a byte more is a fault of the request, with the fix."""
    assert validate_params(MODEL, padded_to(PAGE_IN_BYTES)).meta_data
    with pytest.raises(InvalidParams) as caught:
        validate_params(MODEL, padded_to(PAGE_IN_BYTES + 1))
    (fault,) = caught.value.faults
    assert fault.loc == ("params",)
    assert "at most 20 MB (20,971,520 bytes), is 20,971,521" in fault.msg


def test_payload_does_not_count_for_the_request() -> None:
    """The caller's payload is replaced by a short token before the request is sent."""
    assert validate_params(MODEL, padded_to(PAGE_IN_BYTES) | {"payload": "p" * 1_048_576}).payload


def test_request_is_measured_as_utf_8() -> None:
    """A character that takes three bytes counts as three."""
    with pytest.raises(InvalidParams, match="whole request"):
        validate_params(MODEL, params(meta_data="語" * (PAGE_IN_BYTES // 3)))
