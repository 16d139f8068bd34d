"""Rules about the code itself: who imports whom, how long things may be, what is documented.

The limits are those of the contributor guide. A failing test names the file, the line and the
observed number.
"""

from __future__ import annotations

import ast
import inspect
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from numpydoc.validate import validate

import adaptivepatch
from adaptivepatch import _MODULE_OF_NAME

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "adaptivepatch"
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES
}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

FUNCTION_LINES_P99 = 45  # without the docstring

(OPTIONAL,) = (c for c in PYPROJECT["tool"]["importlinter"]["contracts"] if c["id"] == "optional")
OPTIONAL_LIBRARIES = set(OPTIONAL["forbidden_modules"])
OPTIONAL_IMPORTS = set(OPTIONAL["ignore_imports"])  # "module -> library"

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[FunctionNode]:
    for node in ast.walk(tree):
        if isinstance(node, FunctionNode):
            yield node


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """Each call with the dotted name of what it calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and top-level name of every import statement and of every `require("name", ...)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]
    for node, name in calls(tree):
        loads = name.rpartition(".")[2] in {"require", "import_module"}
        if loads and node.args and isinstance(node.args[0], ast.Constant):
            yield node.lineno, str(node.args[0].value).partition(".")[0]


def code_lines(function: FunctionNode) -> int:
    length = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        length -= first.end_lineno - first.lineno + 1
    return length


# ------------------------------------------------------------------------------------------ size


def test_package_files_are_found():
    assert "adaptivepatch/errors.py" in TREES


def test_functions_are_short():
    """99 of 100 functions are shorter than 45 lines, without their docstring."""
    lengths = sorted(code_lines(f) for tree in TREES.values() for f in functions(tree))
    assert lengths[int(0.99 * len(lengths))] <= FUNCTION_LINES_P99


# ---------------------------------------------------------------------------------- side effects


def test_only_the_command_line_prints():
    printing = [
        f"{path}:{node.lineno}"
        for path, tree in TREES.items()
        for node, name in calls(tree)
        if name == "print" and not path.startswith("adaptivepatch/cli/")
    ]
    assert printing == []


def test_global_state_is_left_alone():
    """A fit must not disturb the caller: no global defaults, no reseeding of global generators."""
    offences = []
    for path, tree in TREES.items():
        if path == "adaptivepatch/torch_state.py":  # sets such a state and puts it back
            continue
        names = {name for _, name in calls(tree)}
        forks = any(name.endswith(("fork_rng", "seeded")) for name in names)
        for node, name in calls(tree):
            own = name.startswith("torch.Generator(")
            reseeds = name.startswith("torch.") and "manual_seed" in name and not own
            if (
                name.startswith("torch.set_default_")
                or name.endswith("seed_everything")
                or name in {"np.random.seed", "numpy.random.seed", "random.seed", "torch.seed"}
                or (reseeds and not forks)
            ):
                offences.append(f"{path}:{node.lineno} {name}")
    assert offences == []


# --------------------------------------------------------------------------------------- imports


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache", "--no-logo"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(folder), "PATH": "", "COLUMNS": "200"},
    )


def test_import_contracts_are_kept():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("path", "statement", "contract"),
    [
        ("nn/__init__.py", "import adaptivepatch.network", "Imports go down the layers"),
        ("training/trainer.py", "import adaptivepatch.data.frame", "Imports go down the layers"),
        ("helpers.py", "import math", "Imports go down the layers"),
        ("network.py", "import pandas", "pandas stops at the estimators"),
        ("data/windows.py", "import torch", "Data, metrics and errors do without torch"),
        ("estimators/forecaster.py", "import darts", "Each optional library has one importer"),
        ("patchers/fixed.py", "import adaptivepatch.patchers.random", "A patcher is one file"),
        (
            "backbones/patchtst.py",
            "import adaptivepatch.backbones.transformer",
            "Concrete backbones do not import each other",
        ),
        ("network.py", "import adaptivepatch.patchers.fixed", "Network and training know the base"),
    ],
)
def test_a_wrong_import_breaks_its_contract(tmp_path, path, statement, contract):
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "adaptivepatch", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "adaptivepatch" / path).open("a", encoding="utf-8") as file:
        file.write(f"\n{statement}\n")

    result = lint_imports(tmp_path)

    assert result.returncode == 1, result.stdout + result.stderr
    broken = [line for line in result.stdout.splitlines() if " BROKEN" in line]
    assert any(line.startswith(contract) for line in broken), result.stdout


def test_optional_libraries_are_loaded_by_their_own_module_only():
    """Also through `errors.require`, which import-linter cannot see."""
    strangers = []
    for path, tree in TREES.items():
        module = path.removesuffix(".py").replace("/", ".")
        for line, library in imported_modules(tree):
            if library in OPTIONAL_LIBRARIES and f"{module} -> {library}" not in OPTIONAL_IMPORTS:
                strangers.append(f"{path}:{line} {library}")
    assert strangers == []


def test_optional_libraries_are_never_imported_with_their_module():
    """An import at module level would make the extra a requirement."""
    at_import = []
    for path, tree in TREES.items():
        later = [*functions(tree)]
        later += [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in dump(n)]
        inside = {id(child) for node in later for child in ast.walk(node)}
        top = [n for n in ast.walk(tree) if is_import(n) and id(n) not in inside]
        for line, library in imported_modules(ast.Module(top, [])):
            if library in OPTIONAL_LIBRARIES:
                at_import.append(f"{path}:{line} {library}")
    assert at_import == []


def dump(node: ast.If) -> str:
    return ast.unparse(node.test)


def is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def test_the_package_does_not_import_its_own_public_names_from_the_root():
    """`from adaptivepatch import X` would pass by the layers, as X is looked up lazily."""
    offences = [
        f"{path}:{node.lineno} {alias.name}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "adaptivepatch"
        for alias in node.names
        if alias.name in _MODULE_OF_NAME
    ]
    assert offences == []


def test_required_extras_are_declared():
    extras = PYPROJECT["project"]["optional-dependencies"]
    unknown = [
        f"{path}:{node.lineno} {keyword.value.value}"
        for path, tree in TREES.items()
        for node, name in calls(tree)
        if name.rpartition(".")[2] == "require"
        for keyword in node.keywords
        if keyword.arg == "extra" and keyword.value.value not in extras
    ]
    assert unknown == []


LOADED = """
import sys
{action}
heavy = [n for n in ("torch", "sklearn", "scipy", "pandas", "matplotlib") if n in sys.modules]
print("loaded:", *heavy)
"""
SHOW_HELP = """
from adaptivepatch.cli import main
sys.argv = ["adaptivepatch", "--help"]
try:
    main()
