// The data of the page: JSON with arrays as base64 of little-endian bytes, turned into typed arrays.

const byId = (id) => document.getElementById(id);

function bytes(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text).buffer;
  const raw = atob(text);
  const array = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) array[i] = raw.charCodeAt(i);
  return array.buffer;
}

const data = (() => {
  const raw = JSON.parse(byId('data').textContent);
  const n = raw.names.length;
  const floats = (text) => (text ? new Float32Array(bytes(text)) : null);
  const columns = raw.columns.map((column) => ({
    ...column,
    values: column.kind === 'number' ? new Float64Array(bytes(column.values)) : new Int32Array(bytes(column.values)),
  }));
  const nearestIn = (lists) => lists && {
    k: lists.k,
    orderedBy: lists.ordered_by,
    models: new Uint32Array(bytes(lists.models)),
    affinity: floats(lists.affinity),
    low: floats(lists.low),
    high: floats(lists.high),
    score: floats(lists.score),
    tied: lists.tied ? new Uint8Array(bytes(lists.tied)) : null,
  };
  const tree = raw.tree && {
    method: raw.tree.method,
    leaves: new Uint32Array(bytes(raw.tree.leaves)),
    order: new Uint32Array(bytes(raw.tree.order)),
    merges: new Uint32Array(bytes(raw.tree.merges)),
    heights: floats(raw.tree.heights),
    support: floats(raw.tree.support),
  };
  // The maps: of the page's space, and of a second one. A model without a place in it has the place NaN.
  const spaces = [raw, ...(raw.beside ? [raw.beside] : [])].map((map) => ({
    name: map.space, places: floats(map.places), nearest: nearestIn(map.nearest), note: map.note,
  }));
  return {
    n,
    title: raw.title,
    names: raw.names,
    lower: raw.names.map((name) => name.toLowerCase()),
    number: new Map(raw.names.map((name, i) => [name, i])),
    spaces,
    places: spaces[0].places,
    nearest: spaces[0].nearest,
    columns,
    column: new Map(columns.map((column) => [column.name.toLowerCase(), column])),
    tree,
    thumbnails: raw.thumbnails,
    tiles: raw.tiles,
    images: raw.images,
  };
})();

// Numbers as people write them: 3.3M, 96.4k, 1,024, 0.0125.
function human(value) {
  const size = Math.abs(value);
  if (size >= 1e4 && size < 1e15) {
    const units = ['', 'k', 'M', 'B', 'T'];
    let power = Math.min(4, Math.floor(Math.log10(size) / 3));
    let digits = size / 1000 ** power;
    digits = digits >= 100 ? Math.round(digits) : Math.round(10 * digits) / 10;
    if (digits >= 1000 && power < 4) { digits /= 1000; power += 1; }
    return `${value < 0 ? '-' : ''}${digits.toLocaleString('en')}${units[power]}`;
  }
  if (Number.isInteger(value) && size < 1e15) return value.toLocaleString('en');
  return size >= 1e15 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

// A column's value of a model as a card shows it; null where it is missing.
function shown(column, i) {
  const value = column.values[i];
  if (column.kind === 'text') return value < 0 ? null : column.texts[value];
  if (Number.isNaN(value)) return null;
  return human(value);
}
// The value as it was given, for a title and for CSV; '' where it is missing.
function exact(column, i) {
  const value = column.values[i];
  if (column.kind === 'text') return value < 0 ? '' : column.texts[value];
  return Number.isNaN(value) ? '' : String(value);
}

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}
