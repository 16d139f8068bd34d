"""Benchmark harness: protocol, oracle, runner and reports. Nothing else imports it."""
