"""Benchmarks: the mount beside a plain directory, history with many files, bytes on disk."""
