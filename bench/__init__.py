"""Measurements, run by hand: each prints a table and is bounded in time."""
