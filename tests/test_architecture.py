"""What the source may and may not contain: read from its syntax trees, and from the import contracts."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("fedsim", "parties", "scenarios")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in FILES}

UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}
ENGINES = {"grpc", "ray", "flwr"}
TERMINALS = {"typer", "rich", "click"}
GLOBAL_STATE = {  # what sets the state of a generator, or the number of threads, for a whole process
    "torch.manual_seed",
    "torch.random.manual_seed",
    "torch.seed",
    "torch.cuda.manual_seed",
    "torch.cuda.manual_seed_all",
    "torch.set_rng_state",
    "torch.set_num_threads",
    "torch.set_num_interop_threads",
    "torch.use_deterministic_algorithms",
    "np.random.seed",
    "numpy.random.seed",
    "np.random.set_state",
    "random.seed",
    "random.setstate",
}
RUN_TEXT = {"eval", "exec", "compile", "__import__"}
LOADERS = {"torch.load", "torch.jit.load", "torch.save", "np.fromstring", "yaml.load", "yaml.unsafe_load"}


def imported(tree: ast.AST) -> Iterator[str]:
    """The full names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def called(tree: ast.AST) -> Iterator[str]:
    """The dotted names of all that a file calls."""
    return (ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))


def files_that_import(names: set[str]) -> set[str]:
    return {path for path, tree in TREES.items() if names & {module.partition(".")[0] for module in imported(tree)}}


def files_that_use(names: set[str]) -> set[str]:
    """The files that name one of these dotted names, called or not, or import it by name."""
    found = set()
    for path, tree in TREES.items():
        used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)}
        if names & (used | set(imported(tree))):
            found.add(path)
    return found


def test_the_scan_reads_the_whole_source() -> None:
    assert {"fedsim/play.py", "fedsim/vfl/shared.py", "parties/labels.py", "scenarios/attacks/cafe.py"} <= set(TREES)
    assert files_that_import({"torch"}) > {"fedsim/seeding.py", "parties/victim.py", "scenarios/defences/clip.py"}
    assert "fedsim/wire.py" in files_that_use({"struct.Struct", "torch.frombuffer", "msgspec.Struct"})


def test_nothing_unpickles() -> None:
    assert files_that_import(UNPICKLERS) == set()
    assert files_that_use(LOADERS) == set()


def test_nothing_runs_text() -> None:
    assert {path for path, tree in TREES.items() if RUN_TEXT & set(called(tree))} == set()


def test_numpy_archives_are_never_opened_with_pickles() -> None:
    loads = [
        (path, {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords})
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"np.load", "np.lib.format.read_array"}
    ]
    assert all(settings.get("allow_pickle", "False") == "False" for _, settings in loads)
    assert "parties/data/npz.py" in {path for path, _ in loads}


def test_global_generators_and_threads_are_set_in_one_place() -> None:
    assert files_that_use(GLOBAL_STATE) == {"fedsim/seeding.py"}


def test_nothing_draws_from_pythons_own_generator() -> None:
    assert files_that_import({"random", "secrets"}) == set()


def test_terminals_are_for_the_command_line_and_reports() -> None:
    found = files_that_import(TERMINALS)
    assert "fedsim/cli/__init__.py" in found
    assert {path for path in found if not path.startswith(("fedsim/cli/", "fedsim/report/"))} == set()


def test_network_engines_have_one_home_each() -> None:
    homes = {engine: files_that_import({engine}) for engine in ENGINES}
    assert homes == {
        "grpc": {"fedsim/transport/grpc.py"},
        "ray": {"fedsim/runtime/ray.py", "fedsim/sweep/tune.py"},
        "flwr": {"fedsim/runtime/flower.py", "fedsim/flower_app.py"},
    }


def awaits_under_a_global_generator(tree: ast.AST) -> list[int]:
    """The lines of what gives way to another task inside ``with ....as_global():``."""
    return [
        inner.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.With | ast.AsyncWith)
        and any(".as_global()" in ast.unparse(item.context_expr) for item in node.items)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Await | ast.AsyncFor | ast.AsyncWith | ast.Yield | ast.YieldFrom)
    ]


def test_nothing_waits_while_the_global_generator_is_borrowed() -> None:
    bad = ast.parse("async def f(rng, net):\n    with rng.child('x').as_global():\n        await net.send()\n")
    assert awaits_under_a_global_generator(bad) == [3]
    assert {path: lines for path, tree in TREES.items() if (lines := awaits_under_a_global_generator(tree))} == {}
    assert sum("as_global()" in ast.unparse(tree) for tree in TREES.values()) >= 2


def test_every_function_is_short() -> None:
    long = {
        f"{path}: {node.name}": node.end_lineno - node.lineno
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.end_lineno is not None and node.end_lineno - node.lineno >= 60
    }
    assert long == {}


def run_python(program: str) -> str:
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.mark.parametrize("module", ["fedsim", "fedsim.cli"])
def test_importing_it_loads_no_heavy_library(module: str) -> None:
    heavy = ("torch", "pandas", "sklearn", "matplotlib", "scipy", "mlxtend")
    program = f"import sys, {module}; print(*sorted(set({heavy!r}) & set(sys.modules)))"
    assert run_python(program) == ""


def test_the_import_contracts_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    ended = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 broken" in ended.stdout
