"""The signing key while processes with different keys share a database, over a real store."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.domain.key_ring import KeyRing, fingerprint
from service.runtime import key_agreement
from service.runtime.key_agreement import ENDED_AFTER, LOST_TEXT, RENEWAL_INTERVAL, RETENTION, STALE_AFTER, KeyAgreement
from service.storage import Store, open_store
from tests.support.database_copies import database
from tests.support.task_loop import MovedClock, open_environment

NEW, OLD = "n" * 40, "o" * 40


@dataclass
class Fleet:
    """Processes over one database; their clocks move when they renew."""

    store: Store
    clock: MovedClock = field(default_factory=MovedClock)
    count: int = 0

    async def start(self, *keys: str) -> KeyAgreement:
        """Start a process with `keys`, newest first."""
        self.count += 1
        process = KeyAgreement(
            key_ring=KeyRing(keys), registry=self.store.processes, clock=self.clock, process_id=f"p{self.count}"
        )
        await process.renew()
        return process

    async def renew(self, *processes: KeyAgreement, times: int = 1) -> None:
        """Let an interval pass and processes renew, in turn."""
        for _ in range(times):
            self.clock.move(RENEWAL_INTERVAL)
            for process in processes:
                await process.renew()


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """Yield processes over a new database."""
    async with open_store(await database(tmp_path)) as store:
        yield Fleet(store)


def signing(*processes: KeyAgreement) -> list[str]:
    """Return the first letter of the key that each process signs with."""
    return [process.key_ring.signing[0] for process in processes]


async def test_single_process_signs_with_its_newest_key_at_once(fleet: Fleet) -> None:
    """Without other processes a new key signs from the start, also after a clean restart."""
    before = await fleet.start(OLD)
    await before.remove()
    assert signing(await fleet.start(NEW, OLD)) == ["n"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
async def test_new_key_signs_once_every_process_knows_it(fleet: Fleet, order: tuple[int, ...]) -> None:
    """In whichever order processes restart with the new key, none signs with it while another lacks it."""
    processes = [await fleet.start(OLD) for _ in range(3)]
    for index in order:
        assert set(signing(*processes)) == {"o"}
        await processes[index].remove()
        processes[index] = await fleet.start(NEW, OLD)
    await fleet.renew(*processes)
    assert signing(*processes) == ["n", "n", "n"]


async def test_process_that_lacks_the_new_key_stops_its_use(fleet: Fleet) -> None:
    """When a process starts with older keys, the others sign with a key that it knows again."""
    first = await fleet.start(NEW, OLD)
    late = await fleet.start(OLD)
    assert (signing(first), late.may_lack_keys()) == (["n"], True)
    await fleet.renew(first, late)
    assert (signing(first), late.may_lack_keys()) == (["o"], True)
    await late.remove()
    await fleet.renew(first)
    assert (signing(first), first.may_lack_keys()) == (["n"], False)


async def test_key_that_has_not_signed_is_no_reason_to_doubt(fleet: Fleet) -> None:
    """Another process may know a newer key: while it has not signed, a token that no key verifies is forged."""
    web = await fleet.start(OLD)
    worker = await fleet.start(NEW, OLD)
    await fleet.renew(web, worker)
    assert (signing(worker), web.may_lack_keys()) == (["o"], False)


async def test_crashed_process_is_ignored_after_missed_renewals(fleet: Fleet) -> None:
    """A process that does not renew its registration is counted as ended after some renewals of the others."""
    await fleet.start(OLD)
    process = await fleet.start(NEW, OLD)
    await fleet.renew(process, times=ENDED_AFTER - 1)
    assert signing(process) == ["o"]
    await fleet.renew(process)
    assert signing(process) == ["n"]


@pytest.mark.parametrize("jump", [timedelta(hours=23), timedelta(hours=-23), 3 * RETENTION, -3 * RETENTION])
async def test_clocks_do_not_matter(fleet: Fleet, jump: timedelta) -> None:
    """A jump of the clock, or a suspended machine, makes no live process look ended."""
    old, process = await fleet.start(OLD), await fleet.start(NEW, OLD)
    await fleet.renew(old, process, times=2)
    fleet.clock.move(jump)
    for _ in range(3):
        await fleet.renew(process, times=ENDED_AFTER - 2)
        assert signing(process) == ["o"]
        await fleet.renew(old)


async def test_old_registration_is_ignored_at_once(fleet: Fleet) -> None:
    """Where no process lives for long, as with cron jobs, registrations end after a day."""
    await fleet.start(OLD)
    fleet.clock.move(RETENTION + timedelta(seconds=1))
    assert signing(await fleet.start(NEW, OLD)) == ["n"]


async def test_stale_process_doubts_its_keys(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that cannot renew its registration may lack a key: it stops before the others count it as ended."""
    assert timedelta(seconds=STALE_AFTER) <= (ENDED_AFTER - 2) * RENEWAL_INTERVAL
    unregistered = KeyAgreement(
        key_ring=KeyRing([OLD]), registry=fleet.store.processes, clock=fleet.clock, process_id="p0"
    )
    assert unregistered.may_lack_keys()
    process = await fleet.start(OLD)
    assert not process.may_lack_keys()
    monkeypatch.setattr(key_agreement, "STALE_AFTER", -1.0)
    assert process.may_lack_keys()


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)])
async def test_suspended_process_doubts_its_keys_until_it_renews(fleet: Fleet, jump: timedelta) -> None:
    """The loop's time does not pass while its machine is suspended: keys may have been replaced meanwhile."""
    process = await fleet.start(OLD)
    fleet.clock.move(jump)
    assert process.may_lack_keys()
    await process.renew()
    assert not process.may_lack_keys()


