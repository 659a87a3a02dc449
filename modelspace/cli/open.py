"""The command ``modelspace open``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelspace.cli import browser, drawing, options
from modelspace.cli.atlas import Beside, Neighbours
from modelspace.cli.formats import Format
from modelspace.cli.groups import Selection, grouped
from modelspace.cli.opening import open_space

EXAMPLES = """
modelspace open
modelspace open --space dds --beside gradient_x_input
modelspace open --where "parameters < 1e7" --no-browser
"""


@grouped
def command(
    *,
    selection: Selection,
    k: Neighbours = 10,
    beside: Beside = None,
    no_store: drawing.NoStore = False,
    title: drawing.Title = "",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only write the page and print its path.")] = False,
    home: options.Home = None,
    format: options.FormatOption = Format.table,
    quiet: options.Quiet = False,
) -> None:
    """Write the atlas of the models and open it in the browser.

    The page lies in the cache folder (MODELSPACE_CACHE, else ~/.cache/modelspace), one for each registry, and is
    overwritten by the next call; 'modelspace atlas --out' writes one to keep. Without a display, and with --no-browser,
    only its path is printed.
    """
    with drawing.drawing("the atlas", quiet=quiet):
        space = open_space(home)
        page = space.atlas(**selection.arguments(), k=k, beside=beside, store=not no_store, title=title)
        path = browser.page_path(Path(space.home))
        page.save(path)
    note = None if no_browser else browser.show(path)
    facts = {"models": page.n_models, "browser": "" if no_browser else "no" if note else "opened"}
    drawing.print_written(path, facts, format, quiet=quiet, notes=[note] if note else ())
