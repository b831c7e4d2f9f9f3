"""The scenario of a seed: the tasks, faults, crashes and settings of one run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import timedelta
from random import Random
from typing import Any

from tests.simulation.callback_manners import CALLBACK_MANNERS, callback_manners_of
from tests.simulation.crash_points import BY_POSITION, Crash
from tests.simulation.drawn_limits import drawn_client_limits, drawn_credit, drawn_limits
from tests.simulation.key_changes import KeyChange, doubts_of, key_changes_of
from tests.simulation.machine_faults import FullDisk, Jump, Stall
from tests.simulation.manners import MANNERS, manners_of
from tests.simulation.network import NetworkFaults
from tests.simulation.operations import Operations, operations_of

CREATE_POINTS = ("create arrives", "create served")
PLAIN_POINTS = ("iteration", "statement", "before commit", "after commit", *CREATE_POINTS, "callback answered")
SHORT = ("0s", "5s", "30s", "2m")
LONG = ("0s", "5s", "30s", "2m", "10m", "30m", "2h", "6h", "16h")


@dataclass(frozen=True, kw_only=True)
class TaskRequest:
    """A client's request for a task at a time, with an optional webhook and an optional cancellation later."""

    number: int
    at: float
    cancel_after: float | None = None
    webhook: bool = False


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One run.

    `ahead` is the error of each process's clock from the start, in seconds; `burst_share` the share of callbacks that
    count as a burst; with `wake_interval` the only work is a single pass every so many seconds.
    """

    seed: int
    task_requests: tuple[TaskRequest, ...]
    provider: str = "vtrix"
    processes: int = 1
    crashes: tuple[Crash, ...] = ()
    stalls: tuple[Stall, ...] = ()
    restarts: tuple[float, ...] = ()
    network_faults: NetworkFaults = field(default_factory=NetworkFaults)
    switches: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    schedule: tuple[str, ...] = SHORT
    handler_failures: float = 0.0
    handler_slow: float = 0.0
    attackers: int = 0
    replays: int = 0
    commit_delay: float = 0.01
    faithful: bool = False
    ahead: tuple[float, ...] = (0.0, 0.0)
    jumps: tuple[Jump, ...] = ()
    full_disks: tuple[FullDisk, ...] = ()
    key_changes: tuple[KeyChange, ...] = ()
    burst_share: float = 0.0
    wake_interval: float | None = None
    operations: Operations | None = None

    @property
    def true_clocks(self) -> bool:
        """Return whether every clock is right."""
        return not any(self.ahead) and not self.jumps

    @property
    def true_costs(self) -> bool:
        """Return whether no callback with another cost than the bill is accepted unconfirmed."""
        return not self.switches.get("tamper_body")

    @property
    def clock_error(self) -> float:
        """Return the largest error of a process's clock, in seconds."""
        return max(map(abs, self.ahead)) + sum(abs(jump.seconds) for jump in self.jumps)

    def described(self) -> str:
        """Return the fields that differ from their defaults, one a line."""
        plain = Scenario(seed=self.seed, task_requests=())
        changed = [each.name for each in fields(self) if getattr(self, each.name) != getattr(plain, each.name)]
        return "\n".join(f"  {name} = {getattr(self, name)!r}" for name in changed)


PROVIDER_FAULTS: Mapping[str, tuple[float, ...]] = {
    "lose_callbacks": (0.3, 1.0),
    "double_callbacks": (0.5,),
    "late_callbacks": (0.5,),
    "reorder_callbacks": (0.5,),
    "callback_before_reply": (0.4,),
    "native_callbacks": (0.5, 1.0),
    "tamper_body": (0.3,),
    "tamper_payload": (0.3,),
    "tamper_token": (0.3,),
    "cut_callbacks": (0.3,),
    "fail_tasks": (0.3,),
    "lose_create_reply": (0.2, 0.6),
    "drop_create": (0.2,),
    "slow_create": (0.4,),
    "throttle_create": (0.3,),
    "html_500_create": (0.3,),
    "bad_gateway_create": (0.2,),
    "half_create_reply": (0.2,),
    "out_of_credit": (0.2,),
    "completed_at_once": (0.3,),
    "failed_at_once": (0.3,),
    "failed_without_id": (0.2,),
    "throttle_poll": (0.3,),
    "html_500_poll": (0.4,),
    "half_poll_reply": (0.3,),
    "slow_poll": (0.3,),
    "unknown_status": (0.3,),
    "loose_types": (0.5,),
    "outputs": (2, 3),
}
DURATIONS: Mapping[str, tuple[object, ...]] = {
    "run_time": ((2, 8), (5, 40), (60, 400)),
    "queue_time": (0, 0, (0, 20)),
    "create_delay": ((1, 5), (10, 100), (150, 200)),
    "callback_lateness": ((1, 10), (30, 200)),
    "callback_pause": (1, 20),
    "unknown_after_create": (0, 0, 2, 20),
    "retry_after": (0, 3, 20),
}


