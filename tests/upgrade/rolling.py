"""A rolling upgrade under load with a key rotation in it: `python -m tests.upgrade.rolling`.

Two web processes and two workers of an earlier release serve clients over one PostgreSQL. The present release migrates
the database; then each process is replaced in turn, and gets the new signing key before the old one. Once the tasks of
the old key have ended, it is removed from each process in turn. Prints a table, and exits with 1 if a callback was
refused, a task was lost or a task has not exactly one bill. Real processes on loopback.
"""

import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import anyio

from service.domain.webhook_secrets import derive_webhook_secret
from tests.acceptance.environment import NEXT_SECRET, SECRET, SETTLED, service
from tests.acceptance.processes import Workspace, until
from tests.acceptance.test_key_rotation import signed_with
from tests.benchmarks.table import machine
from tests.chaos.audit import Audit
from tests.chaos.environment import Environment, open_environment
from tests.chaos.fleet import process_slot
from tests.chaos.kills import migrated
from tests.support.postgres import create_database, drop_database, running_postgres
from tests.upgrade.releases import RELEASES, Release, Runner, unpacked

SWITCHES = {
    "double-callbacks": "0.2",
    "reorder-callbacks": "0.1",
    "late-callbacks": "0.2",
    "callback-lateness": "500ms..2s",
    "slow-create": "0.2",
    "create-delay": "300ms..1s",
    "run-time": "300ms..2500ms",
    "callback-retries": "6",
}
"""Behaviour of the provider; it loses nothing, so that every task has a bill."""

QUIET_SECONDS = 5.0
"""Without a callback of the old key for so long, none follows: more than the lateness and the pauses of repetitions."""

SETTINGS = {"WEBHOOK_SECRETS": derive_webhook_secret(SECRET), "LEASE": "5s", "POLL_FIRST": "1h", "POLL_MAX": "1h"}
"""Nothing is polled, so that a refused callback would leave its task unsettled."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished upgrade: its records, the callback tokens of each key, and callbacks by answered status."""

    audit: Audit
    old_key: int
    new_key: int
    answers: Mapping[int, int]

    @property
    def refused(self) -> int:
        """Return how many callbacks were refused."""
        return sum(count for status, count in self.answers.items() if 400 <= status < 500)

    @property
    def lost(self) -> int:
        """Return how many tasks a client was promised that do not exist or have not ended."""
        ended = {task["id"] for task in self.audit.records.tasks if task["status"] in SETTLED}
        return len(set(self.audit.confirmed.values()) - ended)

    @property
    def faults(self) -> list[str]:
        """Return a sentence for each requirement that is not met."""
        tasks, billed = len(self.audit.records.tasks), self.audit.records.attributable_bills
        checks = {
            f"{self.refused} callbacks were refused": not self.refused,
            f"{self.audit.deferred} callbacks met a process that lacked their key": not self.audit.deferred,
            f"{self.lost} tasks were lost": not self.lost,
            f"{billed} of {tasks} tasks have exactly one bill": billed == tasks == self.audit.bills,
            f"callbacks of the old key {self.old_key}, of the new one {self.new_key}": self.old_key and self.new_key,
        }
        return [*(sentence for sentence, holds in checks.items() if not holds), *self.audit.wrong]

    def table(self) -> str:
        """Return the figures as a Markdown table."""
        audit = self.audit
        figures = {
            "processes replaced": audit.injected["replacements"],
            "tasks": len(audit.confirmed),
            "callbacks acknowledged / deferred (503) / no process reached (repeated)": (
                f"{self.answers.get(204, 0)} / {audit.deferred} / {self.answers.get(502, 0)}"
            ),
            "addresses signed with the old key / the new key": f"{self.old_key} / {self.new_key}",
            "callbacks refused": self.refused,
            "tasks lost": self.lost,
            "bills": audit.bills,
            "tasks with exactly one bill": audit.records.attributable_bills,
            "seconds": round(audit.seconds),
        }
        return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in figures.items())])


async def upgrade_under_load(workspace: Workspace, release: Release, tree: Path, database_url: str) -> Result:
    """Upgrade from `release`, whose source is in `tree`, to this one, and rotate the signing key meanwhile."""
    before = Runner(workspace=workspace, release=release, tree=tree)
    slots = [process_slot("web-1", role="web"), process_slot("web-2", role="web")]
    slots += [process_slot("worker-1", role="worker"), process_slot("worker-2", role="worker")]
    async with open_environment(
        "rolling upgrade", workspace, database_url, slots, web_processes=2, load=4, switches=SWITCHES, **SETTINGS
    ) as environment:
        fleet = environment.fleet
        for slot in slots:
            slot.env = {"PYTHONPATH": str(tree)}
        assert await before.run("old-migrate", "migrate", env=fleet.env) == 0
        await fleet.started()
        await environment.wait_for_progress()
        await migrated(environment)
        await replace_each(environment, f"{NEXT_SECRET},{SECRET}")
        await until(lambda: bool(signed(environment, NEXT_SECRET)), what="a callback of the new key")
        await until_old_key_is_unused(environment)
        await replace_each(environment, NEXT_SECRET)
        await environment.wait_for_progress()
        audit = await environment.audit()
        return Result(
            audit=audit,
            old_key=len(signed(environment, SECRET)),
            new_key=len(signed(environment, NEXT_SECRET)),
            answers=environment.proxy.answers,
        )


async def replace_each(environment: Environment, keys: str) -> None:
    """Replace a web process, a worker, and the others, one at a time, by this release with other signing keys."""
    for slot in (environment.fleet.slots[number] for number in (0, 2, 3, 1)):
        await environment.fleet.replace(slot, {"BOOMERANG_SECRET_KEYS": keys})
        await environment.wait_for_progress(2)


def signed(environment: Environment, key: str) -> dict[str, float]:
    """Return the tokens of callbacks that a key has signed, each with the time of its last callback."""
    return {token: at for token, at in environment.proxy.tokens.items() if signed_with(key, token)}


async def until_old_key_is_unused(environment: Environment) -> None:
    """Wait until every task with an address of the old key has ended, and its late callbacks have come."""
    async with service(environment.fleet.child(environment.fleet.slots[0])) as at:

        async def unused() -> bool:
            known = signed(environment, SECRET)
            if monotonic() - max(known.values()) < QUIET_SECONDS:
                return False
            for task_id in {token.partition("~")[0] for token in known}:
                if (await at.task(task_id))["status"] not in SETTLED:
                    return False
            return True

        await until(unused, what="the end of the tasks of the old key", pause=0.5)


def main() -> int:
    """Run as the module's docstring says; return the exit code."""
    ArgumentParser(prog="python -m tests.upgrade.rolling", description=__doc__).parse_args()
    release = RELEASES[-1]
    with (
        tempfile.TemporaryDirectory(prefix="boomerang-upgrade-") as home,
        running_postgres() as server,
        Workspace(home=Path(home) / "workspace", quiet=True) as workspace,
    ):
        tree, url = unpacked(release, Path(home) / "release"), create_database(server)
        result = anyio.run(upgrade_under_load, workspace, release, tree, url)
        workspace.end()
        drop_database(server, url)
    sys.stdout.write(f"{machine()}\n\nFrom {release.id} to this release:\n\n{result.table()}\n")
    sys.stderr.writelines(f"{fault}\n" for fault in result.faults)
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main())
