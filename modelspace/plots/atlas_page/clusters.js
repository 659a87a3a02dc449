// Names for regions of a map, at every zoom: peaks of density, each named by what most of its models share.
//
// Models are counted in square cells, and the counts are smoothed over the cells around. A cell belongs to the peak that
// is reached by going to the fullest neighbour again and again (a watershed), so islands get one name each and a dense
// field gets several. Cells are half as wide at twice the zoom; each level is computed once.

const MAX_REGIONS = 400;
// Cells per side of the whole map at zoom 1, smallest share of a region's models that a name (or two names) speaks for, and
// smallest region.
const CELLS = Math.round(Math.min(40, Math.max(16, 0.8 * Math.sqrt(data.n))));
const SHARE = 0.6;
const SHARE_OF_TWO = 0.8;
const MIN_REGION = 3;

function makeClusters(places) {
  let levels = new Map();

  function regionsAt(level) {
    const side = CELLS * 2 ** level;
    const stride = 2 ** 26;
    const key = (i) => Math.floor(((places[2 * i] + 1) / 2) * side + 1) * stride + Math.floor(((places[2 * i + 1] + 1) / 2) * side + 1);
    const cells = new Map();
    for (let i = 0; i < data.n; i += 1) {
      if (dimmed[i] || Number.isNaN(places[2 * i])) continue;
      const cell = key(i);
      const members = cells.get(cell);
      if (members) members.push(i);
      else cells.set(cell, [i]);
    }
    const around = [-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1];
    const density = new Map();
    for (const [cell, members] of cells) {
      density.set(cell, 2 * members.length + around.reduce((sum, step) => sum + (cells.get(cell + step)?.length ?? 0), 0));
    }
    const peakOf = new Map();
    const climb = (cell) => {
      const path = [];
      let at = cell;
      for (;;) {
        if (peakOf.has(at)) { at = peakOf.get(at); break; }
        path.push(at);
        let best = at;
        for (const step of around) {
          const value = density.get(at + step);
          // Equal neighbours are ordered by their key, so that no walk is a circle.
          if (value > density.get(best) || (value === density.get(best) && at + step > best)) best = at + step;
        }
        if (best === at) break;
        at = best;
      }
      for (const passed of path) peakOf.set(passed, at);
      return at;
    };
    const regions = new Map();
    for (const [cell, members] of cells) {
      const peak = climb(cell);
      const list = regions.get(peak);
      if (list) for (const member of members) list.push(member);
      else regions.set(peak, [...members]);
    }
    return [...regions.values()].filter((members) => members.length >= MIN_REGION)
      .sort((a, b) => b.length - a.length).slice(0, MAX_REGIONS).map(region);
  }

  const shares = new Map();
  function wholeShare(column, value) {
    if (!shares.has(column)) {
      const counts = new Map();
      for (const code of column.values) counts.set(code, (counts.get(code) ?? 0) + 1);
      shares.set(column, counts);
    }
    return shares.get(column).get(value) / data.n;
  }

  function region(members) {
    let [x, y] = [0, 0];
    let [top, bottom] = [-Infinity, Infinity];
    for (const i of members) {
      x += places[2 * i] / members.length;
      y += places[2 * i + 1] / members.length;
      top = Math.max(top, places[2 * i + 1]);
      bottom = Math.min(bottom, places[2 * i + 1]);
    }
    return { x, y, top, bottom, count: members.length, ...nameOf(members, x, y) };
  }

  // The value that most models share, of the column that colours the map, else of the group, the task or the architecture;
  // without one the name of the model in the middle.
  function nameOf(members, x, y) {
    const named = ['group', 'task', 'architecture'].map((name) => data.column.get(name));
    for (const column of [data.columns[state.colour], ...named]) {
      if (column?.kind !== 'text' || column.texts.length < 2) continue;
      const counts = new Map();
      for (const i of members) counts.set(column.values[i], (counts.get(column.values[i]) ?? 0) + 1);
      counts.delete(-1);
      const [[value, count], [second, further]] = [...counts, [-1, 0], [-1, 0]].sort((a, b) => b[1] - a[1]);
      const isColour = column === data.columns[state.colour];
      const single = count >= SHARE * members.length;
      if (!single && !(second >= 0 && count + further >= SHARE_OF_TWO * members.length)) continue;
      // What most of all models share says nothing of these.
      if (single && members.length < data.n && wholeShare(column, value) > (isColour ? 0.8 : 0.5)) continue;
      if (!single) return { name: `${column.texts[value]}, ${column.texts[second]}`, rgb: null };
      return { name: column.texts[value], rgb: isColour ? look.looks[column.look_of[value]]?.rgb ?? null : null };
    }
    let medoid = members[0];
    let least = Infinity;
    for (const i of members) {
      const far = (places[2 * i] - x) ** 2 + (places[2 * i + 1] - y) ** 2;
      if (far < least) { least = far; medoid = i; }
    }
    return { name: `around ${short(data.names[medoid], 18)}`, rgb: null, isMedoid: true };
  }

  return {
    // The regions for a zoom, where 1 is the whole map; largest first. With very many models they take longer than a frame:
    // while the map moves, those of the nearest zoom that is known are shown.
    at(zoom) {
      const level = Math.min(14, Math.max(0, Math.round(Math.log2(Math.max(zoom, 1e-6)))));
      if (!levels.has(level) && pace.isMoving && data.n > MANY && levels.size) {
        const known = [...levels.keys()].sort((a, b) => Math.abs(a - level) - Math.abs(b - level));
        return levels.get(known[0]);
      }
      if (!levels.has(level)) levels.set(level, regionsAt(level));
      return levels.get(level);
    },
    forget() { levels = new Map(); },
  };
}