def scenario_of(seed: int) -> Scenario:
    """Return the scenario of `seed`, with the operations of operators and clients at its end."""
    plain = plain_scenario_of(seed)
    if plain.wake_interval is not None or plain.schedule == LONG:
        return plain  # a platform that sleeps runs no jobs, and weeks of retries take long
    return replace(plain, operations=operations_of(seed, plain.processes))


def plain_scenario_of(seed: int) -> Scenario:
    """Return the scenario of `seed` without operations."""
    extended = _extended(base_scenario_of(seed), Random(f"wider {seed}"))  # noqa: S311 - a run needs a seed, not secrecy
    random = Random(f"deaths {seed}")  # noqa: S311 - the same
    crashes = extended.crashes + _crash_between(random, extended.processes)
    credit_settings, credit_switches = drawn_credit(seed)
    switches = {**extended.switches, **manners_of(seed), **callback_manners_of(seed), **credit_switches}
    settings = {**extended.settings, **credit_settings}
    plain = replace(extended, crashes=crashes, switches=switches, settings=settings)
    if not (key_changes := key_changes_of(seed, processes=2)):
        return plain
    return replace(plain, processes=2, key_changes=key_changes, **doubts_of(seed, switches))


def _crash_between(random: Random, processes: int) -> tuple[Crash, ...]:
    """Return, in two of five cases, a crash while a request or its response is under way."""
    if random.random() < 0.6:
        return ()
    point = random.choice(("callback answered", "callback answered", "create served", "create arrives"))
    count, down = random.randint(1, 4), random.choice((0.1, random.uniform(0, 60)))
    return (Crash(process=random.randrange(processes), point=point, count=count, down=down),)


def _extended(plain: Scenario, random: Random) -> Scenario:
    """Return `plain` with more tasks, crashes at code positions, wrong clocks, full disks, bursts and limits."""
    more = random.choice((0, 0, 0, 1, 2))
    count = len(plain.task_requests)
    position_crashes = random.choice((0, 0, 1, 1, 2))
    return replace(
        plain,
        task_requests=plain.task_requests
        + tuple(_task_request(random, number) for number in range(count, count + more)),
        crashes=plain.crashes[: random.choice((0, 1, 3))]
        + tuple(_crash_at_position(random, plain) for _ in range(position_crashes)),
        ahead=tuple(random.choice((0.0, random.uniform(-3, 3))) for _ in range(2)) if random.random() < 0.2 else (0, 0),
        jumps=(_jump(random, plain),) if random.random() < 0.1 else (),
        full_disks=(_full_disk(random),) if random.random() < 0.15 else (),
        burst_share=random.choice((0.0, 0.0, 0.5, 1.0)),
        wake_interval=random.choice((10.0, 60.0)) if random.random() < 0.06 else None,
        settings={**plain.settings, **drawn_limits(random), **drawn_client_limits(plain.seed)},
    )


def _crash_at_position(random: Random, plain: Scenario) -> Crash:
    return Crash(
        process=random.randrange(plain.processes),
        point=random.choice(("await", "await", *BY_POSITION)),
        count=random.randint(1, random.choice((10, 40, 200))),
        down=random.choice((0.1, 5.0, random.uniform(0, 200))),
        by_position=True,
    )


def _jump(random: Random, plain: Scenario) -> Jump:
    seconds = random.choice((3600.0, -3600.0, 90.0, -90.0))
    return Jump(process=random.randrange(plain.processes), at=random.uniform(0, 60), seconds=seconds)


def _full_disk(random: Random) -> FullDisk:
    return FullDisk(at=random.uniform(0, 40), seconds=random.choice((0.2, 5.0, random.uniform(5, 90))))


def base_scenario_of(seed: int) -> Scenario:
    """Return the simpler scenario of `seed`, without the extensions."""
    random = Random(seed)  # noqa: S311 - a run needs a seed, not secrecy
    count = random.randint(1, 4)
    processes = random.choice((1, 1, 1, 2))
    return Scenario(
        seed=seed,
        task_requests=tuple(_task_request(random, number) for number in range(count)),
        provider=random.choice(("vtrix", "vtrix", "vidu")),
        processes=processes,
        crashes=tuple(_crash(random, processes) for _ in range(random.choice((0, 0, 1, 1, 2, 3)))),
        stalls=tuple(_stall(random, processes) for _ in range(random.choice((0, 0, 0, 1)))),
        restarts=tuple(random.uniform(1, 60) for _ in range(random.choice((0, 0, 0, 1)))),
        network_faults=_network_faults(random),
        switches=_switches(random),
        settings=_settings(random),
        schedule=LONG if random.random() < 0.03 else SHORT,
        handler_failures=random.choice((0.0, 0.0, 0.2, 0.6)),
        handler_slow=random.choice((0.0, 0.0, 0.2, 0.5)),
        attackers=random.choice((0, 0, 2)),
        replays=random.choice((0, 0, 1, 2)),
        commit_delay=random.choice((0.0, 0.01, 0.01, 0.3)),
        faithful=random.random() < 0.01,
    )


