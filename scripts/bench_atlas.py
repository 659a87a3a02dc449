"""Time per frame of an atlas of synthetic models in headless Chromium, while the map is dragged and zoomed.

    python scripts/bench_atlas.py [--models N] [--renderer webgl|canvas|auto] [--seconds S] [--out FILE.json]

Opens a page of N models in islands, turns the wheel and drags with the mouse, and notes the time between two frames
that the browser drew. Headless Chromium without a graphics card draws WebGL on the processor: the figures of such a
machine are those of the software renderer, and the printed `card` says which one it was.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from modelspace.plots import make_atlas

#: Collects the times between frames from now on.
_WATCH = """() => {
  window.frameTimes = [];
  let before = performance.now();
  const next = (now) => { window.frameTimes.push(now - before); before = now; requestAnimationFrame(next); };
  requestAnimationFrame(next);
}"""
_IN_VIEW = """() => {
  const [width, height] = atlas.maps[0].size();
  return atlas.names.some((_, i) => {
    const [x, y] = atlas.screenOf(i);
    return x > 0.3 * width && x < 0.7 * width && y > 0.3 * height && y < 0.7 * height;
  });
}"""
_CARD = """() => {
  const gl = document.createElement('canvas').getContext('webgl');
  const debug = gl && gl.getExtension('WEBGL_debug_renderer_info');
  return gl ? String(gl.getParameter(debug ? debug.UNMASKED_RENDERER_WEBGL : gl.RENDERER)) : 'none';
}"""


def synthetic_page(n: int, path: Path, seed: int = 0) -> Path:
    """An atlas of n models in 60 islands, with a group, a number, and no neighbours."""
    rng = np.random.default_rng(seed)
    islands = rng.normal(size=(60, 2)) * 3
    island = rng.integers(0, len(islands), n)
    places = islands[island] + rng.normal(size=(n, 2)) * rng.uniform(0.1, 0.6, len(islands))[island, None]
    return make_atlas(
        [f"model_{i:06d}" for i in range(n)],
        places,
        [f"family {i % 7}" for i in island],
        columns={"task": [f"task {i}" for i in island], "parameters": (10 ** rng.uniform(5, 9, n)).round()},
        title=f"{n:,} synthetic models",
    ).save(path)


def measure(page: Any, seconds: float) -> dict[str, Any]:
    """Drag and zoom for a while.

    Returns:
        Times in ms: the median and 95th percentile between frames, and the median and the least of a frame drawn to
        the end with all models; the number of models drawn while the map moves; and the renderer.
    """
    box = page.locator("#overlay").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.evaluate(_WATCH)
    end = time.monotonic() + seconds
    step = 0
    while time.monotonic() < end:
        page.mouse.wheel(0, -60 if step // 12 % 2 == 0 else 60)
        page.mouse.down()
        page.mouse.move(x + 30 + 9 * (step % 5), y + 5 * (step % 7))
        page.mouse.move(x, y)
        page.mouse.up()
        step += 1
    between = np.array(page.evaluate("window.frameTimes"))[2:]
    moving = int(page.evaluate("Math.round(atlas.pace.most)"))
    if not page.evaluate(_IN_VIEW):
        sys.exit("the map moved out of view: the figures would be those of empty frames")
    page.evaluate("atlas.select(-1), atlas.maps[0].fit()")
    whole = np.array(page.evaluate("atlas.measure(40)"))
    return {
        "renderer": page.evaluate("atlas.renderer"),
        "frames": len(between),
        "median": float(np.median(between)),
        "p95": float(np.percentile(between, 95)),
        "models drawn while moving": moving,
        "whole frame": float(np.median(whole)),
        "fastest whole frame": float(whole.min()),
        "card": page.evaluate(_CARD),
    }


def main() -> None:
    """Build the page, open it, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=100_000)
    parser.add_argument("--renderer", choices=("webgl", "canvas", "auto"), default="auto")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    arguments = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit("needs playwright: pip install playwright")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = synthetic_page(arguments.models, Path(folder) / "atlas.html")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        before = time.monotonic()
        choice = "" if arguments.renderer == "auto" else f"#renderer={arguments.renderer}"
        page.goto(file.as_uri() + choice)
        while not page.evaluate("Boolean(window.atlas)"):
            time.sleep(0.02)
        opened = time.monotonic() - before
        figures = {
            "models": arguments.models,
            "megabytes": file.stat().st_size / 1e6,
            "seconds to open": opened,
            **measure(page, arguments.seconds),
        }
        browser.close()
    for name, value in figures.items():
        print(f"{name:26} {value:,.1f}" if isinstance(value, float) else f"{name:26} {value}")
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
