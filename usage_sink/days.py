"""UTC days."""

from datetime import UTC, date, datetime, time, timedelta


def bounds(day: date) -> tuple[datetime, datetime]:
    """The first instant of a UTC day, and the first after it."""
    start = datetime.combine(day, time(), UTC)
    return start, start + timedelta(days=1)