def _task_request(random: Random, number: int) -> TaskRequest:
    return TaskRequest(
        number=number,
        at=random.choice((0.0, random.uniform(0, 20))),
        cancel_after=random.uniform(0, 30) if random.random() < 0.1 else None,
        webhook=random.random() < 0.3,
    )


def _crash(random: Random, processes: int) -> Crash:
    point = random.choice(PLAIN_POINTS)
    max_count = {"iteration": 1500, "statement": 400}.get(point, 12 if "commit" in point else 4)
    return Crash(
        process=random.randrange(processes),
        point=point,
        count=random.randint(1, random.randint(1, max_count)),
        down=random.choice((0.1, 5.0, random.uniform(0, 200))),
    )


def _stall(random: Random, processes: int) -> Stall:
    return Stall(process=random.randrange(processes), at=random.uniform(0, 40), seconds=random.uniform(5, 150))


def _network_faults(random: Random) -> NetworkFaults:
    if random.random() < 0.35:
        return NetworkFaults()
    chances = {name: random.choice((0.0, 0.0, 0.05, 0.2)) for name in ("refuse", "cut_request", "cut_reply", "slow")}
    return NetworkFaults(**chances, double=random.choice((0.0, 0.3)), delay=random.choice((0.005, 0.05, 1.0)))


def _switches(random: Random) -> dict[str, object]:
    faults = random.sample(sorted(PROVIDER_FAULTS), random.choice((0, 1, 2, 4, 7)))
    chosen: dict[str, object] = {name: random.choice(PROVIDER_FAULTS[name]) for name in faults}
    return chosen | {name: random.choice(values) for name, values in DURATIONS.items()}


def _settings(random: Random) -> dict[str, Any]:
    return {
        "confirm": random.choice(("always", "always", "always", "never")),
        "on_in_doubt": random.choice(("fail", "fail", "resubmit")),
        "in_doubt_for": timedelta(seconds=random.choice((60, 300, 900))),
        "task_deadline": timedelta(seconds=random.choice((120, 900, 7200, 7200))),
        "lease": timedelta(seconds=random.choice((15, 60))),
        "max_in_flight": random.choice((None, None, None, 1)),
        "public_url": random.choice(("http://service.test",) * 4 + (None,)),
    }


RESETTABLE = ("commit_delay", "ahead", "burst_share", "wake_interval", "operations")


def simpler_scenarios(scenario: Scenario) -> Iterator[Scenario]:
    """Yield scenarios that are a little simpler than this one."""
    for index in range(len(scenario.task_requests)):
        if len(scenario.task_requests) > 1:
            yield replace(scenario, task_requests=scenario.task_requests[:index] + scenario.task_requests[index + 1 :])
    for name in ("crashes", "stalls", "restarts", "jumps", "full_disks", "key_changes"):
        values = getattr(scenario, name)
        for index in range(len(values)):
            yield _with(scenario, name, values[:index] + values[index + 1 :])
    plain = Scenario(seed=scenario.seed, task_requests=())
    for name in ("attackers", "replays", "handler_failures", "handler_slow", "network_faults", "schedule", *RESETTABLE):
        if getattr(scenario, name) != getattr(plain, name):
            yield _with(scenario, name, getattr(plain, name))
    yield from _with_fewer(scenario, "switches", lambda name: name in {*PROVIDER_FAULTS, *MANNERS, *CALLBACK_MANNERS})
    yield from _with_fewer(scenario, "settings", lambda name: name != "public_url")
    yield from _with_fewer_network_faults(scenario)


def _with(scenario: Scenario, name: str, value: Any) -> Scenario:
    return replace(scenario, **{name: value})


def _with_fewer(scenario: Scenario, name: str, may: Callable[[str], bool]) -> Iterator[Scenario]:
    values: Mapping[str, Any] = getattr(scenario, name)
    for one in values:
        if may(one):
            yield _with(scenario, name, {key: value for key, value in values.items() if key != one})


def _with_fewer_network_faults(scenario: Scenario) -> Iterator[Scenario]:
    defaults = asdict(NetworkFaults())
    for name, value in asdict(scenario.network_faults).items():
        if value != defaults[name]:
            yield replace(
                scenario, network_faults=NetworkFaults(**{**asdict(scenario.network_faults), name: defaults[name]})
            )
    for task_request in scenario.task_requests:
        if task_request.webhook or task_request.cancel_after is not None:
            plain = replace(task_request, webhook=False, cancel_after=None)
            yield replace(
                scenario, task_requests=tuple(plain if one is task_request else one for one in scenario.task_requests)
            )
