// State, movement, keys and the link: what ties the parts together.

const state = {
  selected: -1, hover: -1, cluster: -1, colour: 0, filter: '', tree: false,
  dark: window.matchMedia('(prefers-color-scheme: dark)').matches,
};
const view = { x: 0, y: 0, zoom: 1 };
const dimmed = new Uint8Array(data.n);
let look = null;
let passes = () => true;
let home = null;

let points = glPoints(byId('points'));
if (!points) {
  // A canvas that was asked for WebGL may refuse another kind: take a new one.
  const fresh = byId('points').cloneNode();
  byId('points').replaceWith(fresh);
  points = flatPoints(fresh);
}
points.places(data.places);

const overlay = byId('overlay');
const ratioOf = () => Math.min(window.devicePixelRatio || 1, 3);
const mapSize = () => [byId('map').clientWidth, byId('map').clientHeight];
const pointSize = () => {
  const base = Math.min(7, Math.max(1.6, 60 / Math.sqrt(data.n) + 1));
  return Math.min(9, base * Math.max(1, Math.sqrt(view.zoom / (home?.zoom || 1)) ** 0.7));
};

function screenOf(i) {
  const [width, height] = mapSize();
  return [width / 2 + (data.places[2 * i] - view.x) * view.zoom, height / 2 - (data.places[2 * i + 1] - view.y) * view.zoom];
}
function mapOf(x, y) {
  const [width, height] = mapSize();
  return [view.x + (x - width / 2) / view.zoom, view.y - (y - height / 2) / view.zoom];
}
function wholeMap() {
  const [width, height] = mapSize();
  return { x: 0, y: 0, zoom: 0.44 * Math.max(Math.min(width, height), 50) };
}

// Drawing happens once a frame, and only when something changed. Where frames come too slowly while the map moves, fewer
// points are drawn until it rests.
const pace = { most: data.n, resting: 0 };
let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  const asked = performance.now();
  requestAnimationFrame(() => { waiting = false; drawNow(performance.now() - asked); });
}
// `took`: milliseconds from the wish for a frame to the frame; the one before is still being drawn when it is long.
function keepPace(took) {
  if (took > 34) pace.most = Math.max(Math.min(data.n, 2000), Math.floor(pace.most * (took > 100 ? 0.4 : 0.75)));
  else if (took < 20) pace.most = Math.min(data.n, Math.ceil(pace.most * 1.08));
  clearTimeout(pace.resting);
  if (pace.most < data.n) pace.resting = setTimeout(() => { drawNow(); }, 260);
}
function fitCanvas(canvas, ratio) {
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
}
function drawNow(took) {
  if (took !== undefined) keepPace(took);
  const ratio = ratioOf();
  fitCanvas(byId('points'), ratio);
  fitCanvas(overlay, ratio);
  points.draw(view, pointSize(), ratio, took === undefined ? data.n : pace.most);
  drawOverlay(overlay, ratio);
  if (state.tree) {
    fitCanvas(byId('branches'), ratio);
    treeView.draw(ratio);
  }
}

function zoomAt(x, y, factor) {
  const before = mapOf(x, y);
  view.zoom = Math.min(Math.max(view.zoom * factor, wholeMap().zoom / 4), wholeMap().zoom * 20000);
  const after = mapOf(x, y);
  view.x += before[0] - after[0];
  view.y += before[1] - after[1];
  moved();
}
function moved() {
  redraw();
  remember();
}

function hover(i, at) {
  if (state.hover === i && !at) return;
  state.hover = i;
  drawCard(i, at);
  overlay.classList.toggle('over', i >= 0);
  redraw();
}
function select(i) {
  state.selected = i;
  if (i >= 0) {
    byId('announce').textContent = `${data.names[i]} selected`;
    if (state.tree) treeView.show(i);
  }
  drawPanel();
  moved();
}
function selectCluster(node) {
  state.cluster = node;
  if (node >= 0) state.selected = -1;
  dim();
  drawPanel();
  moved();
}
// Brings a model into view without moving when it is there already.
function reveal(i) {
  const [x, y] = screenOf(i);
  const [width, height] = mapSize();
  if (x < 40 || y < 40 || x > width - 40 || y > height - 40) {
    view.x = data.places[2 * i];
    view.y = data.places[2 * i + 1];
    moved();
  }
}

