// The tree next to the map: rows are leaves, the root is at the left. Subtrees lower than a pixel are drawn as one line,
// so a frame costs as much as there are pixels, whatever the number of models.

const treeView = data.tree && (() => {
  const { leaves, order, merges, heights, support } = data.tree;
  const n = leaves.length;
  const nodes = 2 * n - 1;
  const root = nodes - 1;
  const place = new Float32Array(nodes);
  const low = new Uint32Array(nodes);
  const high = new Uint32Array(nodes);
  const rowOfModel = new Uint32Array(n);
  order.forEach((leaf, row) => {
    place[leaf] = row;
    low[leaf] = row;
    high[leaf] = row;
    rowOfModel[leaves[leaf]] = row;
  });
  for (let k = 0; k < n - 1; k += 1) {
    const [a, b] = [merges[2 * k], merges[2 * k + 1]];
    place[n + k] = (place[a] + place[b]) / 2;
    low[n + k] = Math.min(low[a], low[b]);
    high[n + k] = Math.max(high[a], high[b]);
  }
  const heightOf = (node) => (node < n ? 0 : heights[node - n]);
  let top = 0;
  let least = Infinity;
  for (const height of heights) {
    if (height > top) top = height;
    if (height < least) least = height;
  }
  // As in the printed tree: where all merges lie far from 0 the axis begins near the first.
  const start = least > 0.35 * top && least < Infinity ? least - 0.12 * Math.max(top - least, 0.02) : 0;

  const canvas = byId('branches');
  const view = { first: -0.5, row: 0 };
  let colourOf = null;

  const size = () => [canvas.clientWidth, canvas.clientHeight];
  const nameRoom = () => Math.min(210, 0.45 * size()[0]);
  const rightEdge = () => size()[0] - (view.row >= 9 ? nameRoom() : 14);
  const xOf = (height) => 20 + ((top - Math.max(height, start)) / (top - start || 1)) * (rightEdge() - 20);
  const yOf = (row) => (row - view.first) * view.row;

  function fit() {
    view.row = Math.max(size()[1] - 8, 10) / n;
    view.first = -0.5 - 4 / view.row;
  }
  function clamp() {
    const [, height] = size();
    view.row = Math.min(Math.max(view.row, Math.max(height - 8, 10) / n), 40);
    const most = n + 0.5 - height / view.row;
    view.first = Math.min(Math.max(view.first, -1), Math.max(most, -1));
  }
  function colours() {
    // A subtree has its models' colour when they all share one, else none.
    const rgb = (model) => (look.rgb[3 * model] << 16) | (look.rgb[3 * model + 1] << 8) | look.rgb[3 * model + 2];
    colourOf = new Int32Array(nodes);
    for (let leaf = 0; leaf < n; leaf += 1) colourOf[leaf] = rgb(leaves[leaf]);
    for (let k = 0; k < n - 1; k += 1) {
      const a = colourOf[merges[2 * k]];
      colourOf[n + k] = a === colourOf[merges[2 * k + 1]] ? a : -1;
    }
  }
  const cssOf = (code, quiet) => (code < 0 ? quiet : `#${code.toString(16).padStart(6, '0')}`);

  function draw(ratio) {
    if (!colourOf) colours();
    if (!view.row) fit();
    clamp();
    const context = canvas.getContext('2d');
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const [width, height] = size();
    context.clearRect(0, 0, width, height);
    const { quiet, front, accent } = theme;
    if (state.cluster >= 0) {
      context.fillStyle = accent;
      context.globalAlpha = 0.13;
      context.fillRect(0, yOf(low[state.cluster] - 0.5), width, (high[state.cluster] - low[state.cluster] + 1) * view.row);
      context.globalAlpha = 1;
    }
    const right = xOf(0);
    const line = (x0, y0, x1, y1, colour) => {
      context.strokeStyle = colour;
      context.beginPath();
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
      context.stroke();
    };
    context.lineWidth = Math.min(1.2, Math.max(0.6, view.row));
    const written = [];
    const stack = [root];
    while (stack.length) {
      const node = stack.pop();
      if (yOf(high[node] + 1) < 0 || yOf(low[node] - 1) > height) continue;
      const x = xOf(heightOf(node));
      const y = yOf(place[node]);
      if (node < n || (high[node] - low[node]) * view.row < 1.2) {
        line(x, y, right, y, cssOf(colourOf[node], quiet));
        continue;
      }
      for (const child of [merges[2 * (node - n)], merges[2 * (node - n) + 1]]) {
        const cy = yOf(place[child]);
        line(x, y, x, cy, cssOf(colourOf[node], quiet));
        line(x, cy, xOf(heightOf(child)), cy, cssOf(colourOf[child], quiet));
        stack.push(child);
      }
      if (support && node !== root && view.row >= 9) {
        context.font = '9px system-ui, sans-serif';
        context.fillStyle = front;
        context.textAlign = 'right';
        // Numbers that would lie on one another are left out; the merge's card has them.
        if (!written.some(([left, top]) => Math.abs(left - x) < 20 && Math.abs(top - y) < 10)) {
          context.fillText(String(Math.round(100 * support[node - n])), x - 2, y - 3);
          written.push([x, y]);
        }
        context.textAlign = 'left';
      }
    }
    const from = Math.max(0, Math.floor(view.first));
    const to = Math.min(n - 1, Math.ceil(view.first + height / view.row));
    if (view.row >= 9) {
      context.textBaseline = 'middle';
      for (let row = from; row <= to; row += 1) {
        const model = leaves[order[row]];
        context.globalAlpha = dimmed[model] ? 0.35 : 1;
        context.fillStyle = css([look.rgb[3 * model], look.rgb[3 * model + 1], look.rgb[3 * model + 2]]);
        trace(context, look.shape[model], right + 7, yOf(row), 3.5);
        context.fill();
        context.fillStyle = model === state.selected ? accent : front;
        context.font = `${model === state.selected ? '600 ' : ''}11px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif`;
        context.fillText(fitting(context, data.names[model], nameRoom() - 19), right + 15, yOf(row));
      }
      context.globalAlpha = 1;
      context.textBaseline = 'alphabetic';
    }
    for (const [model, colour, radius] of [[state.hover, front, 3], [state.selected, accent, 4.5]]) {
      if (model < 0) continue;
      const y = yOf(rowOfModel[model]);
      if (view.row < 9) line(right, y, width, y, colour);
      context.fillStyle = colour;
      context.beginPath();
      context.arc(right, y, radius, 0, 2 * Math.PI);
      context.fill();
    }
  }

  // The model or the merge at a place on the canvas.
  function at(x, y) {
    const row = Math.round(view.first + y / view.row);
    if (x >= rightEdge() - 6) return row >= 0 && row < n ? { model: leaves[order[row]] } : null;
    let best = null;
    let least2 = 49;
    const stack = [root];
    while (stack.length) {
      const node = stack.pop();
      if (node < n || yOf(high[node] + 1) < y || yOf(low[node] - 1) > y) continue;
      if ((high[node] - low[node]) * view.row < 2) continue;
      const [a, b] = [merges[2 * (node - n)], merges[2 * (node - n) + 1]];
      const y0 = Math.min(yOf(place[a]), yOf(place[b]));
      const y1 = Math.max(yOf(place[a]), yOf(place[b]));
      const dy = y < y0 ? y0 - y : y > y1 ? y - y1 : 0;
      const far = (x - xOf(heightOf(node))) ** 2 + dy * dy;
      if (far < least2) { best = { cluster: node }; least2 = far; }
      stack.push(a, b);
    }
    return best ?? (row >= 0 && row < n && view.row >= 4 ? { model: leaves[order[row]] } : null);
  }
  function members(node) {
    return Array.from({ length: high[node] - low[node] + 1 }, (_, j) => leaves[order[low[node] + j]]);
  }
  function show(model) {
    const y = yOf(rowOfModel[model]);
    if (view.row && (y < 10 || y > size()[1] - 10)) view.first = rowOfModel[model] - size()[1] / view.row / 2;
  }

  const pointers = new Map();
  let moved = 0;
  const local = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    const [, y] = local(event);
    const row = view.first + y / view.row;
    view.row *= Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002));
    clamp();
    view.first = row - y / view.row;
    redraw();
  }, { passive: false });
  canvas.addEventListener('pointerdown', (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, local(event));
    moved = 0;
  });
  canvas.addEventListener('pointermove', (event) => {
    const now = local(event);
    const before = pointers.get(event.pointerId);
    if (before) {
      moved += Math.abs(now[1] - before[1]) + Math.abs(now[0] - before[0]);
      view.first -= (now[1] - before[1]) / view.row;
      pointers.set(event.pointerId, now);
      redraw();
    } else {
      hover(at(...now)?.model ?? -1, null);
    }
  });
  canvas.addEventListener('pointerup', (event) => {
    if (pointers.delete(event.pointerId) && moved < 5) {
      const found = at(...local(event));
      if (found?.cluster !== undefined) selectCluster(found.cluster);
      else if (found) select(found.model);
      else selectCluster(-1);
    }
  });
  canvas.addEventListener('pointercancel', (event) => pointers.delete(event.pointerId));
  canvas.addEventListener('pointerleave', () => hover(-1, null));
  canvas.addEventListener('keydown', (event) => {
    const steps = { ArrowUp: -1, ArrowDown: 1, PageUp: -20, PageDown: 20 }[event.key];
    if (!steps) return;
    event.preventDefault();
    event.stopPropagation();
    const row = state.selected < 0 ? 0 : rowOfModel[state.selected] + steps;
    select(leaves[order[Math.min(Math.max(row, 0), n - 1)]]);
  });
  return {
    draw,
    members,
    show,
    fit() { view.row = 0; },
    recolour() { colourOf = null; },
    nodes,
    about: (node) => ({ height: heightOf(node), support: support && node >= n && node !== root ? support[node - n] : null }),
    where: (node) => [xOf(heightOf(node)), yOf(place[node])],
  };
})();
