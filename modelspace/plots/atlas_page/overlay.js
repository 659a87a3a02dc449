// What lies over the points: lines to the nearest models, rings, and names that do not overlap.

const MAX_NAMED = 70;

function drawOverlay(canvas, ratio) {
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const width = canvas.width / ratio;
  const height = canvas.height / ratio;
  context.clearRect(0, 0, width, height);
  const style = getComputedStyle(document.documentElement);
  const front = style.getPropertyValue('--front').trim();
  const back = style.getPropertyValue('--back').trim();
  const accent = style.getPropertyValue('--accent').trim();
  const size = pointSize();
  const taken = [];
  const around = nearestOf(state.selected);

  if (state.selected >= 0) {
    const [x, y] = screenOf(state.selected);
    context.strokeStyle = accent;
    context.globalAlpha = 0.55;
    for (const { model, affinity } of around) {
      const [nx, ny] = screenOf(model);
      context.lineWidth = 0.6 + 2.4 * Math.max(0, affinity);
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(nx, ny);
      context.stroke();
    }
    context.globalAlpha = 1;
  }
  const ring = (i, colour, grow, lineWidth) => {
    const [x, y] = screenOf(i);
    context.strokeStyle = colour;
    context.lineWidth = lineWidth;
    context.beginPath();
    context.arc(x, y, size + grow, 0, 2 * Math.PI);
    context.stroke();
  };
  for (const { model } of around) ring(model, accent, 2, 1);
  if (state.selected >= 0) ring(state.selected, front, 4, 2);
  if (state.hover >= 0 && state.hover !== state.selected) ring(state.hover, front, 3, 1.5);

  context.font = '11.5px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif';
  context.textBaseline = 'middle';
  context.lineJoin = 'round';
  // Names come once few models are in view; a count that stops early keeps a frame short.
  const [x0, y0] = mapOf(0, height);
  const [x1, y1] = mapOf(width, 0);
  const inView = [];
  grid.within(x0, y0, x1, y1, (i) => {
    if (!dimmed[i]) inView.push(i);
    return inView.length <= MAX_NAMED;
  });
  const few = inView.length <= MAX_NAMED;
  const dots = few ? inView.map(screenOf) : [];
  const written = new Set();
  const write = (i, always) => {
    if (written.has(i)) return;
    const [x, y] = screenOf(i);
    if (x < 0 || y < 0 || x > width || y > height) return;
    const name = short(data.names[i], 34);
    const long = context.measureText(name).width;
    const spots = [[x + size + 4, y], [x - size - 4 - long, y], [x - long / 2, y - size - 9], [x - long / 2, y + size + 9]];
    const free = ([left, middle]) =>
      left >= 0 && left + long <= width && middle >= 8 && middle <= height - 8
      && !taken.some(([l, m, w]) => left < l + w + 3 && l < left + long + 3 && Math.abs(middle - m) < 13)
      && !dots.some(([dx, dy]) => dx > left - size && dx < left + long + size && Math.abs(dy - middle) < 5 + size);
    const spot = spots.find(free) ?? (always ? spots[0] : null);
    if (!spot) return;
    written.add(i);
    taken.push([spot[0], spot[1], long]);
    context.lineWidth = 3;
    context.strokeStyle = back;
    context.strokeText(name, spot[0], spot[1]);
    context.fillStyle = front;
    context.fillText(name, spot[0], spot[1]);
  };
  if (state.selected >= 0) write(state.selected, true);
  for (const { model } of around) write(model, false);
  if (few) for (const i of inView) write(i, false);
}

function short(name, longest) {
  const line = name.replace(/\s+/g, ' ').trim();
  if (line.length <= longest) return line;
  const tail = Math.floor((longest - 1) / 2);
  return `${line.slice(0, longest - 1 - tail)}…${line.slice(-tail)}`;
}

// A name on one line that is no wider than `room` pixels in the context's font.
function fitting(context, name, room) {
  let text = short(name, 60);
  for (let longest = text.length - 1; longest > 3 && context.measureText(text).width > room; longest -= 1) {
    text = short(name, longest);
  }
  return text;
}

// The selected model's nearest, best first: model, affinity, and the ends of its interval where there is one.
function nearestOf(i) {
  const { nearest } = data;
  if (i < 0 || !nearest) return [];
  return Array.from({ length: nearest.k }, (_, j) => {
    const at = i * nearest.k + j;
    return {
      model: nearest.models[at],
      affinity: nearest.affinity[at],
      low: nearest.low ? nearest.low[at] : null,
      high: nearest.high ? nearest.high[at] : null,
    };
  });
}
