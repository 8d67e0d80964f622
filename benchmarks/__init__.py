"""Benchmarks: the same work on a plain directory, on a filesystem that does nothing, and on Anabranch."""