function dim() {
  const inside = state.cluster >= 0 ? new Uint8Array(data.n) : null;
  if (inside) for (const model of treeView.members(state.cluster)) inside[model] = 1;
  let left = 0;
  for (let i = 0; i < data.n; i += 1) {
    dimmed[i] = passes(i) && (!inside || inside[i]) ? 0 : 1;
    left += 1 - dimmed[i];
  }
  points.states(dimmed);
  const notes = [data.note];
  if (left < data.n) notes.unshift(`${left.toLocaleString('en')} of ${data.n.toLocaleString('en')} models`);
  byId('note').textContent = notes.filter(Boolean).join(' · ');
}
function setFilter(text) {
  state.filter = text.trim();
  if (byId('filter').value.trim() !== state.filter) byId('filter').value = state.filter;
  const problem = byId('filter-error');
  try {
    passes = state.filter ? parseFilter(state.filter) : () => true;
    problem.hidden = true;
  } catch (error) {
    passes = () => true;
    problem.textContent = error.message;
    problem.hidden = false;
  }
  dim();
  moved();
}
function setColour(index) {
  state.colour = index;
  byId('colour').value = String(index);
  look = colouring(data.columns[index], state.dark);
  points.look(look.rgb, look.shape);
  treeView?.recolour();
  drawLegend();
  moved();
}
function setTheme(dark) {
  state.dark = dark;
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  byId('theme-button').textContent = dark ? 'Light' : 'Dark';
  setColour(state.colour);
}
function setTree(open) {
  state.tree = open && Boolean(treeView);
  byId('tree').hidden = !state.tree;
  byId('tree-button').setAttribute('aria-pressed', String(state.tree));
  treeView?.fit();
  moved();
}

// The link: everything that makes up the view, behind the #.
let timer = 0;
function remember() {
  clearTimeout(timer);
  timer = setTimeout(writeLink, 150);
}
function writeLink() {
  try {
    history.replaceState(null, '', `#${linkText()}`);
  } catch {
    // Inside a notebook the page has no address of its own.
  }
}
function linkText() {
  const words = new URLSearchParams();
  words.set('at', [view.x, view.y, view.zoom / wholeMap().zoom].map((value) => Number(value.toPrecision(7))).join(','));
  if (data.columns.length) words.set('colour', data.columns[state.colour].name);
  if (state.selected >= 0) words.set('model', data.names[state.selected]);
  if (state.cluster >= 0) words.set('cluster', String(state.cluster));
  if (state.filter) words.set('filter', state.filter);
  if (state.tree) words.set('tree', '1');
  words.set('theme', state.dark ? 'dark' : 'light');
  return words.toString();
}
function restore() {
  const words = new URLSearchParams(location.hash.slice(1));
  if (words.has('theme')) state.dark = words.get('theme') === 'dark';
  const colour = data.columns.findIndex((column) => column.name === words.get('colour'));
  state.colour = Math.max(colour, 0);
  setTheme(state.dark);
  setTree(words.get('tree') === '1');
  const cluster = Number(words.get('cluster') ?? -1);
  state.cluster = treeView && Number.isInteger(cluster) && cluster >= 0 && cluster < treeView.nodes ? cluster : -1;
  setFilter(words.get('filter') ?? '');
  state.selected = data.number.get(words.get('model')) ?? -1;
  home = wholeMap();
  Object.assign(view, home);
  const [x, y, zoom] = (words.get('at') ?? '').split(',').map(Number);
  if ([x, y, zoom].every(Number.isFinite) && zoom > 0) Object.assign(view, { x, y, zoom: zoom * home.zoom });
  drawPanel();
  redraw();
}
async function copyLink() {
  writeLink();
  try {
    await navigator.clipboard.writeText(location.href);
  } catch {
    // From disk the clipboard may be closed; the address bar has the link.
    byId('announce').textContent = 'The link is in the address bar';
  }
  byId('link-button').textContent = 'Link is in the address bar';
  setTimeout(() => { byId('link-button').textContent = 'Copy link'; }, 1500);
}

// Pointers: one drags, two pinch, a short press selects.
const pointers = new Map();
let travelled = 0;
const local = (event) => {
  const box = overlay.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
const under = ([x, y]) => {
  const [mx, my] = mapOf(x, y);
  return grid.nearest(mx, my, Math.max(9, pointSize() + 3) / view.zoom, (i) => !dimmed[i]);
};
overlay.addEventListener('pointerdown', (event) => {
  overlay.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, local(event));
  travelled = pointers.size > 1 ? 99 : 0;
  overlay.classList.add('dragging');
  hover(-1, null);
});
overlay.addEventListener('pointermove', (event) => {
  const now = local(event);
  const before = pointers.get(event.pointerId);
  if (!before) {
    const found = under(now);
    hover(found, found >= 0 ? now : null);
    return;
  }
  const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
  travelled += Math.abs(dx) + Math.abs(dy);
  if (pointers.size === 2) {
    const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
    const apart = (a, b) => Math.max(Math.hypot(a[0] - b[0], a[1] - b[1]), 1);
    zoomAt((now[0] + other[0]) / 2, (now[1] + other[1]) / 2, apart(now, other) / apart(before, other));
  }
  view.x -= dx / view.zoom / pointers.size;
  view.y += dy / view.zoom / pointers.size;
  pointers.set(event.pointerId, now);
  moved();
});
for (const kind of ['pointerup', 'pointercancel']) {
  overlay.addEventListener(kind, (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (!pointers.size) overlay.classList.remove('dragging');
    if (kind === 'pointerup' && travelled < 5) {
      const found = under(local(event));
      if (found < 0 && state.cluster >= 0) selectCluster(-1);
      else select(found);
    }
  });
}
overlay.addEventListener('pointerleave', () => hover(-1, null));
overlay.addEventListener('wheel', (event) => {
  event.preventDefault();
  zoomAt(...local(event), Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)));
}, { passive: false });

