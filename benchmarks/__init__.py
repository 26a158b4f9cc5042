"""Measurements of speed and memory: one runner, one record, one file an entry.

Read `benchmarks/README.md` first. `timing` says how time is taken, `entry` what an entry is.
"""
