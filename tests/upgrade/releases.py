"""The earlier releases, and how to run them."""

import io
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.processes import HOST, Child, Workspace, wait_for_response

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Release:
    """A commit that may be in production.

    `head` is the newest migration that it knows. `ready_beside_newer` is True if `/readyz` of a running process
    stays 200 when a newer release migrates the database. `reads_inbox` is True if it records unread callbacks of
    other processes, and computes the digest of a callback as the current release does. `shares_inputs` is True if
    it stores equal inputs once. `knows_forms` is True if it delivers callbacks in the form of the provider's API.
    `refused_settings` are newer than it and stop its start; it takes EGRESS_ALLOW for NOTIFY_ALLOW.
    """

    commit: str
    head: str
    ready_beside_newer: bool = True
    reads_inbox: bool = True
    shares_inputs: bool = True
    knows_forms: bool = True
    refused_settings: frozenset[str] = frozenset()

    @property
    def id(self) -> str:
        """Return a short name for tests."""
        return self.commit[:7]


RELEASES = (
    Release(
        commit="ab92e454ce1c2d9bdd6e5d7df5e7c170c97a2020",
        head="0001",
        ready_beside_newer=False,
        reads_inbox=False,
        shares_inputs=False,
        knows_forms=False,
        refused_settings=frozenset({"BOOMERANG_NOTIFY_ALLOW"}),
    ),
    Release(
        commit="c8ad7c5de8c4ce20b5a7f52a813e8575dd2c2d8f",
        head="0002",
        shares_inputs=False,
        knows_forms=False,
        refused_settings=frozenset({"BOOMERANG_NOTIFY_ALLOW"}),
    ),
    Release(commit="236adcb318afb10d26c8ac339608f9de98161e8d", head="0003", knows_forms=False),
    Release(commit="aa12100f3bf786805fd1c4dc9c779109746e1d64", head="0004", knows_forms=False),
    Release(commit="d02eab2c64434f71b8d7c6592890d9a2e2627027", head="0007", knows_forms=False),
    Release(commit="2d336e7597945179fd333c44e3861ea191dfd084", head="0015"),
    Release(commit="d9345d7ebb2f8e39ae4ce475e8ff65d54e8d236b", head="0017"),
)
"""Oldest first. Each new release adds one line here, which is all that the tests of its upgrade need."""


def unpacked(release: Release, into: Path) -> Path:
    """Return `into` with the source tree of the release; skip the test if the history lacks its commit."""
    try:
        packed = subprocess.run(["git", "archive", release.commit], cwd=ROOT, capture_output=True, check=True).stdout  # noqa: S603, S607 - our own history
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", b"").decode().strip() or error
        pytest.skip(f"the history here has no commit {release.id}: a shallow clone, or none at all ({reason})")
    with tarfile.open(fileobj=io.BytesIO(packed)) as tree:
        if hasattr(tarfile, "data_filter"):
            tree.extractall(into, filter="data")
        else:  # Python before 3.11.4
            tree.extractall(into)  # noqa: S202 - an archive of our own git
    return into


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Starts processes of one release in a workspace: its code from `tree`, with the current libraries."""

    workspace: Workspace
    release: Release
    tree: Path

    def start(self, name: str, *arguments: str, env: Mapping[str, str], url: str = "") -> Child:
        """Start `boomerang` of that release with these arguments."""
        return self.workspace.start(name, *arguments, env=self.environment(env), url=url)

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return the settings in `env` that the release knows, and where its code is."""
        known = {name: value for name, value in env.items() if name not in self.release.refused_settings}
        return {**known, "PYTHONPATH": str(self.tree)}

    async def serve(self, name: str, env: Mapping[str, str], port: int) -> Child:
        """Start `boomerang serve` of that release, and wait until it is ready."""
        child = self.start(name, "serve", "--port", str(port), env=env, url=f"http://{HOST}:{port}")
        await wait_for_response(child)
        return child

    async def run(self, name: str, *arguments: str, env: Mapping[str, str]) -> int:
        """Run `boomerang` of that release to its end, and return its exit code."""
        return await self.start(name, *arguments, env=env).ended()
