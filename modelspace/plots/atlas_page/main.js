// State, movement, keys and the link: what ties the parts together.

const state = {
  selected: -1, hover: -1, cluster: -1, colour: 0, filter: '', tree: false, beside: data.spaces.length > 1,
  lasso: false, chosen: null, hits: [], legend: true,
  dark: window.matchMedia('(prefers-color-scheme: dark)').matches,
};
const dimmed = new Uint8Array(data.n);
const theme = { back: [255, 255, 255], front: '', quiet: '', accent: '', hit: '' };
let look = null;
let passes = () => true;

// Drawing happens once a frame, and only when something changed. Where frames come too slowly while the map moves, fewer
// points are drawn until it rests.
const MANY = 20000;
const pace = { most: data.n, resting: 0, isMoving: false };
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
  if (pace.most < data.n || data.n > MANY) pace.resting = setTimeout(() => { drawNow(); }, 260);
}
function drawNow(took) {
  pace.isMoving = took !== undefined;
  if (pace.isMoving) keepPace(took);
  const ratio = ratioOf();
  for (const map of maps) if (map.isShown()) map.draw(ratio, pace.isMoving ? pace.most : data.n);
  if (state.tree) {
    fitCanvas(byId('branches'), ratio);
    treeView.draw(ratio);
  }
}
function moved() {
  redraw();
  remember();
}

function hover(i, at) {
  if (state.hover === i && !at) return;
  state.hover = i;
  drawCard(i, at);
  redraw();
}
function select(i) {
  state.selected = i;
  if (i >= 0) {
    byId('announce').textContent = `${data.names[i]} selected`;
    if (state.tree) treeView.show(i);
  }
  drawPanel();
  if (state.chosen) drawTable();
  moved();
}
function selectCluster(node) {
  state.cluster = node;
  if (node >= 0) state.selected = -1;
  dim();
  drawPanel();
  moved();
}
function reveal(i) {
  for (const map of maps) if (map.isShown()) map.reveal(i);
}

function dim() {
  const marks = (models) => {
    const inside = new Uint8Array(data.n);
    for (const model of models) inside[model] = 1;
    return inside;
  };
  const inside = state.cluster >= 0 ? marks(treeView.members(state.cluster)) : null;
  const chosen = state.chosen ? marks(state.chosen) : null;
  let left = 0;
  for (let i = 0; i < data.n; i += 1) {
    dimmed[i] = passes(i) && (!inside || inside[i]) && (!chosen || chosen[i]) ? 0 : 1;
    left += 1 - dimmed[i];
  }
  for (const map of maps) {
    map.points.states(dimmed);
    map.clusters.forget();
  }
  drawNote(left);
}
function drawNote(left) {
  const notes = left < data.n ? [`${left.toLocaleString('en')} of ${data.n.toLocaleString('en')} models`] : [];
  const withNote = data.spaces.filter((space, index) => space.note && maps[index].isShown());
  for (const { name, note } of withNote) notes.push(withNote.length > 1 && name ? `${name}: ${note}` : note);
  byId('note').textContent = notes.join(' · ');
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
  for (const map of maps) {
    map.points.look(look.rgb, look.shape);
    map.clusters.forget();
  }
  treeView?.recolour();
  drawLegend();
  moved();
}
function setTheme(dark) {
  state.dark = dark;
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  const style = getComputedStyle(document.documentElement);
  for (const name of ['front', 'quiet', 'accent', 'hit']) theme[name] = style.getPropertyValue(`--${name}`).trim();
  theme.back = rgbOf(style.getPropertyValue('--back').trim());
  byId('theme-button').textContent = dark ? 'Light' : 'Dark';
  setColour(state.colour);
}
function setLegend(open) {
  state.legend = open;
  drawLegend();
}
function setLasso(on) {
  state.lasso = on;
  byId('lasso-button').setAttribute('aria-pressed', String(on));
  document.body.classList.toggle('lasso', on);
}
function setBeside(open) {
  state.beside = open && maps.length > 1;
  byId('map2').hidden = !state.beside;
  byId('beside-button').setAttribute('aria-pressed', String(state.beside));
  maps[0].section.querySelector('.map-title').hidden = !state.beside;
  for (const map of maps) if (map.isShown()) map.resize();
  dim();
  drawPanel();
  moved();
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
  for (const map of maps) {
    const { x, y, zoom } = map.view;
    const place = [x, y, zoom / map.whole().zoom].map((value) => Number(value.toPrecision(7)));
    if (map.isShown()) words.set(map.index ? 'at2' : 'at', place.join(','));
  }
  if (data.columns.length) words.set('colour', data.columns[state.colour].name);
  if (state.selected >= 0) words.set('model', data.names[state.selected]);
  if (state.cluster >= 0) words.set('cluster', String(state.cluster));
  if (state.filter) words.set('filter', state.filter);
  if (state.tree) words.set('tree', '1');
  if (maps.length > 1) words.set('beside', state.beside ? '1' : '0');
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
  state.selected = data.number.get(words.get('model')) ?? -1;
  setFilter(words.get('filter') ?? '');
  setBeside(words.get('beside') !== '0');
  for (const map of maps) {
    map.fit();
    const [x, y, zoom] = (words.get(map.index ? 'at2' : 'at') ?? '').split(',').map(Number);
    if ([x, y, zoom].every(Number.isFinite) && zoom > 0) Object.assign(map.view, { x, y, zoom: zoom * map.view.zoom });
  }
  redraw();
}
async function copyLink() {
  writeLink();
  const copied = await copyText(location.href);
  byId('link-button').textContent = copied ? 'Copied' : 'Link is in the address bar';
  setTimeout(() => { byId('link-button').textContent = 'Copy link'; }, 1500);
}

