"""``python -m modelspace`` is the command ``modelspace``."""

from modelspace.cli import main

if __name__ == "__main__":
    main()
