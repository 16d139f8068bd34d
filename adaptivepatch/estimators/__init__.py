"""The two estimators: `Forecaster` for DataFrames and `WindowRegressor` for arrays."""
