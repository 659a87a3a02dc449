"""The file that a torture program writes its figures into, and that lets a rerun go on where the last one ended."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Progress:
    """What was done in parts that have names.

    Attributes:
        done: name of a part -> [number of cases, failures].
        counts: what else was counted, over all parts.
        settings: what must be equal for a rerun to go on.
    """

    def __init__(self, file: Path | None, settings: Mapping[str, Any]) -> None:
        self.file = file
        self.settings = dict(settings)
        self.counts: Counter[str] = Counter()
        self.done: dict[str, tuple[int, list[str]]] = {}
        self.seconds, self._start = 0.0, time.monotonic()
        if file is not None and file.exists():
            stored = json.loads(file.read_text("utf-8"))
            if stored.get("settings") == self.settings and not stored.get("finished"):
                self.done = {name: (int(cases), list(lines)) for name, (cases, lines) in stored["parts"].items()}
                self.counts = Counter(stored.get("counts", {}))
                self.seconds = float(stored["seconds"])

    def has(self, name: str) -> bool:
        """Whether a part is done."""
        return name in self.done

    def add(self, name: str, cases: int, failures: list[str], counts: Mapping[str, int] | None = None) -> None:
        """Note that a part is done, and write the file."""
        self.done[name] = cases, failures
        self.counts.update(counts or {})
        self._write({}, finished=False)

    def total(self) -> int:
        """Number of cases of all parts."""
        return sum(cases for cases, _ in self.done.values())

    def failures(self) -> list[str]:
        """The failures of all parts."""
        return [line for _, lines in self.done.values() for line in lines]

    def finish(self, figures: Mapping[str, float | str]) -> None:
        """Write the figures. The next run starts again."""
        self._write(figures, finished=True)

    def _write(self, figures: Mapping[str, float | str], *, finished: bool) -> None:
        if self.file is None:
            return
        content = {
            "figures": dict(figures),
            "seconds": round(self.seconds + time.monotonic() - self._start, 1),
            "settings": self.settings,
            "parts": self.done,
            "counts": self.counts,
            "finished": finished,
        }
        temporary = self.file.with_name(f"{self.file.name}.new")
        temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        temporary.replace(self.file)
