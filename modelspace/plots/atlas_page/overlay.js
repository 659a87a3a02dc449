// What lies over a map's points: lines to the nearest models, rings, names of regions, attribution maps of models, and names
// that do not overlap.

const MAX_NAMED = 70;
const FONT = 'system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif';
// Most models in view that are drawn as their attribution maps, and most search hits that get a ring.
const MAX_PICTURED = 40;
const MAX_RINGS = 3000;
// How far the map must be zoomed in before models become pictures.
const PICTURE_ZOOM = 1.6;

// Boxes that are taken; a label goes where it meets none.
function makeBoxes() {
  const boxes = [];
  return {
    free: ([left, top, right, bottom]) => !boxes.some(([l, t, r, b]) => left < r && l < right && top < b && t < bottom),
    take: (box) => boxes.push(box),
    all: boxes,
  };
}

function drawOverlay(map, ratio) {
  const context = map.overlay.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const [width, height] = map.size();
  context.clearRect(0, 0, width, height);
  context.lineJoin = 'round';
  context.textBaseline = 'middle';
  const around = nearestOf(state.selected, map.index);
  drawLines(map, context, around);

  const [x0, y0] = map.mapOf(0, height);
  const [x1, y1] = map.mapOf(width, 0);
  const inView = [];
  map.grid.within(x0, y0, x1, y1, (i) => {
    if (!dimmed[i]) inView.push(i);
    return inView.length <= MAX_NAMED;
  });
  const few = inView.length <= MAX_NAMED;
  // Half the side of what marks each model: a point, or its attribution map.
  const half = new Map();
  if (few) for (const i of inView) half.set(i, map.pointSize());
  if (few) drawPictures(map, context, inView, half);
  drawRings(map, context, around, half);
  const dots = makeBoxes();
  for (const [i, reach] of half) {
    const [x, y] = map.screenOf(i);
    dots.take([x - reach, y - reach, x + reach, y + reach]);
  }
  const labels = makeBoxes();
  map.labels = [];
  drawRegions(map, context, labels, few ? dots : null);
  drawNames(map, context, [state.selected, ...around.map((near) => near.model), ...state.hits.slice(0, 40), ...(few ? inView : [])],
    half, labels, few ? dots : null);
  if (map.lasso.length) drawLasso(context, map.lasso);
}

function drawLines(map, context, around) {
  if (state.selected < 0) return;
  const [x, y] = map.screenOf(state.selected);
  if (Number.isNaN(x)) return;
  context.strokeStyle = theme.accent;
  context.globalAlpha = 0.55;
  for (const { model, affinity } of around) {
    const [nx, ny] = map.screenOf(model);
    if (Number.isNaN(nx)) continue;
    context.lineWidth = 0.6 + 2.4 * Math.max(0, affinity);
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(nx, ny);
    context.stroke();
  }
  context.globalAlpha = 1;
}

function drawRings(map, context, around, half) {
  const ring = (i, colour, grow, lineWidth) => {
    const [x, y] = map.screenOf(i);
    if (Number.isNaN(x)) return;
    const reach = (half.get(i) ?? map.pointSize()) + grow;
    context.strokeStyle = colour;
    context.lineWidth = lineWidth;
    context.beginPath();
    if (half.get(i) > 12) context.rect(x - reach, y - reach, 2 * reach, 2 * reach);
    else context.arc(x, y, reach, 0, 2 * Math.PI);
    context.stroke();
  };
  // The rings of all hits are one path, which is drawn many times faster than each by itself.
  const reach = map.pointSize() + 2.5;
  context.beginPath();
  for (const i of state.hits.slice(0, MAX_RINGS)) {
    const [x, y] = map.screenOf(i);
    if (Number.isNaN(x)) continue;
    context.moveTo(x + reach, y);
    context.arc(x, y, reach, 0, 2 * Math.PI);
  }
  context.strokeStyle = theme.hit;
  context.lineWidth = 2;
  context.stroke();
  for (const { model } of around) ring(model, theme.accent, 2, 1);
  if (state.selected >= 0) ring(state.selected, theme.front, 4, 2);
  if (state.hover >= 0 && state.hover !== state.selected) ring(state.hover, theme.front, 3, 1.5);
}

// Models as their first attribution map, framed in the model's colour, where there is room; the others stay points.
function drawPictures(map, context, inView, half) {
  map.pictured = [];
  if (map.view.zoom < PICTURE_ZOOM * map.whole().zoom || inView.length > MAX_PICTURED) return;
  const reach = inView.length > 14 ? 16 : 24;
  const [width, height] = map.size();
  const taken = makeBoxes();
  const first = [state.selected, ...inView].filter((i, at, all) => half.has(i) && all.indexOf(i) === at);
  for (const i of first) {
    const picture = thumbnailOf(i);
    const [x, y] = map.screenOf(i);
    const box = [x - reach - 3, y - reach - 3, x + reach + 3, y + reach + 3];
    if (!picture || x < 0 || y < 0 || x > width || y > height || !taken.free(box)) continue;
    taken.take(box);
    map.pictured.push(i);
    half.set(i, reach + 2);
    context.fillStyle = css([look.rgb[3 * i], look.rgb[3 * i + 1], look.rgb[3 * i + 2]]);
    context.fillRect(x - reach - 2, y - reach - 2, 2 * reach + 4, 2 * reach + 4);
    context.imageSmoothingEnabled = false;
    context.drawImage(picture, 0, 0, picture.width / data.tiles, picture.height, x - reach, y - reach, 2 * reach, 2 * reach);
  }
}

