"""The moments of a cron expression, in UTC."""

from datetime import UTC, datetime

from cronsim import CronSim, CronSimError


def next_after(expression: str, moment: float) -> float:
    """Returns the first moment of an expression behind ``moment``; both in seconds since the epoch.

    Raises:
        ValueError: it is no cron expression, or one that never comes.
    """
    try:
        return next(CronSim(expression, datetime.fromtimestamp(moment, UTC))).timestamp()
    except (CronSimError, StopIteration) as error:
        message = f"{expression!r} is no cron expression: minute, hour, day of month, month, day of week"
        raise ValueError(message) from error