const KEYS = [
  ['/', 'search a name', () => search.focus()],
  ['+', 'zoom in', () => active.zoomBy(1.35)],
  ['-', 'zoom out', () => active.zoomBy(1 / 1.35)],
  ['0', 'the whole map', showAll],
  ['n', 'the next of the nearest models', () => step(1)],
  ['p', 'the previous one', () => step(-1)],
  ['f', 'filter', () => byId('filter').focus()],
  ['s', 'lasso: draw around models to select them (or Shift and drag)', () => setLasso(!state.lasso)],
  ['t', 'tree', () => setTree(!state.tree)],
  ['b', 'second map', () => setBeside(!state.beside)],
  ['l', 'legend', () => setLegend(!state.legend)],
  ['d', 'dark or light', () => { setTheme(!state.dark); }],
  ['c', 'copy a link to this view', copyLink],
  ['?', 'this list', () => { byId('help').hidden = !byId('help').hidden; }],
];
function showAll() {
  for (const map of maps) map.fit();
  treeView?.fit();
  moved();
}
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
    else if (state.lasso) setLasso(false);
    else if (state.selected >= 0) select(-1);
    else if (state.chosen) choose([]);
    else selectCluster(-1);
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const far = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (far) {
    event.preventDefault();
    active.move(60 * far[0], 60 * far[1]);
    return;
  }
  const key = KEYS.find(([name]) => name === (event.key === '=' ? '+' : event.key));
  if (key) {
    event.preventDefault();
    key[2]();
  }
});

const maps = data.spaces.map((_, index) => makeMap(index));
// The map that keys move: the one that was used last.
let active = maps[0];

byId('title').textContent = data.title;
maps.forEach((map) => { map.section.querySelector('.map-title').textContent = map.name; });
byId('beside-button').hidden = maps.length < 2;
byId('beside-button').textContent = maps[1]?.name ?? '';
byId('beside-button').addEventListener('click', () => setBeside(!state.beside));
byId('lasso-button').addEventListener('click', () => setLasso(!state.lasso));
byId('legend-button').addEventListener('click', () => setLegend(!state.legend));
function setMenu(open) {
  byId('tools').classList.toggle('open', open);
  byId('menu-button').setAttribute('aria-expanded', String(open));
}
byId('menu-button').addEventListener('click', () => setMenu(!byId('tools').classList.contains('open')));
// The menu closes when a tool was taken from it, so that the map is seen.
byId('tools').addEventListener('click', (event) => { if (event.target.closest('button')) setMenu(false); });
byId('zoom-in').addEventListener('click', () => active.zoomBy(1.6));
byId('zoom-out').addEventListener('click', () => active.zoomBy(1 / 1.6));
byId('zoom-all').addEventListener('click', showAll);
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
if (treeView) new ResizeObserver(redraw).observe(byId('tree'));
restore();
drawNow();

// For tests and for the curious: the view from the console.
window.atlas = {
  state, data, maps, select, choose, setFilter, setLasso, redraw, linkText, treeView, csvOf, csvCell, quoted, human,
  view: maps[0].view, screenOf: maps[0].screenOf, names: data.names, renderer: maps[0].points.kind, dimmed, drawNow, pace,
  // Milliseconds a frame takes while the map moves and zooms, drawn to the end.
  measure(frames = 60) {
    const times = [];
    const { view, points } = maps[0];
    for (let i = 0; i < frames; i += 1) {
      view.x += (i % 2 ? 1 : -1) * 0.01;
      view.zoom *= i % 20 < 10 ? 1.05 : 1 / 1.05;
      const before = performance.now();
      drawNow();
      points.finish();
      times.push(performance.now() - before);
    }
    return times;
  },
};
