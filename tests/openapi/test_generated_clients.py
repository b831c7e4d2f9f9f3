"""Clients that are generated from the document: no warning, and a journey against the running service.

`requirements-dev.txt` brings the generators for Python, one of which needs Java. `.ci/run` installs the programs that
need Node into `.venv/openapi-tools`.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.openapi.runner import ADMIN, service

HERE = Path(__file__).parent
PROGRAMS = Path(sys.executable).parents[1] / "openapi-tools" / "node_modules"
PACKAGE = "boomerang_generated"
UNRELATED = (
    "OpenAPI 3.1 support is still in beta",
    "Failed to get the schema name: null",
    "From (reserved word) cannot be used as model name",
)
"""Warnings of openapi-generator 7.26: two for every document, and one that it has renamed `from`, the first day of a
report, which is a word of Python: no model has that name, and the client reads and writes the parameter.
"""

FOUND = {
    "same": True,
    "status": "completed",
    "metadata": {"chat": 42},
    "output": ["video"],
    "event": "completed",
    "kinds": ["attempt", "callback", "created", "delivery", "event", "poll"],
    "listed": True,
}
"""What the journey of every client finds."""

needs_node = pytest.mark.skipif(
    not (PROGRAMS.is_dir() and shutil.which("node")),
    reason="npm install --no-package-lock --prefix .venv/openapi-tools, with tests/openapi/package.json in that folder",
)


async def completed(*command: str | Path, folder: Path) -> str:
    """Run a program in `folder` with the programs of this environment on its path; return its output if it succeeds."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = await anyio.run_process(
        [str(part) for part in command],
        cwd=folder,
        env=os.environ | {"PATH": path, "NO_COLOR": "1", "FORCE_COLOR": "0"},
        stderr=subprocess.STDOUT,
        check=False,
    )
    output = done.stdout.decode()
    assert done.returncode == 0, output
    return output


async def save_document(base: str, folder: Path) -> Path:
    """Write the document of the running service into `folder`; return its path."""
    async with httpx.AsyncClient(base_url=base, headers={"Authorization": f"Bearer {ADMIN}"}) as client:
        found = await client.get("/openapi.json")
    target = folder / "openapi.json"
    await anyio.Path(target).write_bytes(found.content)
    return target


async def journey(name: str, folder: Path, base: str) -> Any:
    """Run the journey `name` with the package that was generated into `folder`; return what it found."""
    script = HERE / "journeys" / f"{name}.py"
    return json.loads(await completed(sys.executable, script, folder, base, ADMIN, folder=folder))


@pytest.mark.skipif(find_spec("openapi_generator_cli") is None, reason="openapi-generator-cli is not installed")
@pytest.mark.skipif(shutil.which("java") is None, reason="openapi-generator needs Java")
async def test_client_of_openapi_generator(tmp_path: Path) -> None:
    """openapi-generator writes a Python client without a warning of its own, and the client completes a journey."""
    async with service(tmp_path, seed=1) as base:
        found = find_spec("openapi_generator_cli")
        assert found is not None
        assert found.origin is not None
        jar = Path(found.origin).with_name("openapi-generator.jar")
        options = ("-g", "python", "-i", await save_document(base, tmp_path), "-o", "out", "--package-name", PACKAGE)
        output = await completed("java", "-jar", jar, "generate", *options, folder=tmp_path)
        warned = [line for line in output.splitlines() if " WARN " in line or " ERROR " in line]
        assert [line for line in warned if not any(text in line for text in UNRELATED)] == []
        assert await journey("openapi_generator", tmp_path / "out", base) == FOUND


BYTES_CONFIG = """
content_type_overrides:
  video/mp4: application/octet-stream
  video/webm: application/octet-stream
  image/jpeg: application/octet-stream
  image/png: application/octet-stream
  image/webp: application/octet-stream
"""
"""For openapi-python-client, which reads files only as application/octet-stream."""


@pytest.mark.skipif(find_spec("openapi_python_client") is None, reason="openapi-python-client is not installed")
async def test_client_of_openapi_python_client(tmp_path: Path) -> None:
    """openapi-python-client writes a client without a warning, and the client completes a journey."""
    async with service(tmp_path, seed=1) as base:
        document = await save_document(base, tmp_path)
        config = tmp_path / "config.yaml"
        await anyio.Path(config).write_text(BYTES_CONFIG)
        options = ("--path", document, "--meta", "none", "--output-path", f"out/{PACKAGE}", "--fail-on-warning")
        await anyio.Path(tmp_path / "out").mkdir()
        output = await completed("openapi-python-client", "generate", *options, "--config", config, folder=tmp_path)
        assert "warning" not in output.lower()
        assert await journey("openapi_python_client", tmp_path / "out", base) == FOUND


@needs_node
async def test_client_of_openapi_typescript(tmp_path: Path) -> None:
    """The types of openapi-typescript compile under all strict rules with a client, which completes a journey."""
    async with service(tmp_path, seed=1) as base:
        document = await save_document(base, tmp_path)
        (tmp_path / "node_modules").symlink_to(PROGRAMS)
        (tmp_path / "package.json").write_text('{"type": "module"}')
        shutil.copy(HERE / "journeys" / "openapi_typescript.ts", tmp_path / "journey.ts")
        programs = PROGRAMS / ".bin"
        await completed(programs / "openapi-typescript", document, "-o", "boomerang.d.ts", folder=tmp_path)
        strict = ("--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes")
        target = ("--target", "es2022", "--module", "preserve", "--moduleResolution", "bundler")
        await completed(programs / "tsc", *strict, *target, "journey.ts", folder=tmp_path)
        assert json.loads(await completed("node", "journey.js", base, ADMIN, folder=tmp_path)) == FOUND


@needs_node
async def test_linters_find_nothing(tmp_path: Path) -> None:
    """Redocly with its recommended rules and spectral with those of OpenAPI report neither errors nor warnings."""
    async with service(tmp_path, seed=1) as base:
        await save_document(base, tmp_path)
    (tmp_path / "rules.json").write_text('{"extends": ["spectral:oas"]}')
    programs = PROGRAMS / ".bin"
    redocly = await completed(programs / "redocly", "lint", "openapi.json", "--extends", "recommended", folder=tmp_path)
    assert "You have" not in redocly, redocly
    options = ("--ruleset", "rules.json", "--fail-severity", "hint")
    await completed(programs / "spectral", "lint", "openapi.json", *options, folder=tmp_path)
