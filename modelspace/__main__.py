"""``python -m modelspace`` is the command ``modelspace``."""

from modelspace.cli import run

if __name__ == "__main__":
    run()
