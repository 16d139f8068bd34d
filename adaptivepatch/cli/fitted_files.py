"""Files for a saved model: their columns become those of the model, by name, type and time zone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptivepatch.cli.about import read_about
from adaptivepatch.cli.screen import note
from adaptivepatch.errors import InvalidFrameError

if TYPE_CHECKING:
    import pandas as pd

    from adaptivepatch.data.steps import Step
    from adaptivepatch.estimators.forecaster import Forecaster


@dataclass(frozen=True)
class Given:
    """Options that say how a file is read; None stands for what the model says.

    Parameters
    ----------
    item_id, timestamp : str, optional
        Names of the key columns of the file.
    date_format : str, optional
        Format of dates in the codes of strftime.
    """

    item_id: str | None
    timestamp: str | None
    date_format: str | None


@dataclass(frozen=True)
class FittedFile:
    """Content of a file, as the model reads it.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows with the key columns and the item ids of the model.
    stamps : pandas.Series
        Stamps of the rows.
    date_format : str, optional
        Format in which the dates are written.
    step : pandas offset or int
        Time step of the model.
    trained_to : pandas.Timestamp or int, optional
        Last stamp of the rows of ``fit``, if it held later rows out.
    """

    frame: pd.DataFrame
    stamps: pd.Series[Any]
    date_format: str | None
    step: Step
    trained_to: Any

    def first_target(self, start: str | None) -> str | int | None:
        """Return the first stamp to evaluate, None for the first possible one.

        Parameters
        ----------
        start : str, optional
            Stamp of ``--start``. Default: the first stamp after those of ``fit``, if it held rows
            out.

        Raises
        ------
        InvalidParameterError
            If the stamp is not written like those of the file.
        InvalidFrameError
            If ``fit`` held rows out, and the file has none after those of ``fit``.
        """
        from adaptivepatch.cli.stamps import as_text, parse_stamp

        if start is not None:
            stamp = parse_stamp(start, "--start", self.stamps, self.date_format)
        elif self.trained_to is None:
            return None
        else:
            later = self.stamps[self.stamps > self.trained_to]
            if later.empty:
                ends = [
                    str(as_text(end, self.step)) for end in (self.trained_to, self.stamps.max())
                ]
                raise InvalidFrameError(
                    "Without --start, the rows after those of fit are evaluated. Those of fit end "
                    f"at {ends[0]!r}, and the file ends at {ends[1]!r}. Pass a file with later "
                    "rows, or --start."
                )
            stamp = later.min()
        return str(stamp) if hasattr(stamp, "isoformat") else int(stamp)


def read_like_fitted(file: Path, folder: Path, forecaster: Forecaster, given: Given) -> FittedFile:
    """Read a file of series for a saved model.

    Stamps that the model had in an index are those of the column that has the name of the index,
    or of the column that `adaptivepatch.cli.stamps.find` finds. Rows are numbered only where
    ``fit`` has numbered them. Dates with offsets are converted to the time zone of the model. Item
    ids are text in a file; an id becomes that of the model with the same text.

    Parameters
    ----------
    file : path
        File to read.
    folder : path
        Folder of the model, with the notes of ``fit``.
    forecaster : Forecaster
        The model.
    given : Given
        Options of the user.

    Raises
    ------
    InvalidFrameError
        If the file cannot be read without guessing, or its dates or ids do not suit the model.
    """
    import pandas as pd

    from adaptivepatch.cli.stamps import moments
    from adaptivepatch.cli.tables import Columns, read_table

    columns, layout = forecaster.columns_, forecaster.history_.layout
    about = read_about(folder)
    by_cli = {} if about is None else about
    date_format = given.date_format or by_cli.get("date_format")
    zone = getattr(forecaster.history_.index[0], "tz", None)
    table = read_table(
        file,
        Columns(
            item_id=given.item_id or (columns["item_id"] if layout.was_long else None),
            timestamp=given.timestamp or (None if layout.stamps_in_index else columns["timestamp"]),
            target=forecaster.channels_,
            date_format=date_format,
            index=layout.timestamp if layout.stamps_in_index else None,
            zone=zone,
            # An earlier version did not note it; it put stamps into the index to number rows only.
            numbered=by_cli.get("rows_are_numbered", about is not None and layout.stamps_in_index),
        ),
    )
    found, frame = table.columns, table.frame
    if found.item_id in frame.columns:
        known = (*forecaster.history_.item_ids, *forecaster.skipped_)
        frame[found.item_id] = _ids_of_model(frame[found.item_id], known)
    names = {found.item_id: columns["item_id"]}
    if found.timestamp is None:
        stamps: pd.Series[Any] = pd.Series(range(len(frame)))
    else:
        stamps = moments(frame[found.timestamp])
        _check_zone(file, stamps, forecaster.history_.index[0])
        names[found.timestamp] = columns["timestamp"]
    trained_to = None
    are_dates = pd.api.types.is_datetime64_any_dtype(stamps.dtype)
    if by_cli.get("rows_held_out") and are_dates == hasattr(last_stamp(forecaster), "isoformat"):
        trained_to = last_stamp(forecaster)
    step = forecaster.freq_
    return FittedFile(_renamed(frame, names), stamps, date_format, step, trained_to)


def last_stamp(forecaster: Forecaster) -> Any:
    """Return the last stamp of all series of fit."""
    return max(index[-1] for index in forecaster.history_.index)


def _ids_of_model(column: pd.Series[Any], known: Sequence[Hashable]) -> pd.Series[Any]:
    """Return item ids that were read as text, those of the model as the model has them."""
    by_text: dict[str, Hashable] = {}
    present = set(column.dropna())
    for id_ in known:
        text = str(id_)
        if text in by_text and text in present:
            raise InvalidFrameError(
                f"Item ids of a file are text. The model has two ids that read {text!r}, "
                f"{by_text[text]!r} and {id_!r}, and either may be meant. Forecast this file in "
                "Python, or rename an id and fit again."
            )
        by_text[text] = id_
    converted = {text for text in present if not isinstance(by_text.get(text, ""), str)}
    unknown = sorted(present - set(by_text))
    if converted and unknown:
        note(
            f"{len(unknown)} of {len(present)} item ids are not those of fit and stay text, such "
            f"as {unknown[0]!r}; the others have the types that they had in fit."
        )
    return column.map(lambda text: by_text.get(text, text)).astype(object)


def _check_zone(file: Path, stamps: pd.Series[Any], fitted: pd.Index[Any]) -> None:
    """Raise if only the dates of the file, or only those of the model, have a time zone."""
    import pandas as pd

    if not (isinstance(fitted, pd.DatetimeIndex) and hasattr(stamps, "dt")):
        return
    zone = getattr(stamps.dt, "tz", None)
    if (zone is None) == (fitted.tz is None):
        return
    has, remedy = "have none", "Write the dates with offsets, such as 2024-01-31T06:00+01:00."
    if zone is not None:
        has, remedy = f"are in {zone}", "Write the dates without offsets."
    raise InvalidFrameError(
        "Dates must have a time zone or an offset from UTC if those of fit had one, and only then. "
        f"Those of fit {f'were in {fitted.tz}' if fitted.tz else 'had none'}; those of "
        f"{file.name!r} {has}. {remedy}"
    )


def _renamed(frame: pd.DataFrame, names: Mapping[str | None, str]) -> pd.DataFrame:
    """Return a frame with other names of columns; columns that have these names are left out."""
    changes = {old: new for old, new in names.items() if old in frame.columns and old != new}
    taken = [name for name in changes.values() if name in frame.columns and name not in changes]
    return frame.drop(columns=taken).rename(columns=changes)