async def test_process_is_registered_by_its_first_renewal(fleet: Fleet) -> None:
    """Until then the newest key is selected, which other processes may lack."""
    await fleet.start(OLD)
    process = KeyAgreement(
        key_ring=KeyRing([NEW, OLD]), registry=fleet.store.processes, clock=fleet.clock, process_id="p0"
    )
    assert (process.registered(), signing(process)) == (False, ["n"])
    await process.renew()
    assert (process.registered(), signing(process)) == (True, ["o"])


async def test_processes_without_a_common_key_sign_with_their_newest(fleet: Fleet) -> None:
    """A key that is replaced at once cannot be safe: it is logged, and each process signs with its own."""
    old = await fleet.start(OLD)
    with capture_logs() as lines:
        new = await fleet.start(NEW)
    assert lines[0]["event"] == "no signing key is known to all processes, the newest signs"
    assert (signing(old, new), new.may_lack_keys()) == (["o", "n"], True)


async def test_log_and_warnings_name_no_key(fleet: Fleet) -> None:
    """The log has fingerprints, never a key."""
    with capture_logs() as lines:
        await fleet.start(OLD)
        await fleet.renew(await fleet.start(NEW, OLD), times=ENDED_AFTER)
    assert fingerprint(NEW) in str(lines)
    assert not any(key[:8] in str(lines) for key in (NEW, OLD))


async def test_removed_key_with_unfinished_tasks_is_reported(tmp_path: Path) -> None:
    """Once no process knows a key that has signed, unfinished tasks of that time are reported until they have ended."""
    async with open_environment(tmp_path) as environment:
        loop = environment.process()
        fleet = Fleet(loop.store, environment.clock)
        before = await fleet.start(OLD)
        environment.clock.move(timedelta(seconds=30))  # it signs until its next renewal
        task = await loop.submitted()
        await before.remove()
        with capture_logs() as lines:
            after = await fleet.start(NEW)
            await fleet.renew(after, times=2)
        assert [line["tasks"] for line in lines if "polls settle" in line["event"]] == [1]
        assert list(after.warnings) == [LOST_TEXT]
        assert not any(char.isdigit() for char in LOST_TEXT)  # anybody may read it
        assert not after.may_lack_keys()
        loop.upstream.set_fact("up1")
        await loop.run_until(task.deadline_at)
        await fleet.renew(after, times=2)
        assert after.warnings == ()
        assert signing(await fleet.start(NEW)) == ["n"]


async def test_removed_key_without_unfinished_tasks_is_deleted(fleet: Fleet) -> None:
    """A key that nothing needs any more is deleted without a word."""
    before = await fleet.start(OLD)
    await before.remove()
    with capture_logs() as lines:
        after = await fleet.start(NEW)
        await fleet.renew(after, times=2)
    assert (lines, after.warnings, after.may_lack_keys()) == ([], (), False)
