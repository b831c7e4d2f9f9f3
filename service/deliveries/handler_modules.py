"""Return which modules of a directory register handlers of this service, from their source, without running them.

A working directory may hold the `handlers/` of another application. Importing its modules could fail or have effects.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

API = "service"
"""The module that handlers import."""

REGISTRY = "Handlers"
"""The class whose objects hold handlers."""

TESTS = ("test_*", "*_test", "conftest")
"""Names of modules that test handlers."""

INIT = "__init__"


@dataclass(frozen=True, kw_only=True)
class Found:
    """The modules of a directory: those to import by name, and the reason for each file that is passed over."""

    modules: dict[str, Path] = field(default_factory=dict)
    passed_over: dict[Path, str] = field(default_factory=dict)


def find_modules(directory: Path, *, every: bool) -> Found:
    """Return the modules of `directory` in the order of their names; those whose names begin with '_' are no handlers.

    Without `every` only modules whose source registers handlers are to be imported, also by a relative import. The
    package itself, `__init__`, is one of them if its source does.
    """
    found, files = Found(), dict(_files(directory))
    registering = _registering(_sources(files, every=every))
    for name, path in files.items():
        if name.startswith("_") and (name != INIT or INIT not in registering):
            continue
        if reason := _reason(name, every=every, registering=name in registering):
            found.passed_over[path] = reason
        else:
            found.modules[name] = path
    return found


def _files(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name and path of each module and package in a directory."""
    for path in sorted(directory.iterdir()):
        if path.suffix == ".py" and path.is_file():
            yield path.stem, path
        elif path.is_dir() and (path / f"{INIT}.py").is_file():
            yield path.name, path


def _sources(files: Mapping[str, Path], *, every: bool) -> dict[str, "Source"]:
    """Return the sources that decide what is imported.

    With `every` that is the package's own, and the others only if it imports some of them: to read the fifty built-in
    modules took a quarter of the processor time of a start.
    """
    own = {INIT: Source.read(files[INIT])} if INIT in files else {}
    if every and not any(source.neighbours for source in own.values()):
        return own
    return {name: Source.read(path) for name, path in files.items()}


def _reason(name: str, *, every: bool, registering: bool) -> str | None:
    if any(fnmatch(name, pattern) for pattern in TESTS):
        return "it is a test"
    if not every and not registering:
        return f"it does not import `{REGISTRY}` from `{API}`"
    if "." in name:
        return "its name has a dot, so that it cannot be imported; give it another"
    return None


@dataclass(frozen=True, kw_only=True)
class Source:
    """What the source of a module says: whether it registers handlers, and which neighbours it imports."""

    registers: bool
    neighbours: frozenset[str] = frozenset()

    @classmethod
    def read(cls, path: Path) -> "Source":
        """Read a module, or the `__init__` of a package."""
        file = path / f"{INIT}.py" if path.is_dir() else path
        try:
            return _source_of(file.read_bytes())
        except OSError:
            return cls(registers=False)


@lru_cache(maxsize=128)  # a start reads the same modules several times: for their settings, and to load them
def _source_of(code: bytes) -> Source:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # no module of handlers may be passed over because of an error in it
        return Source(registers=REGISTRY.encode() in code and API.encode() in code)
    nodes = list(ast.walk(tree))
    return Source(registers=_registers(nodes), neighbours=frozenset(_neighbours(nodes)))


def registers_handlers(path: Path) -> bool:
    """Return whether the source of a module registers handlers itself."""
    return Source.read(path).registers


def _registering(sources: dict[str, Source]) -> set[str]:
    """Return the modules that register handlers themselves or import a neighbour that does."""
    found = {name for name, source in sources.items() if source.registers}
    while more := {name for name, source in sources.items() if source.neighbours & found} - found:
        found |= more
    return found


def _registers(nodes: Sequence[ast.AST]) -> bool:
    """Return whether a module imports the registry of this service, or calls one without importing any."""
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    bound = set(_bound(nodes))
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and not node.level and _is_api(node.module):
            if {"*", REGISTRY} & {alias.name for alias in node.names}:
                return True
        elif isinstance(node, ast.Import) and any(_is_api(alias.name) for alias in node.names) and REGISTRY in used:
            return True
    return REGISTRY in used and REGISTRY not in bound and _calls_registry(nodes)


def _is_api(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] == API


def _calls_registry(nodes: Sequence[ast.AST]) -> bool:
    calls = (node.func for node in nodes if isinstance(node, ast.Call))
    return any(isinstance(called, ast.Name) and called.id == REGISTRY for called in calls)


def _bound(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Yield the names that a module binds; `*` imports bind any name."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom | ast.Import):
            for alias in node.names:
                yield REGISTRY if alias.name == "*" else (alias.asname or alias.name)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _neighbours(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Yield the modules of the same directory that a module imports relatively; `__init__` for names of the package."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            yield from [node.module.partition(".")[0]] if node.module else (alias.name for alias in node.names)
            if not node.module:
                yield INIT
