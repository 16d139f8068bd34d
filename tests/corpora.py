"""Small corpora in the form that pretraining reads."""

from __future__ import annotations

import numpy as np
import pytest


def write_corpus(path, series, places=None):
    """Write {name: values} as decimals of so many places, or as reals."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = []
    for name, values in series.items():
        values = np.asarray(values, dtype=float)
        known = np.isfinite(values)
        if places is None:
            whole, real = None, [v if ok else None for v, ok in zip(values, known, strict=True)]
        else:
            scaled = np.round(np.where(known, values, 0) * 10**places).astype(int)
            whole = [int(v) if ok else None for v, ok in zip(scaled, known, strict=True)]
            real = None
        rows.append(
            {
                "series_id": name,
                "domain": "test",
                "freq": "h",
                "start": None,
                "n": len(values),
                "n_missing": int((~known).sum()),
                "k": -1 if places is None else places,
                "q": whole,
                "v": real,
            }
        )
    schema = pa.schema(
        [
            ("series_id", pa.string()),
            ("domain", pa.string()),
            ("freq", pa.string()),
            ("start", pa.string()),
            ("n", pa.int64()),
            ("n_missing", pa.int64()),
            ("k", pa.int64()),
            ("q", pa.large_list(pa.int64())),
            ("v", pa.large_list(pa.float64())),
        ]
    )
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path
