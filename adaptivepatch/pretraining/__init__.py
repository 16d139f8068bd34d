"""Pretraining of one patcher on many series, for any look-back and compression rate."""
