"""The two faces of a forecaster: arrays (`WindowRegressor`) and DataFrames (`Forecaster`)."""
