"""Errors name options of the command that was run, and help lists what is registered."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from adaptivepatch import Forecaster, InvalidParameterError, Trainer
from adaptivepatch.cli import app
from adaptivepatch.cli.parameters import OPTIONS, SETTINGS, option_of_error
from adaptivepatch.registry import BACKBONES, PATCHERS

# Options without a Python parameter: files, output and the process itself.
COMMAND_LINE_ONLY = {
    *("--check-overlap", "--date-format", "--end", "--help", "--holdout", "--json", "--model"),
    *("--out", "--plot"),
    *("--set", "--threads", "--traceback", "--version"),
}


def commands(command, path=()):
    """Yield every command with its path, such as ("datasets", "list")."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


def options_of(command):
    return {name for parameter in command.params for name in parameter.opts if name[:2] == "--"}


def test_every_option_is_in_the_table_or_is_of_the_command_line_only():
    every = set().union(*map(options_of, COMMANDS.values()))
    assert every - COMMAND_LINE_ONLY <= set(OPTIONS)
    assert set(OPTIONS) <= every
    assert COMMAND_LINE_ONLY - every <= {"--help"}
    assert not COMMAND_LINE_ONLY & set(OPTIONS)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_parameter_has_one_option_in_a_command(path):
    given = options_of(COMMANDS[path])
    names = [name for option in given & set(OPTIONS) for name in OPTIONS[option]]
    assert len(names) == len(set(names))


def test_every_parameter_that_fit_can_set_has_an_option_or_a_setting():
    fit = [name for option in options_of(COMMANDS["fit",]) for name in OPTIONS.get(option, ())]
    forecaster = set(Forecaster(1).get_params(deep=False)) - {"trainer"}
    trainer = set(Trainer().get_params())
    assert forecaster | trainer <= {*fit, *SETTINGS}
    assert set(SETTINGS) <= forecaster | trainer
    assert not set(SETTINGS) & set(fit)
    for name, spelling in SETTINGS.items():
        assert spelling == (f"trainer__{name}" if name in trainer else name)


@pytest.mark.parametrize(
    ("path", "parameter", "owner", "expected"),
    [
        (("fit",), "random_state", None, "--seed"),
        (("fit",), "checkpoint", None, "--resume"),
        (("fit",), "refit", "Forecaster", "--no-refit"),
        (("fit",), "max_steps", "Trainer", "--max-steps"),
        (("fit",), "patience", "Trainer", "--set trainer__patience"),
        (("fit",), "loss", None, "--set loss"),
        (("fit",), "bounds", "Forecaster", "--bounds"),
        (("fit",), "transform", None, "--transform"),
        (("fit",), "learning_rate", "GroupPolicyGradient", None),
        (("fit",), "seed", "RandomPatcher", None),
        (("fit",), "recursive", None, None),
        (("fit",), None, None, None),
        (("predict",), "recursive", None, "--recursive"),
        (("predict",), "missing", None, None),
        (("compare",), "seeds", None, "--seeds"),
        (("compare",), "patience", "Trainer", None),
        (("bench", "run"), "seeds", None, "--seed"),
        (("pretrain-patcher",), "batch_size", "PretrainingSettings", "--batch-size"),
        (("demo",), "overwrite", None, "--force"),
    ],
)
def test_an_error_names_the_option_of_the_command(path, parameter, owner, expected):
    error = InvalidParameterError("No.", parameter=parameter, owner=owner)
    assert option_of_error(error, COMMANDS[path]) == expected


def test_errors_of_other_packages_name_no_option():
    assert option_of_error(ValueError("missing"), COMMANDS["fit",]) is None


@pytest.mark.parametrize("command", ["fit", "compare", "pretrain-patcher"])
def test_help_lists_the_registered_patchers(command):
    (option,) = (p for p in COMMANDS[command,].params if p.name == "patcher")
    assert ", ".join(PATCHERS) in option.help
    assert "module:Class of your own" in option.help
    assert ("pretrained" in option.help) == (command != "pretrain-patcher")


def test_help_lists_the_registered_backbones():
    (option,) = (p for p in COMMANDS["fit",].params if p.name == "backbone")
    assert all(name in option.help for name in BACKBONES)


def test_help_of_every_command_loads_neither_torch_nor_pandas():
    program = (
        "import sys\n"
        "from adaptivepatch.cli import app\n"
        f"for path in {[list(path) for path in COMMANDS]}:\n"
        "    app([*path, '--help'], standalone_mode=False)\n"
        "print(sorted({'torch', 'pandas', 'numpy', 'sklearn'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