function write(context, text, left, middle, colour, halo) {
  context.lineWidth = halo;
  context.strokeStyle = css(theme.back);
  context.strokeText(text, left, middle);
  context.fillStyle = colour;
  context.fillText(text, left, middle);
}

function drawRegions(map, context, labels, dots) {
  const [width, height] = map.size();
  const zoom = map.view.zoom / map.whole().zoom;
  const regions = map.clusters.at(zoom);
  const placed = [];
  for (const region of regions) {
    if (placed.length >= 24) break;
    // Where each model has its name, a name that is only a model's says nothing.
    if (dots && region.isMedoid) continue;
    const [x, y] = map.screenOfPlace(region.x, region.y);
    if (x < 0 || y < 0 || x > width || y > height) continue;
    if (region.count < 0.004 * data.n && regions.length > 40 && zoom < 2) continue;
    const size = region.isMedoid ? 11 : Math.round(11 + Math.min(5, Math.log2(1 + (40 * region.count) / data.n)));
    context.font = `${region.isMedoid ? 'italic 400' : '700'} ${size}px ${FONT}`;
    const text = short(region.name, 28);
    const long = context.measureText(text).width;
    // The same name is not repeated close by.
    if (placed.some((other) => other.text === text && Math.hypot(other.x - x, other.y - y) < 130)) continue;
    const [, high] = map.screenOfPlace(region.x, region.top);
    const [, low] = map.screenOfPlace(region.x, region.bottom);
    const reach = map.pointSize() + size / 2 + 4;
    const spots = dots
      ? [[x, high - reach], [x, low + reach], [x - long / 2 - 60, y], [x + long / 2 + 60, y], [x, high - reach - 20], [x, low + reach + 20]]
      : [[x, y], [x, y - size], [x, y + size], [x, high - reach], [x, low + reach]];
    for (const [centre, middle] of spots) {
      const left = Math.min(Math.max(centre - long / 2, 4), width - long - 4);
      const box = [left - 4, middle - size / 2 - 2, left + long + 4, middle + size / 2 + 2];
      if (left < 0 || box[1] < 0 || box[3] > height || !labels.free(box) || (dots && !dots.free(box))) continue;
      labels.take(box);
      placed.push({ text, x, y });
      map.labels.push({ kind: 'region', text, box });
      write(context, text, left, middle, region.rgb ? css(forWords(region.rgb, state.dark)) : theme.front, 4);
      break;
    }
  }
}

function drawNames(map, context, models, half, labels, dots) {
  const [width, height] = map.size();
  const written = new Set();
  context.font = `11.5px ${FONT}`;
  for (const i of models) {
    if (i < 0 || written.has(i)) continue;
    const [x, y] = map.screenOf(i);
    if (!(x >= 0 && y >= 0 && x <= width && y <= height)) continue;
    written.add(i);
    const name = short(data.names[i], 34);
    const long = context.measureText(name).width;
    const away = (half.get(i) ?? map.pointSize()) + 4;
    const spots = [[x + away, y], [x - away - long, y], [x - long / 2, y - away - 5], [x - long / 2, y + away + 5]];
    const boxAt = ([left, middle]) => [left - 1.5, middle - 6.5, left + long + 1.5, middle + 6.5];
    const fits = (spot) => {
      const box = boxAt(spot);
      return box[0] >= 0 && box[2] <= width && box[1] >= 0 && box[3] <= height && labels.free(box) && (!dots || dots.free(box));
    };
    const spot = spots.find(fits) ?? (i === state.selected ? [Math.min(x + away, width - long - 4), y] : null);
    if (!spot) continue;
    labels.take(boxAt(spot));
    map.labels.push({ kind: 'model', text: name, box: boxAt(spot) });
    write(context, name, spot[0], spot[1], theme.front, 3);
  }
}

function drawLasso(context, line) {
  context.beginPath();
  line.forEach(([x, y], at) => context[at ? 'lineTo' : 'moveTo'](x, y));
  context.closePath();
  context.fillStyle = theme.accent;
  context.globalAlpha = 0.12;
  context.fill();
  context.globalAlpha = 1;
  context.strokeStyle = theme.accent;
  context.lineWidth = 1.5;
  context.setLineDash([5, 4]);
  context.stroke();
  context.setLineDash([]);
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

// A model's nearest in a space of the page, best first: model, affinity, the ends of its interval, the score that orders
// them (null where that is the affinity), and whether it is tied with the one before.
function nearestOf(i, space = 0) {
  const { nearest } = data.spaces[space];
  if (i < 0 || !nearest) return [];
  const rows = [];
  for (let j = 0; j < nearest.k; j += 1) {
    const at = i * nearest.k + j;
    // A model that is not in the second space has no nearest there.
    if (Number.isNaN(nearest.affinity[at])) break;
    rows.push({
      model: nearest.models[at],
      affinity: nearest.affinity[at],
      low: nearest.low ? nearest.low[at] : null,
      high: nearest.high ? nearest.high[at] : null,
      score: nearest.score ? nearest.score[at] : null,
      tied: j > 0 && Boolean(nearest.tied?.[at - 1]),
    });
  }
  return rows;
}
