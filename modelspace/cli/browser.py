"""Pages in the user's browser: where they are written, and whether there is a browser to show them."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from modelspace.errors import unwritable

#: Browsers of a text terminal: they can't run the script of a page.
TEXT_BROWSERS = frozenset({"www-browser", "links", "elinks", "lynx", "w3m", "browsh"})


def page_path(home: Path) -> Path:
    """The file of a registry's page in the cache folder, or in the folder for temporary files if there is no cache.

    Args:
        home: folder of the registry.

    Raises:
        UsageError: the folder can't be created.
    """
    from modelspace.probes.cache import folder  # late, since it loads numpy

    # In a folder for temporary files another user could have put a link in the place of a known name.
    directory = folder()
    try:
        if directory is None:
            return Path(tempfile.mkdtemp(prefix="modelspace-")) / "atlas.html"
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(directory or Path(tempfile.gettempdir()), error) from error
    key = hashlib.sha256(str(home.resolve()).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return directory.resolve() / f"atlas-{key}.html"


def has_display() -> bool:
    """Whether a window could be shown: on Windows and macOS always, elsewhere with a display or BROWSER set."""
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def show(path: Path) -> str | None:
    """Open a page in the user's browser.

    Returns:
        None, or why it was not opened, for the user.
    """
    import webbrowser

    if not has_display():
        return "there is no display here: open the file in a browser"
    try:
        chosen = webbrowser.get()
        if getattr(chosen, "basename", getattr(chosen, "name", "")) in TEXT_BROWSERS:
            return "only a text browser is installed here, which can't show the page: open the file in another one"
        if chosen.open(path.as_uri()):
            return None
    except (webbrowser.Error, OSError):
        pass
    return "no browser could be started: open the file in one"