except SystemExit as exit:
    assert not exit.code, exit.code
"""


@pytest.mark.parametrize("action", ["import adaptivepatch; dir(adaptivepatch)", SHOW_HELP])
def test_nothing_heavy_is_loaded_by(action):
    result = subprocess.run(
        [sys.executable, "-c", LOADED.format(action=action)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert result.stdout.splitlines()[-1] == "loaded:"


# ---------------------------------------------------------------------------------- public names


def generated(name: str) -> ModuleType:
    """Import a generator from the folder ``tools``."""
    spec = spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def public_objects() -> dict[str, object]:
    return {name: getattr(adaptivepatch, name) for name in _MODULE_OF_NAME}


@pytest.mark.parametrize("name", sorted(_MODULE_OF_NAME))
def test_public_name_resolves_to_the_module_that_defines_it(name):
    value = getattr(adaptivepatch, name)
    assert value.__module__ == _MODULE_OF_NAME[name]
    assert value is getattr(import_module(_MODULE_OF_NAME[name]), name)
    assert name in dir(adaptivepatch)
    assert name in adaptivepatch.__all__


def test_type_checkers_see_the_same_names():
    stub = (PACKAGE / "__init__.pyi").read_text(encoding="utf-8")
    assert stub == generated("generate_stub").render(), "run `make generate`"


def test_unknown_public_name_gets_a_suggestion():
    with pytest.raises(AttributeError, match=r"'Forcaster'. Did you mean 'Forecaster'"):
        adaptivepatch.Forcaster  # noqa: B018


def documented() -> Iterator[tuple[str, set[str]]]:
    """Dotted name of each public object and method, with the numpydoc findings that count for it.

    GL08 no docstring, PR01 parameters missing, PR02 unknown parameters, PR04 parameter without
    type, RT01 no "Returns". A method of at most two arguments may be described in one sentence,
    and an override inherits the description of its arguments; a section that is there is checked.
    """
    for name, value in public_objects().items():
        dotted = f"{_MODULE_OF_NAME[name]}.{name}"
        if not inspect.isclass(value):
            yield dotted, {"GL08", "PR01", "PR02", "PR04", "RT01"}
        elif issubclass(value, Exception):
            yield dotted, {"GL08"}
        else:
            yield dotted, {"GL08", "PR01", "PR02", "PR04"}
            yield from documented_methods(dotted, value)


def documented_methods(dotted: str, owner: type) -> Iterator[tuple[str, set[str]]]:
    for attribute, member in vars(owner).items():
        method = getattr(member, "__func__", member)
        if attribute.startswith("_") or not inspect.isfunction(method):
            continue
        overrides = any(hasattr(base, attribute) for base in owner.__mro__[1:])
        receiver = not isinstance(member, staticmethod)
        num_arguments = len(inspect.signature(method).parameters) - receiver
        has_section = "Parameters\n---" in (inspect.getdoc(method) or "")
        complete = has_section or (num_arguments > 2 and not overrides)
        yield f"{dotted}.{attribute}", {"GL08", "PR01", "PR02"} if complete else {"GL08"}


def test_public_names_are_documented():
    findings = {}
    for dotted, codes in documented():
        for code, text in validate(dotted)["errors"]:
            if code in codes and "'*args'" not in text:
                findings.setdefault(dotted, []).append(text)
    assert findings == {}


def test_modules_say_what_they_hold():
    assert [path for path, tree in TREES.items() if not ast.get_docstring(tree)] == []


# --------------------------------------------------------------------------------------- package


@pytest.mark.slow
def test_wheel_holds_the_package_data(tmp_path):
    options = ["-q", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("adaptivepatch_forecasting-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.py", "py.typed", "*.yaml", "*.json", "*.safetensors", "*.md")
        for path in PACKAGE.rglob(pattern)
    }
    assert expected - held == set()
    assert {name.partition("/")[0] for name in held} == {
        "adaptivepatch",
        wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info",
    }
