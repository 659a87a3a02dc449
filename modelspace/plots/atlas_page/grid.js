// Which model is under the pointer: a uniform grid over a map, built once by counting. Models without a place are in none.

function makeGrid(places) {
  const side = Math.max(1, Math.min(1024, Math.ceil(Math.sqrt(data.n / 2))));
  const cellOf = (value) => Math.min(side - 1, Math.max(0, Math.floor(((value + 1) / 2) * side)));
  const first = new Uint32Array(side * side + 1);
  for (let i = 0; i < data.n; i += 1) {
    if (Number.isNaN(places[2 * i])) continue;
    first[cellOf(places[2 * i + 1]) * side + cellOf(places[2 * i]) + 1] += 1;
  }
  for (let c = 1; c < first.length; c += 1) first[c] += first[c - 1];
  const next = first.slice();
  const models = new Uint32Array(data.n);
  for (let i = 0; i < data.n; i += 1) {
    if (Number.isNaN(places[2 * i])) continue;
    const cell = cellOf(places[2 * i + 1]) * side + cellOf(places[2 * i]);
    models[next[cell]] = i;
    next[cell] += 1;
  }

  // Calls back with every model in a box of the map.
  function within(x0, y0, x1, y1, call) {
    for (let row = cellOf(y0); row <= cellOf(y1); row += 1) {
      const from = first[row * side + cellOf(x0)];
      const to = first[row * side + cellOf(x1) + 1];
      for (let at = from; at < to; at += 1) {
        const i = models[at];
        const x = places[2 * i];
        const y = places[2 * i + 1];
        if (x >= x0 && x <= x1 && y >= y0 && y <= y1 && call(i) === false) return;
      }
    }
  }

  // The nearest model to (x, y) within a radius for which `wanted` holds; -1 if there is none.
  function nearest(x, y, radius, wanted) {
    let best = -1;
    let least = radius * radius;
    within(x - radius, y - radius, x + radius, y + radius, (i) => {
      const far = (places[2 * i] - x) ** 2 + (places[2 * i + 1] - y) ** 2;
      if (far <= least && wanted(i)) { best = i; least = far; }
      return true;
    });
    return best;
  }
  return { within, nearest };
}
