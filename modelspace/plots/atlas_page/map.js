// A map: its points, its view, and the pointers on it. A page has one, or two of the same models in different spaces.

const ratioOf = () => Math.min(window.devicePixelRatio || 1, 3);
// Without a graphics card WebGL is drawn by the processor, which is slower than writing the pixels ourselves; and
// Chromium then leaves out what is mirrored below a list that lies over the map (seen with version 156).
const SOFTWARE = /swiftshader|llvmpipe|software|basic render/i;

// `renderer=` behind the # chooses, for measurements.
function isSlow(points) {
  const asked = new URLSearchParams(location.hash.slice(1)).get('renderer');
  return asked ? asked === 'canvas' : points.isSoftware;
}

function makeMap(index) {
  const end = index ? String(index + 1) : '';
  const section = byId(`map${end}`);
  const overlay = byId(`overlay${end}`);
  const { name, places } = data.spaces[index];
  const view = { x: 0, y: 0, zoom: 1 };
  const grid = makeGrid(places);
  const extent = (() => {
    let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < data.n; i += 1) {
      const [x, y] = [places[2 * i], places[2 * i + 1]];
      if (Number.isNaN(x)) continue;
      [left, right, bottom, top] = [Math.min(left, x), Math.max(right, x), Math.min(bottom, y), Math.max(top, y)];
    }
    return { x: (left + right) / 2, y: (bottom + top) / 2, width: right - left, height: top - bottom };
  })();

  const canvasOf = () => byId(`points${end}`);
  let points = glPoints(canvasOf());
  if (!points || isSlow(points)) {
    // A canvas that was asked for WebGL may refuse another kind: take a new one.
    const fresh = canvasOf().cloneNode();
    canvasOf().replaceWith(fresh);
    points = flatPoints(fresh, grid);
  }
  points.places(places);

  const size = () => [overlay.clientWidth, overlay.clientHeight];
  function whole() {
    const [width, height] = size();
    const room = (side) => Math.max(side - 2 * Math.min(48, 0.1 * side), 20);
    const zoom = Math.min(room(width) / Math.max(extent.width, 1e-3), room(height) / Math.max(extent.height, 1e-3));
    return { x: extent.x, y: extent.y, zoom: Math.min(zoom, 0.5 * Math.max(width, height, 50)) };
  }
  const map = {
    index, name, section, overlay, view, grid, places, points, size, whole,
    clusters: makeClusters(places),
    // Where labels are and which models are pictures, for tests; and the line of the lasso that is being drawn.
    labels: [],
    pictured: [],
    lasso: [],
    shownWhole: null,
    screenOfPlace(x, y) {
      const [width, height] = size();
      return [width / 2 + (x - view.x) * view.zoom, height / 2 - (y - view.y) * view.zoom];
    },
    screenOf: (i) => map.screenOfPlace(places[2 * i], places[2 * i + 1]),
    mapOf(x, y) {
      const [width, height] = size();
      return [view.x + (x - width / 2) / view.zoom, view.y - (y - height / 2) / view.zoom];
    },
    pointSize() {
      const base = Math.min(7, Math.max(1.6, 60 / Math.sqrt(data.n) + 1));
      return Math.min(9, base * Math.max(1, Math.sqrt(view.zoom / whole().zoom)) ** 0.7);
    },
    isShown: () => !section.hidden,
    fit() {
      Object.assign(view, whole());
      map.shownWhole = whole().zoom;
    },
    // The view keeps what it shows when the page changes its size.
    resize() {
      if (!overlay.clientWidth) return;
      const zoom = whole().zoom;
      if (map.shownWhole === null) Object.assign(view, whole());
      else view.zoom *= zoom / map.shownWhole;
      map.shownWhole = zoom;
      redraw();
    },
    draw(ratio, most) {
      fitCanvas(canvasOf(), ratio);
      fitCanvas(overlay, ratio);
      points.draw(view, map.pointSize(), ratio, most);
      drawOverlay(map, ratio);
    },
    zoomAt(x, y, factor) {
      const before = map.mapOf(x, y);
      const { zoom } = whole();
      view.zoom = Math.min(Math.max(view.zoom * factor, zoom / 4), zoom * 20000);
      const after = map.mapOf(x, y);
      view.x += before[0] - after[0];
      view.y += before[1] - after[1];
      moved();
    },
    zoomBy(factor) {
      const [width, height] = size();
      map.zoomAt(width / 2, height / 2, factor);
    },
    move(x, y) {
      view.x += x / view.zoom;
      view.y += y / view.zoom;
      moved();
    },
    // Brings a model into view without moving when it is there already.
    reveal(i) {
      const [x, y] = map.screenOf(i);
      const [width, height] = size();
      if (Number.isNaN(x) || (x >= 40 && y >= 40 && x <= width - 40 && y <= height - 40)) return;
      view.x = places[2 * i];
      view.y = places[2 * i + 1];
      moved();
    },
  };
  listen(map);
  new ResizeObserver(map.resize).observe(section);
  return map;
}