const KEYS = [
  ['/', 'search a name', () => search.focus()],
  ['+', 'zoom in', () => zoomAt(...mapSize().map((side) => side / 2), 1.35)],
  ['-', 'zoom out', () => zoomAt(...mapSize().map((side) => side / 2), 1 / 1.35)],
  ['0', 'the whole map', () => { home = wholeMap(); Object.assign(view, home); treeView?.fit(); moved(); }],
  ['n', 'the next of the nearest models', () => step(1)],
  ['p', 'the previous one', () => step(-1)],
  ['f', 'filter', () => byId('filter').focus()],
  ['t', 'tree', () => setTree(!state.tree)],
  ['d', 'dark or light', () => { setTheme(!state.dark); }],
  ['c', 'copy a link to this view', copyLink],
  ['?', 'this list', () => { byId('help').hidden = !byId('help').hidden; }],
];
// Steps through the nearest of the model that was selected first.
let walk = null;
function step(by) {
  if (state.selected < 0) return;
  if (!walk || walk.path[walk.at] !== state.selected) {
    walk = { path: [state.selected, ...nearestOf(state.selected).map((near) => near.model)], at: 0 };
  }
  walk.at = (walk.at + by + walk.path.length) % walk.path.length;
  select(walk.path[walk.at]);
  reveal(state.selected);
}
window.addEventListener('keydown', (event) => {
  const typing = ['INPUT', 'SELECT', 'TEXTAREA'].includes(event.target.tagName);
  if (event.key === 'Escape') {
    if (!byId('help').hidden) byId('help').hidden = true;
    else if (typing) event.target.blur();
    else if (state.selected >= 0) select(-1);
    else selectCluster(-1);
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const far = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (far) {
    event.preventDefault();
    view.x += (60 * far[0]) / view.zoom;
    view.y += (60 * far[1]) / view.zoom;
    moved();
    return;
  }
  const key = KEYS.find(([name]) => name === (event.key === '=' ? '+' : event.key));
  if (key) {
    event.preventDefault();
    key[2]();
  }
});

byId('title').textContent = data.title;
byId('tree-button').hidden = !treeView;
byId('tree-button').addEventListener('click', () => setTree(!state.tree));
byId('theme-button').addEventListener('click', () => setTheme(!state.dark));
byId('link-button').addEventListener('click', copyLink);
byId('help-button').addEventListener('click', () => { byId('help').hidden = !byId('help').hidden; });
byId('help').append(element('h2', 'Keys'), (() => {
  const list = element('dl');
  for (const [key, words] of [...KEYS, ['Esc', 'close, or clear the selection'], ['arrows', 'move the map, or step through the tree']]) {
    const term = element('dt');
    term.append(element('kbd', key));
    list.append(term, element('dd', words));
  }
  return list;
})());
data.columns.forEach((column, index) => {
  const option = element('option', column.name);
  option.value = String(index);
  byId('colour').append(option);
});
byId('colour').disabled = !data.columns.length;
byId('colour').addEventListener('change', (event) => setColour(Number(event.target.value)));
let typed = 0;
byId('filter').addEventListener('input', (event) => {
  clearTimeout(typed);
  typed = setTimeout(() => setFilter(event.target.value), 120);
});
window.addEventListener('hashchange', restore);
new ResizeObserver(() => {
  // The view keeps what it shows when the page changes its size.
  const scale = home ? wholeMap().zoom / home.zoom : 1;
  view.zoom *= scale;
  home = wholeMap();
  redraw();
}).observe(byId('map'));
restore();
drawNow();

// For tests and for the curious: the view from the console.
window.atlas = {
  state, view, data, select, setFilter, redraw, linkText, screenOf, treeView,
  names: data.names, renderer: points.kind, dimmed, drawNow, pace,
  // Milliseconds a frame takes while the map moves, drawn to the end.
  measure(frames = 60) {
    const times = [];
    for (let i = 0; i < frames; i += 1) {
      view.x += (i % 2 ? 1 : -1) * 0.01;
      const before = performance.now();
      drawNow();
      points.finish();
      times.push(performance.now() - before);
    }
    return times;
  },
};
