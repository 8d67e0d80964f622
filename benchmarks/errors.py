"""What ends a run of the benchmarks with one line instead of a traceback."""


class BenchmarkError(Exception):
    """The run cannot go on: a filesystem gave a wrong answer, or its daemon does not work."""

    exit_code = 1


class UsageError(BenchmarkError):
    """The run cannot start as it was asked for."""

    exit_code = 2
