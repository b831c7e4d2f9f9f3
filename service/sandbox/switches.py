"""Every way in which the stand-in upstream can be made to behave, as one frozen set of switches."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Annotated, Any, get_args, get_type_hints

from service.sandbox.switch_types import READERS, Chance, Span, SwitchError, to_json_value


@dataclass(frozen=True, slots=True)
class About:
    """Say in which group a switch stands, and what it does."""

    group: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Switches:
    """Hold the sandbox's behaviour; the default is an upstream without faults.

    Chances are a probability from 0 to 1 or `First(n)`; durations are seconds; a span is seconds or a pair that
    each task draws from. Raise `SwitchError` for a value that is out of range.
    """

    key: Annotated[str, About("Access", "The only key that is let in; empty lets every key in.")] = ""
    vendor_key: Annotated[str, About("Access", "Signs Vidu-native callbacks of Vtrix tasks.")] = "sandbox-vendor-key"
    callbacks_anywhere: Annotated[bool, About("Access", "Call back to any address, not only to loopback.")] = False
    fetch_images: Annotated[bool, About("Access", "Fetch image addresses anywhere, not only on loopback.")] = False
    public_url: Annotated[str, About("Access", "Base of the result addresses; empty takes it from each request.")] = ""

    run_time: Annotated[Span, About("Tasks", "How long a task runs: 3s, or 2s..8s.")] = 3.0
    queue_time: Annotated[Span, About("Tasks", "How long a task waits before it runs.")] = 0.0
    vidu_concurrency: Annotated[
        int, About("Tasks", "Vidu tasks that run at once, the rest waits queueing; 0 is no limit.")
    ] = 5
    vtrix_concurrency: Annotated[int, About("Tasks", "Vtrix tasks that run at once; 0 is no limit.")] = 0
    fail_tasks: Annotated[Chance, About("Tasks", "The task runs and then fails.")] = 0.0
    tiny_videos: Annotated[bool, About("Tasks", "Serve one small MP4, made once, as the result of every task.")] = False
    echo_inline: Annotated[bool, About("Tasks", "Give inline media back in Vidu's create reply.")] = True

    lose_create_reply: Annotated[
        Chance, About("Create", "Bill the task, then cut the connection without an answer.")
    ] = 0.0
    drop_create: Annotated[Chance, About("Create", "Cut the connection without a task and without a bill.")] = 0.0
    slow_create: Annotated[Chance, About("Create", "Answer late, the task exists at once.")] = 0.0
    create_delay: Annotated[Span, About("Create", "How late slow answers come.")] = 5.0
    throttle_create: Annotated[Chance, About("Create", "Answer 429, nothing is billed.")] = 0.0
    retry_after: Annotated[float, About("Create", "Retry-After of every 429, in seconds; 0 sends none.")] = 0.0
    html_500_create: Annotated[Chance, About("Create", "Answer 500 with a page of HTML, nothing is billed.")] = 0.0
    bad_gateway_create: Annotated[Chance, About("Create", "Bill the task, then answer 502.")] = 0.0
    gateway_timeout_create: Annotated[Chance, About("Create", "Bill the task, then answer 504.")] = 0.0
    half_create_reply: Annotated[Chance, About("Create", "Bill the task, then answer 200 with half of the JSON.")] = 0.0
    out_of_credit: Annotated[
        Chance, About("Create", "Refuse for want of money: 403 (Vtrix), 400 CreditInsufficient (Vidu).")
    ] = 0.0
    completed_at_once: Annotated[Chance, About("Create", "The create reply says completed already.")] = 0.0
    failed_at_once: Annotated[
        Chance, About("Create", "The create reply says failed already; it has an id and is billed.")
    ] = 0.0
    failed_without_id: Annotated[
        Chance, About("Create", "The create reply is 200, failed, without an id, and not billed.")
    ] = 0.0

    unknown_after_create: Annotated[float, About("Poll", "A new task is unknown (404) for so long.")] = 0.0
    throttle_poll: Annotated[Chance, About("Poll", "Answer 429.")] = 0.0
    html_500_poll: Annotated[Chance, About("Poll", "Answer 500 with a page of HTML.")] = 0.0
    bad_gateway_poll: Annotated[Chance, About("Poll", "Answer 502.")] = 0.0
    gateway_timeout_poll: Annotated[Chance, About("Poll", "Answer 504.")] = 0.0
    half_poll_reply: Annotated[Chance, About("Poll", "Answer 200 with half of the JSON.")] = 0.0
    slow_poll: Annotated[Chance, About("Poll", "Answer late.")] = 0.0
    poll_delay: Annotated[Span, About("Poll", "How late slow answers come.")] = 5.0
    unknown_status: Annotated[Chance, About("Poll", "Tell a status word that nobody has heard of.")] = 0.0
    loose_types: Annotated[Chance, About("Poll", "Tell numbers as strings and the error as a bare string.")] = 0.0
    mixed_errors: Annotated[bool, About("Poll", "Draw the shape of each Vtrix error from all that were seen.")] = False

    callbacks: Annotated[bool, About("Callbacks", "Call back at all.")] = True
    final_callbacks_only: Annotated[bool, About("Callbacks", "Say nothing when a task starts to run.")] = False
    lose_callbacks: Annotated[Chance, About("Callbacks", "The callback never comes, nor its repeats.")] = 0.0
    double_callbacks: Annotated[Chance, About("Callbacks", "The callback comes twice.")] = 0.0
    late_callbacks: Annotated[Chance, About("Callbacks", "The callback comes late.")] = 0.0
    callback_lateness: Annotated[Span, About("Callbacks", "How late late callbacks come.")] = 5.0
    reorder_callbacks: Annotated[Chance, About("Callbacks", "The end is told before the start.")] = 0.0
    callback_before_reply: Annotated[
        Chance, About("Callbacks", "The task ends and calls back before its create is answered.")
    ] = 0.0
    native_callbacks: Annotated[
        Chance, About("Callbacks", "Vtrix tasks call back with Vidu's body, id and signature.")
    ] = 0.0
    tamper_body: Annotated[Chance, About("Callbacks", "The body tells another outcome than the truth.")] = 0.0
    tamper_payload: Annotated[Chance, About("Callbacks", "One character of the payload is another.")] = 0.0
    tamper_token: Annotated[Chance, About("Callbacks", "One character of the callback address is another.")] = 0.0
    cut_callbacks: Annotated[Chance, About("Callbacks", "The body is cut in half.")] = 0.0
    wrong_key: Annotated[Chance, About("Callbacks", "Vidu's signature is made with another key.")] = 0.0
    stale_date: Annotated[Chance, About("Callbacks", "Vidu's signed Date is two hours old.")] = 0.0
    callback_retries: Annotated[
        int, About("Callbacks", "Repeats of a final callback that was not answered with 2xx.")
    ] = 3
    callback_pause: Annotated[float, About("Callbacks", "Pause before each repeat.")] = 1.0
    callback_timeout: Annotated[float, About("Callbacks", "How long an answer to a callback is waited for.")] = 5.0

    url_life: Annotated[float, About("Results", "How long a result address lives.")] = 86400.0
    url_expired: Annotated[Chance, About("Results", "The result address is out of date when it is given.")] = 0.0
    not_there_for: Annotated[float, About("Results", "The file is not there yet (404) for so long after the end.")] = (
        0.0
    )
    cut_downloads: Annotated[Chance, About("Results", "The download breaks off half-way.")] = 0.0

    def __post_init__(self) -> None:
        """Bring every value to its one form, so that `"first 3"` and `First(3)` are the same."""
        for name, switch in switch_table().items():
            object.__setattr__(self, name, switch.read(getattr(self, name)))

    def with_changes(self, changes: Mapping[str, object]) -> "Switches":
        """Return these switches with JSON-shaped changes; raise `SwitchError` for a name or value that is wrong."""
        unknown = sorted(set(changes) - set(switch_table()))
        if unknown:
            raise SwitchError(f"no switch is called {unknown[0]!r}")
        read: dict[str, Any] = {name: switch_table()[name].read(value) for name, value in changes.items()}
        return replace(self, **read)

    def to_json(self) -> dict[str, object]:
        """Return every switch and its value, as `with_changes` takes it."""
        return {name: to_json_value(getattr(self, name)) for name in switch_table()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Switch:
    """Describe one switch: what it takes, where it stands in the help, and its default."""

    name: str
    about: About
    default: object
    kind: object

    def read(self, value: object) -> object:
        """Return the value in its one form; raise `SwitchError`, with the switch's name, when it does not fit."""
        try:
            return READERS[self.kind](value)
        except SwitchError as fault:
            raise SwitchError(f"{self.name}: {fault}") from fault


@cache
def switch_table() -> Mapping[str, Switch]:
    """Return every switch by its name, in the order of the help."""
    hints = get_type_hints(Switches, include_extras=True)
    found = {}
    for item in fields(Switches):
        kind, about = get_args(hints[item.name])
        found[item.name] = Switch(name=item.name, about=about, default=item.default, kind=kind)
    return found
