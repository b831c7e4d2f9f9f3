"""All switches of the stand-in provider, as one frozen dataclass."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Annotated, Any, get_args, get_type_hints

from service.sandbox.switch_types import READERS, Chance, Span, SwitchError, to_json_value


@dataclass(frozen=True, slots=True)
class About:
    """Group and description of a switch, for the help."""

    group: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Switches:
    """Set the sandbox's behaviour; the default is a provider without faults.

    A chance is a probability from 0 to 1 or `First(n)`; a duration is in seconds; a span is in seconds, or a pair from
    which each task draws. Raise `SwitchError` for a value that is out of range.
    """

    key: Annotated[str, About("Access", "The only accepted API key; empty accepts every key.")] = ""
    vendor_key: Annotated[str, About("Access", "Key that signs Vidu-native callbacks of Vtrix tasks.")] = (
        "sandbox-vendor-key"
    )
    callbacks_anywhere: Annotated[bool, About("Access", "Send callbacks to any address, not only to loopback.")] = False
    fetch_images: Annotated[bool, About("Access", "Download images from any address, not only from loopback.")] = False
    public_url: Annotated[str, About("Access", "Base of result addresses; empty: that of the request.")] = ""

    run_time: Annotated[Span, About("Tasks", "Run time of a task: 3s, or 2s..8s.")] = 3.0
    queue_time: Annotated[Span, About("Tasks", "Time that a task waits before it runs.")] = 0.0
    vidu_concurrency: Annotated[
        int, About("Tasks", "Maximum of running Vidu tasks; others are queueing; 0 is no limit.")
    ] = 5
    vtrix_concurrency: Annotated[int, About("Tasks", "Maximum of running Vtrix tasks; 0 is no limit.")] = 0
    fail_tasks: Annotated[Chance, About("Tasks", "The task runs and then fails.")] = 0.0
    any_model: Annotated[bool, About("Tasks", "Accept every model of Vtrix; parameters of others are not checked.")] = (
        False
    )
    tiny_videos: Annotated[bool, About("Tasks", "Serve the same small MP4 as the result of every task.")] = False
    echo_inline: Annotated[bool, About("Tasks", "Return inline media in Vidu's create reply.")] = True

    lose_create_reply: Annotated[Chance, About("Create", "Bill the task, then cut the connection without a reply.")] = (
        0.0
    )
    drop_create: Annotated[Chance, About("Create", "Cut the connection; no task and no bill.")] = 0.0
    slow_create: Annotated[Chance, About("Create", "Reply late; the task exists at once.")] = 0.0
    create_delay: Annotated[Span, About("Create", "Delay of a slow reply.")] = 5.0
    throttle_create: Annotated[Chance, About("Create", "Reply 429; nothing is billed.")] = 0.0
    retry_after: Annotated[float, About("Create", "Retry-After of every 429, in seconds; 0 sends none.")] = 0.0
    html_500_create: Annotated[Chance, About("Create", "Reply 500 with an HTML page; nothing is billed.")] = 0.0
    bad_gateway_create: Annotated[Chance, About("Create", "Bill the task, then reply 502.")] = 0.0
    gateway_timeout_create: Annotated[Chance, About("Create", "Bill the task, then reply 504.")] = 0.0
    half_create_reply: Annotated[Chance, About("Create", "Bill the task, then reply 200 with half of the JSON.")] = 0.0
    out_of_credit: Annotated[
        Chance, About("Create", "Refuse for insufficient credit: 403 (Vtrix), 400 CreditInsufficient (Vidu).")
    ] = 0.0
    completed_at_once: Annotated[Chance, About("Create", "The create reply is already completed.")] = 0.0
    failed_at_once: Annotated[
        Chance, About("Create", "The create reply is already failed; it has an id and is billed.")
    ] = 0.0
    failed_without_id: Annotated[
        Chance, About("Create", "The create reply is 200 and failed, has no id and is not billed.")
    ] = 0.0
    error_in_200_create: Annotated[
        Chance, About("Create", "Refuse for insufficient credit with the status 200; nothing is billed.")
    ] = 0.0
    error_status_create: Annotated[Chance, About("Create", "Bill the task, then reply 500 with its body.")] = 0.0
    bare_create_reply: Annotated[Chance, About("Create", "The create reply has the id and no status.")] = 0.0

    unknown_after_create: Annotated[float, About("Poll", "Time for which a new task is unknown (404).")] = 0.0
    throttle_poll: Annotated[Chance, About("Poll", "Reply 429.")] = 0.0
    html_500_poll: Annotated[Chance, About("Poll", "Reply 500 with an HTML page.")] = 0.0
    bad_gateway_poll: Annotated[Chance, About("Poll", "Reply 502.")] = 0.0
    gateway_timeout_poll: Annotated[Chance, About("Poll", "Reply 504.")] = 0.0
    half_poll_reply: Annotated[Chance, About("Poll", "Reply 200 with half of the JSON.")] = 0.0
    slow_poll: Annotated[Chance, About("Poll", "Reply late.")] = 0.0
    poll_delay: Annotated[Span, About("Poll", "Delay of a slow reply.")] = 5.0
    unknown_status: Annotated[Chance, About("Poll", "Report an unknown status.")] = 0.0
    loose_types: Annotated[Chance, About("Poll", "Send numbers as strings and the error as a bare string.")] = 0.0
    error_in_200_poll: Annotated[Chance, About("Poll", "Report an error of the account with the status 200.")] = 0.0
    other_task_poll: Annotated[Chance, About("Poll", "Reply about another task.")] = 0.0
    mixed_errors: Annotated[bool, About("Poll", "Draw the shape of each Vtrix error from all known ones.")] = False

    odd_ids: Annotated[
        Chance, About("Answers", "The id is a number, has 190 characters, or contains a colon and a slash.")
    ] = 0.0
    odd_words: Annotated[
        Chance, About("Answers", "The status is a synonym, in other case or with other separators.")
    ] = 0.0
    odd_progress: Annotated[Chance, About("Answers", "The progress is a percentage or a text.")] = 0.0
    odd_reasons: Annotated[Chance, About("Answers", "The reason of a failure has another shape.")] = 0.0
    odd_json: Annotated[
        Chance, About("Answers", "A byte-order mark, NaN, a repeated key, half a character, a long echo.")
    ] = 0.0
    odd_encoding: Annotated[Chance, About("Answers", "A wrong Content-Encoding, or gzip that was not requested.")] = 0.0
    wrapped_answers: Annotated[Chance, About("Answers", "The task is nested in an envelope with a code.")] = 0.0

    callbacks: Annotated[bool, About("Callbacks", "Send callbacks.")] = True
    final_callbacks_only: Annotated[bool, About("Callbacks", "Send no callback when a task starts to run.")] = False
    lose_callbacks: Annotated[Chance, About("Callbacks", "Send neither the callback nor its repeats.")] = 0.0
    double_callbacks: Annotated[Chance, About("Callbacks", "Send the callback twice.")] = 0.0
    late_callbacks: Annotated[Chance, About("Callbacks", "Send the callback late.")] = 0.0
    callback_lateness: Annotated[Span, About("Callbacks", "Delay of a late callback.")] = 5.0
    reorder_callbacks: Annotated[
        Chance, About("Callbacks", "Send the final callback before the one about the start.")
    ] = 0.0
    callback_before_reply: Annotated[
        Chance, About("Callbacks", "The task ends and sends its callback before the create reply.")
    ] = 0.0
    native_callbacks: Annotated[
        Chance, About("Callbacks", "Send callbacks of Vtrix tasks with Vidu's body, id and signature.")
    ] = 0.0
    tamper_body: Annotated[Chance, About("Callbacks", "The body reports a wrong outcome.")] = 0.0
    tamper_payload: Annotated[Chance, About("Callbacks", "One character of the payload is changed.")] = 0.0
    tamper_token: Annotated[Chance, About("Callbacks", "One character of the callback address is changed.")] = 0.0
    cut_callbacks: Annotated[Chance, About("Callbacks", "The body is cut in half.")] = 0.0
    slash_callbacks: Annotated[Chance, About("Callbacks", "A slash follows the callback address.")] = 0.0
    encoded_callbacks: Annotated[Chance, About("Callbacks", "The callback address is percent-encoded.")] = 0.0
    probe_callbacks: Annotated[
        Chance, About("Callbacks", "HEAD, OPTIONS and GET probe the address before the callback.")
    ] = 0.0
    gzip_callbacks: Annotated[Chance, About("Callbacks", "The body is compressed.")] = 0.0
    bom_callbacks: Annotated[Chance, About("Callbacks", "A byte-order mark precedes the body.")] = 0.0
    form_callbacks: Annotated[Chance, About("Callbacks", "The body is a form: its fields, or JSON in one of them.")] = (
        0.0
    )
    wrapped_callbacks: Annotated[Chance, About("Callbacks", "The body is nested in an envelope with a code.")] = 0.0
    oversized_callbacks: Annotated[Chance, About("Callbacks", "The body is larger than 2 MiB.")] = 0.0
    wrong_key: Annotated[Chance, About("Callbacks", "Vidu's signature is made with a wrong key.")] = 0.0
    stale_date: Annotated[Chance, About("Callbacks", "Vidu's signed Date is two hours old.")] = 0.0
    callback_retries: Annotated[int, About("Callbacks", "Repeats of a final callback without a 2xx response.")] = 3
    callback_pause: Annotated[float, About("Callbacks", "Pause before each repeat.")] = 1.0
    callback_timeout: Annotated[float, About("Callbacks", "Maximum wait for the response to a callback.")] = 5.0

    url_life: Annotated[float, About("Results", "Lifetime of a result address.")] = 86400.0
    url_expired: Annotated[Chance, About("Results", "The result address has expired when it is returned.")] = 0.0
    not_there_for: Annotated[float, About("Results", "Time after the end for which the file is missing (404).")] = 0.0
    no_result: Annotated[Chance, About("Results", "The task ends completed without any result.")] = 0.0
    result_delay: Annotated[
        float, About("Results", "Time after the end for which a completed task has no result yet.")
    ] = 0.0
    odd_results: Annotated[
        Chance, About("Results", "A result without an address, a relative one, blanks, another nesting.")
    ] = 0.0
    cut_downloads: Annotated[Chance, About("Results", "Cut the download half-way.")] = 0.0
    outputs: Annotated[int, About("Results", "Results of each task.")] = 1
    numeric_duration: Annotated[bool, About("Results", "Send a result's duration as a number, not as a text.")] = False
    bad_results: Annotated[Chance, About("Results", "Serve an HTML page in place of the file.")] = 0.0
    odd_file_encoding: Annotated[
        Chance, About("Results", "Send the file as it is with Content-Encoding UTF-8, aws-chunked, br or an empty one.")
    ] = 0.0
    gzip_downloads: Annotated[Chance, About("Results", "Compress the file although the request excludes it.")] = 0.0
    trailing_bytes: Annotated[Chance, About("Results", "Append bytes behind the end of the file.")] = 0.0
    odd_content_type: Annotated[Chance, About("Results", "Send a wrong Content-Type, an empty one or none.")] = 0.0
    redirects: Annotated[int, About("Results", "Redirects in front of each file.")] = 0

    def __post_init__(self) -> None:
        """Parse every value, so that `"first 3"` and `First(3)` are equal."""
        for name, switch in switch_table().items():
            object.__setattr__(self, name, switch.read(getattr(self, name)))

    def with_changes(self, changes: Mapping[str, object]) -> "Switches":
        """Return the switches with changes in JSON form; raise `SwitchError` for an invalid name or value."""
        unknown = sorted(set(changes) - set(switch_table()))
        if unknown:
            raise SwitchError(f"no switch is called {unknown[0]!r}")
        read: dict[str, Any] = {name: switch_table()[name].read(value) for name, value in changes.items()}
        return replace(self, **read)

    def to_json(self) -> dict[str, object]:
        """Return every switch and its value in JSON form, as `with_changes` accepts them."""
        return {name: to_json_value(getattr(self, name)) for name in switch_table()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Switch:
    """Definition of one switch: name, help, default and type."""

    name: str
    about: About
    default: object
    kind: object

    def read(self, value: object) -> object:
        """Return the parsed value; raise `SwitchError` with the switch's name if it is invalid."""
        try:
            return READERS[self.kind](value)
        except SwitchError as error:
            raise SwitchError(f"{self.name}: {error}") from error


@cache
def switch_table() -> Mapping[str, Switch]:
    """Return the definitions of all switches by name, in the order of the help."""
    hints = get_type_hints(Switches, include_extras=True)
    table = {}
    for item in fields(Switches):
        kind, about = get_args(hints[item.name])
        table[item.name] = Switch(name=item.name, about=about, default=item.default, kind=kind)
    return table
