"""Benchmarks: every op against the ways people have now, side by side in one process."""
