"""Models for other forecasting libraries: one module per library, which needs its extra."""
