"""The benchmark harness: suites of tasks and arms, one record for each run."""
