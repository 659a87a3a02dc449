"""Hooks of mkdocs for `make site`: pages from outside docs/, and links to files that are not pages.

CONTRIBUTING.md and CHANGELOG.md are at the top level, where people and GitHub look for them, and are also pages of the
site. A link to a file outside docs/, such as the source of a module, leads to the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent

#: Pages of the site from the top level of the repository.
OUTSIDE = {"contributing.md": "CONTRIBUTING.md", "security.md": "SECURITY.md", "changelog.md": "CHANGELOG.md"}

LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: Any) -> Files:
    for page, source in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=rewritten(text, "", config.extra["repository"])))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    if page.file.src_uri in OUTSIDE:
        return markdown
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))
    return rewritten(markdown, folder, config.extra["repository"])


def rewritten(text: str, folder: str, repository: str) -> str:
    """A page's text with its links rewritten for the site; folder: of the page in the repository."""

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        if page := next((page for page, source in OUTSIDE.items() if source == target), None):
            target = f"docs/{page}"
        if target.startswith("docs/"):
            target = posixpath.relpath(target, folder if folder.startswith("docs") else "docs")
        else:
            target = repository + target
        return match[1] + target + match[3]

    # Code is not changed: what looks like a link in it is not.
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)
