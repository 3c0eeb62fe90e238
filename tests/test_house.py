"""The rules of the house that no linter knows: wings import alone, files stay short, names stay unique."""

import graphlib
import importlib
import pkgutil
import signal
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "transformers", "llamafactory", "scipy.stats", "matplotlib", "polars", "pandas", "openai")


def packages() -> list[str]:
    """Every package of the three trees, as a dotted name."""
    folders = [
        file.parent for top in ("common", "scripts", "eval") for file in (ROOT / top).rglob("__init__.py")
    ]
    return sorted(".".join(folder.relative_to(ROOT).parts) for folder in folders if "cpu" not in folder.parts)


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_every_package_imports_alone_and_loads_nothing_heavy():
    for package in packages():
        loads = f"import sys, {package}; print(*(name for name in {HEAVY} if name in sys.modules))"
        done = run(loads)
        assert done.returncode == 0, done.stderr
        assert not done.stdout.split(), f"import {package} loads {done.stdout}"


@pytest.mark.parametrize("package", packages())
def test_what_a_package_offers_exists_and_hides_no_module(package: str):
    module = importlib.import_module(package)
    modules = {info.name for info in pkgutil.iter_modules(module.__path__)}
    for name in getattr(module, "__all__", ()):
        assert name not in modules, f"{package}.{name} is a function and a module"
        assert getattr(module, name) is not None


def test_no_file_of_code_is_longer_than_400_lines():
    files = [file for top in ("common", "scripts", "eval") for file in (ROOT / top).rglob("*.py")]
    long = {
        str(file.relative_to(ROOT)): n for file in files if (n := len(file.read_text().splitlines())) > 400
    }
    assert not long


def test_the_help_of_the_command_line_loads_nothing_heavy():
    done = run(f"import sys, socrates; print(*(name for name in {HEAVY} if name in sys.modules))")
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
    shown = subprocess.run(
        [sys.executable, "-m", "socrates", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert shown.returncode == 0 and "simulate" in shown.stdout


def test_ctrl_c_inside_a_command_is_one_line_and_exit_code_130():
    program = """
import sys, time, socrates
@socrates.app.command("wait")
def wait() -> None:
    print("running", flush=True)
    time.sleep(60)
sys.argv = ["socrates", "wait"]
socrates.main()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "running\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.count("\n") == 1 and "run the same command" in err


def test_no_modules_import_one_another_in_a_circle():
    graph = grimp.build_graph("common", "scripts", "eval")
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        tuple(graphlib.TopologicalSorter(imports).static_order())
    except graphlib.CycleError as circle:
        pytest.fail(f"a circle of imports: {' -> '.join(reversed(circle.args[1]))}")
