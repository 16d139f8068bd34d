"""The benchmark: suites of tasks and arms, protocols that measure them, and a row for each run."""
