"""Moments, as programs use them."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc(time_ns: int) -> datetime:
    """Nanoseconds since 1970, cut off at the microsecond."""
    return _EPOCH + timedelta(microseconds=time_ns // 1000)
