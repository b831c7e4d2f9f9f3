"""The models that this service knows, as data; adding one is adding an entry.

Source: the vendor's API page of each model, line by line. Where a page leaves a reading open, the one is taken
that refuses nothing which the page documents as valid.
"""

from service.domain.media.limits import MB, MediaLimits
from service.domain.models.json_schema import schema_of
from service.domain.models.parameter_types import (
    Address,
    Choice,
    Flag,
    JsonValue,
    MediaList,
    Model,
    NoEffect,
    Parameter,
    Text,
    Whole,
)

IMAGES = MediaLimits(
    kind="image",
    formats={"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/webp": "webp"},
    max_bytes=50 * MB,
)
VIDEOS = MediaLimits(
    kind="video",
    formats={
        "video/mp4": "mp4",
        "video/x-msvideo": "avi",
        "video/avi": "avi",
        "video/msvideo": "avi",
        "video/vnd.avi": "avi",
        "video/quicktime": "mov",
        "video/mov": "mov",
    },
    max_bytes=100 * MB,
    below_bytes=20 * MB,
    max_seconds=(8.0, 5.0),
)

VIDUQ2_PRO_REFERENCE = Model(
    name="viduq2_pro_reference",
    about="Makes a video whose subjects look like those of the reference images and videos.",
    max_request_bytes=20 * MB,
    parameters=(
        Parameter(
            name="images",
            kind=MediaList(limits=IMAGES, minimum=1, maximum=7, maximum_with={"videos": 4}),
            required=True,
            about="Reference images, by address or as base64 data URIs.",
        ),
        Parameter(
            name="videos",  # the page marks it required, while its notes and Vidu's own page make it optional
            kind=MediaList(limits=VIDEOS, minimum=0, maximum=2),
            about="Reference videos: one of at most 8 seconds, or two of at most 5 seconds each.",
        ),
        Parameter(
            name="prompt",
            kind=Text(max_chars=5000, blank=False),
            required=True,
            about="What the video shall show.",
        ),
        Parameter(name="bgm", kind=Flag(), default=False, about="Add music; no effect when duration is 9 or 10."),
        Parameter(
            name="duration",
            kind=Whole(minimum=0, maximum=10),
            default=5,
            about="Length of the video in seconds; 0 lets the model choose.",
        ),
        Parameter(name="seed", kind=Whole(), about="Random seed; left out or 0 is a random one."),
        Parameter(
            name="aspect_ratio",
            kind=Choice(values=("16:9", "9:16", "4:3", "3:4", "1:1")),
            default="16:9",
            about="Width to height of the video.",
        ),
        Parameter(
            name="resolution",
            kind=Choice(values=("540p", "720p", "1080p")),
            default="720p",
            about="Resolution of the video.",
        ),
        Parameter(
            name="payload",
            kind=Text(max_chars=1_048_576),
            about="The caller's own text; it stays here and comes back in the task's events.",
        ),
        Parameter(
            name="off_peak",
            kind=Flag(unavailable=True),
            default=False,
            about="Run within 48 hours for fewer credits; temporarily unavailable upstream.",
        ),
        Parameter(name="watermark", kind=Flag(), default=False, about="Add a watermark."),
        Parameter(
            name="wm_position",
            kind=Whole(minimum=1, maximum=4),
            default=3,
            about="Where the watermark is: 1 top left, 2 top right, 3 bottom right, 4 bottom left.",
        ),
        Parameter(name="wm_url", kind=Address(), about="Image for the watermark instead of the fixed text."),
        Parameter(name="meta_data", kind=Text(), about="Metadata to go with the task, commonly a JSON object."),
        Parameter(name="callback_url", kind=Address(), about="Where this service shall announce the task's events."),
    ),
    no_effect=(
        NoEffect(
            name="bgm",
            when={"bgm": (True,), "duration": (9, 10)},
            text="bgm has no effect when duration is 9 or 10",
        ),
        NoEffect(
            name="wm_position",
            when={"watermark": (False,)},
            text="wm_position has no effect without watermark",
        ),
        NoEffect(name="wm_url", when={"watermark": (False,)}, text="wm_url has no effect without watermark"),
    ),
    run_time_by=("duration", "resolution", "videos", "off_peak"),
)

MODELS = {model.name: model for model in (VIDUQ2_PRO_REFERENCE,)}


def known_models() -> tuple[str, ...]:
    """Return the names of all models, in the order of the table."""
    return tuple(MODELS)


def json_schema(model: str, *, allow_off_peak: bool = False) -> dict[str, JsonValue]:
    """Return the parameters of `model` as JSON Schema 2020-12; raise KeyError for an unknown model.

    What a schema cannot say (the content of media, sizes in bytes) is in the descriptions.
    """
    return schema_of(MODELS[model], allow_unavailable=allow_off_peak)
