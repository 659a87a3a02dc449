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
  const columns = raw.columns.map((column) => ({
    ...column,
    values: column.kind === 'number' ? new Float64Array(bytes(column.values)) : new Int32Array(bytes(column.values)),
  }));
  const nearest = raw.nearest && {
    k: raw.nearest.k,
    models: new Uint32Array(bytes(raw.nearest.models)),
    affinity: new Float32Array(bytes(raw.nearest.affinity)),
    low: raw.nearest.low ? new Float32Array(bytes(raw.nearest.low)) : null,
    high: raw.nearest.high ? new Float32Array(bytes(raw.nearest.high)) : null,
  };
  const tree = raw.tree && {
    method: raw.tree.method,
    leaves: new Uint32Array(bytes(raw.tree.leaves)),
    order: new Uint32Array(bytes(raw.tree.order)),
    merges: new Uint32Array(bytes(raw.tree.merges)),
    heights: new Float32Array(bytes(raw.tree.heights)),
    support: raw.tree.support ? new Float32Array(bytes(raw.tree.support)) : null,
  };
  return {
    n,
    title: raw.title,
    note: raw.note,
    names: raw.names,
    lower: raw.names.map((name) => name.toLowerCase()),
    number: new Map(raw.names.map((name, i) => [name, i])),
    places: new Float32Array(bytes(raw.places)),
    columns,
    column: new Map(columns.map((column) => [column.name.toLowerCase(), column])),
    nearest,
    tree,
    thumbnails: raw.thumbnails,
  };
})();

// A column's value of a model as a card shows it; null where it is missing.
function shown(column, i) {
  const value = column.values[i];
  if (column.kind === 'text') return value < 0 ? null : column.texts[value];
  if (Number.isNaN(value)) return null;
  if (Number.isInteger(value)) return value.toLocaleString('en');
  return Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 ? value.toExponential(3) : String(Number(value.toPrecision(5)));
}

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}
