"""When was a mark reached? A bounded history of a number that only rises: an edge's watermark, or what is complete.

Theory: each report is a point (at, mark); a mark was reached at the first point that is not below it. When the points are too many, every second
one of the older half goes. What a dropped point would have answered, the next one answers: a later time, never an earlier one. So the newest
history is exact, and the older it is, the coarser. Marks up to the first point were reached before anybody looked: their time is not known.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right

POINTS_MAX = 4096


class Timeline:
    """``at``: milliseconds of whatever clock the caller has; one that goes back is held at the newest time known."""

    def __init__(self, points_max: int = POINTS_MAX) -> None:
        if points_max < 4:
            raise ValueError(f"a timeline has at least 4 points, not {points_max}")
        self._points_max = points_max
        self._at = array("q")
        self._marks = array("q")

    def __len__(self) -> int:
        return len(self._marks)

    def reached(self, mark: int, at: int) -> None:
        """``mark`` has been reached by now; nothing new unless it is above all that came before."""
        if not self._marks:
            self._append(mark, at)
        elif mark > self._marks[-1]:
            self._append(mark, max(at, self._at[-1]))
            if len(self._marks) > self._points_max:
                self._thin()

    def when(self, mark: int) -> int | None:
        """When it was reached, or soon after; None where it has not been, or was before the first point."""
        index = bisect_left(self._marks, mark)
        return self._at[index] if 0 < index < len(self._marks) else None

    def reached_by(self, at: int) -> int:
        """The highest mark that is known to have been reached by then, or was before anybody looked; 0 without any point."""
        return self._marks[max(0, bisect_right(self._at, at) - 1)] if self._marks else 0

    def _append(self, mark: int, at: int) -> None:
        self._marks.append(mark)
        self._at.append(at)

    def _thin(self) -> None:
        half = len(self._marks) // 2
        self._marks = self._marks[:half:2] + self._marks[half:]
        self._at = self._at[:half:2] + self._at[half:]