function fitCanvas(canvas, ratio) {
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
}

// Pointers: one drags or draws the lasso, two pinch, a short press selects.
function listen(map) {
  const { overlay, view } = map;
  const pointers = new Map();
  let travelled = 0;
  const local = (event) => {
    const box = overlay.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  // A finger covers more than a mouse points at.
  const under = ([x, y], kind) => {
    const reach = Math.max(kind === 'touch' ? 22 : 9, map.pointSize() + 3) / view.zoom;
    return map.grid.nearest(...map.mapOf(x, y), reach, (i) => !dimmed[i]);
  };
  function pinch(event, now, before) {
    const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
    const apart = (a, b) => Math.max(Math.hypot(a[0] - b[0], a[1] - b[1]), 1);
    map.zoomAt((now[0] + other[0]) / 2, (now[1] + other[1]) / 2, apart(now, other) / apart(before, other));
  }
  overlay.addEventListener('pointerdown', (event) => {
    overlay.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, local(event));
    travelled = pointers.size > 1 ? 99 : 0;
    map.lasso = pointers.size === 1 && (state.lasso || event.shiftKey) ? [local(event)] : [];
    overlay.classList.add('dragging');
    hover(-1, null);
  });
  overlay.addEventListener('pointermove', (event) => {
    const now = local(event);
    const before = pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType === 'touch') return;
      const near = under(now, event.pointerType);
      hover(near, near >= 0 ? [event.clientX, event.clientY] : null);
      overlay.classList.toggle('over', near >= 0);
      return;
    }
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    travelled += Math.abs(dx) + Math.abs(dy);
    pointers.set(event.pointerId, now);
    if (map.lasso.length) {
      map.lasso.push(now);
      redraw();
      return;
    }
    if (pointers.size === 2) pinch(event, now, before);
    // A shaking finger does not move the map under it.
    if (travelled >= 5) map.move(-dx / pointers.size, dy / pointers.size);
  });
  for (const kind of ['pointerup', 'pointercancel']) {
    overlay.addEventListener(kind, (event) => {
      if (!pointers.delete(event.pointerId)) return;
      if (!pointers.size) overlay.classList.remove('dragging');
      const line = map.lasso;
      map.lasso = [];
      if (kind === 'pointercancel') redraw();
      else if (travelled < 5) {
        const near = under(local(event), event.pointerType);
        if (near < 0 && state.cluster >= 0) selectCluster(-1);
        else select(near);
      } else if (line.length > 2) choose(insideOf(map, line));
    });
  }
  overlay.addEventListener('pointerleave', () => hover(-1, null));
  overlay.addEventListener('focus', () => { active = map; });
  overlay.addEventListener('wheel', (event) => {
    event.preventDefault();
    map.zoomAt(...local(event), Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)));
  }, { passive: false });
}

// The models inside a line on the screen that closes itself, by the even-odd rule.
function insideOf(map, line) {
  const xs = line.map(([x]) => x);
  const ys = line.map(([, y]) => y);
  const [x0, y0] = map.mapOf(xs.reduce((a, b) => Math.min(a, b)), ys.reduce((a, b) => Math.max(a, b)));
  const [x1, y1] = map.mapOf(xs.reduce((a, b) => Math.max(a, b)), ys.reduce((a, b) => Math.min(a, b)));
  const inside = [];
  map.grid.within(x0, y0, x1, y1, (i) => {
    if (dimmed[i] && !state.chosen) return true;
    const [x, y] = map.screenOf(i);
    let odd = false;
    for (let a = 0, b = line.length - 1; a < line.length; b = a, a += 1) {
      const [[ax, ay], [bx, by]] = [line[a], line[b]];
      if ((ay > y) !== (by > y) && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
    }
    if (odd && passes(i)) inside.push(i);
    return true;
  });
  return inside.sort((a, b) => a - b);
}
