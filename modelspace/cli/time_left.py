"""The end of a progress bar: the time that is left."""

from __future__ import annotations

from rich.progress import ProgressColumn, Task
from rich.text import Text

from modelspace.cli.figures import seconds


class TimeLeft(ProgressColumn):
    """The time left at the present speed, or how long the work has taken while that is not known."""

    #: Seconds between two estimates, so that the number can be read.
    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """The column's text."""
        return Text(time_left(task.time_remaining, task.elapsed, task.finished))


def time_left(remaining: float | None, elapsed: float | None, finished: bool = False) -> str:
    """Text for the time that is left.

    >>> time_left(75.4, 10.0), time_left(4080, 10.0), time_left(0.2, 10.0)
    ('1 min 15 s left', '1 h 8 min left', '1 s left')
    >>> time_left(None, 8.3), time_left(None, None), time_left(0.0, 8.3, finished=True)
    ('8 s so far', '', '')
    """
    if finished:
        return ""
    if remaining is None:
        return "" if elapsed is None else f"{_whole(elapsed)} so far"
    return f"{_whole(remaining)} left"


def _whole(value: float) -> str:
    return f"{max(round(value), 1)} s" if value < 59.5 else seconds(value)
