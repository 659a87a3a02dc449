// Colours and shapes of the models, for either theme.

const SHAPES = { o: 0, '^': 1, s: 2, D: 3, P: 4, v: 5, X: 6, p: 7, h: 8, '.': 9 };
const SEQUENCE = ['#440154', '#3f4788', '#2e6f8e', '#21908c', '#35b779', '#8fd744', '#d8d219'].map(rgbOf);
const MISSING = [150, 150, 150];
const RELIEF = ['#06163f', '#1f4e9a', '#5f7fa8', '#9a9a96', '#c9a878', '#f2cf7a', '#fffbe6'].map(rgbOf);
const UNSIGNED = ['#fffff7', '#f6d9a8', '#e8985a', '#b8433a', '#5e1446', '#14061f'].map(rgbOf);

function rgbOf(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

function blend(stops, t) {
  const at = Math.min(Math.max(t, 0), 1) * (stops.length - 1);
  const i = Math.min(Math.floor(at), stops.length - 2);
  return stops[i].map((value, c) => Math.round(value + (at - i) * (stops[i + 1][c] - value)));
}

const lightnessOf = (rgb) => (0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]) / 255;

// Dark colours would vanish on a dark page: they move towards white until they are light enough.
function onTheme(rgb, dark) {
  if (!dark) return rgb;
  const light = lightnessOf(rgb);
  const t = Math.max(0, (0.5 - light) / (1 - light));
  return rgb.map((value) => Math.round(value + t * (255 - value)));
}

// A colour for words: as on the theme, but far enough from the page to be read.
function forWords(rgb, dark) {
  const light = lightnessOf(rgb);
  if (dark) return rgb.map((value) => Math.round(value + Math.max(0, (0.68 - light) / (1 - light)) * (255 - value)));
  return rgb.map((value) => Math.round(value * Math.min(1, 0.42 / light)));
}

const css = (rgb, alpha = 1) => `rgba(${rgb[0]},${rgb[1]},${rgb[2]},${alpha})`;

// A colouring: rgb (3 bytes a model), shape (1 byte a model), and what a legend needs.
function colouring(column, dark) {
  const rgb = new Uint8Array(3 * data.n);
  const shape = new Uint8Array(data.n);
  const nothing = onTheme(MISSING, dark);
  if (!column) {
    const one = onTheme(rgbOf('#3465b0'), dark);
    for (let i = 0; i < data.n; i += 1) rgb.set(one, 3 * i);
    return { rgb, shape, looks: [], range: null };
  }
  if (column.kind === 'text') {
    const looks = column.looks.map((look) => ({
      ...look, rgb: onTheme(rgbOf(look.colour), dark), code: SHAPES[look.shape] ?? 0,
    }));
    for (let i = 0; i < data.n; i += 1) {
      const value = column.values[i];
      const look = value < 0 ? undefined : looks[column.look_of[value]];
      rgb.set(look ? look.rgb : nothing, 3 * i);
      shape[i] = look ? look.code : SHAPES['.'];
    }
    return { rgb, shape, looks, range: null };
  }
  let low = Infinity;
  let high = -Infinity;
  for (const value of column.values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const log = low > 0 && high / low > 100;
  const scale = (value) => {
    if (!(high > low)) return 0.5;
    return log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  };
  for (let i = 0; i < data.n; i += 1) {
    const value = column.values[i];
    rgb.set(Number.isNaN(value) ? nothing : onTheme(blend(SEQUENCE, scale(value)), dark), 3 * i);
    shape[i] = Number.isNaN(value) ? SHAPES['.'] : 0;
  }
  return { rgb, shape, looks: [], range: Number.isFinite(low) ? { low, high, log } : null };
}

// The outline of a shape in a square of half side 1, for canvas 2D; the shaders of points.js draw the same.
function trace(context, code, x, y, r) {
  const polygon = (corners) => {
    context.beginPath();
    corners.forEach(([px, py], i) => context[i ? 'lineTo' : 'moveTo'](x + px * r, y + py * r));
    context.closePath();
  };
  const regular = (sides, turn, size = 1) =>
    polygon(Array.from({ length: sides }, (_, i) => {
      const angle = turn + (2 * Math.PI * i) / sides;
      return [size * Math.sin(angle), -size * Math.cos(angle)];
    }));
  const cross = (turn) => {
    const w = 0.36;
    const corners = [[-w, -1], [w, -1], [w, -w], [1, -w], [1, w], [w, w], [w, 1], [-w, 1], [-w, w], [-1, w], [-1, -w], [-w, -w]];
    polygon(corners.map(([px, py]) => [px * Math.cos(turn) - py * Math.sin(turn), px * Math.sin(turn) + py * Math.cos(turn)]));
  };
  switch (code) {
    case 1: regular(3, 0, 1.1); break;
    case 2: polygon([[-0.8, -0.8], [0.8, -0.8], [0.8, 0.8], [-0.8, 0.8]]); break;
    case 3: regular(4, 0, 1.05); break;
    case 4: cross(0); break;
    case 5: regular(3, Math.PI, 1.1); break;
    case 6: cross(Math.PI / 4); break;
    case 7: regular(5, 0); break;
    case 8: regular(6, 0); break;
    default: context.beginPath(); context.arc(x, y, (code === 9 ? 0.55 : 0.9) * r, 0, 2 * Math.PI);
  }
}

// A model's attribution maps side by side as a canvas of one pixel a value; null where it has none. Decoded when they are
// first shown, and the last few hundred are kept.
const MAX_KEPT = 400;
const thumbnailOf = (() => {
  const kept = new Map();
  function decode(i) {
    const [width, height, signed, text] = data.thumbnails[i];
    const levels = new Int8Array(bytes(text));
    const canvas = element('canvas');
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext('2d');
    const image = context.createImageData(width, height);
    for (let j = 0; j < levels.length; j += 1) {
      const rgb = signed ? blend(RELIEF, (levels[j] / 127 + 1) / 2) : blend(UNSIGNED, levels[j] / 127);
      image.data.set([rgb[0], rgb[1], rgb[2], 255], 4 * j);
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }
  return (i) => {
    if (!data.thumbnails[i]) return null;
    const canvas = kept.get(i) ?? decode(i);
    kept.delete(i);
    kept.set(i, canvas);
    if (kept.size > MAX_KEPT) kept.delete(kept.keys().next().value);
    return canvas;
  };
})();
function copyOf(source) {
  const canvas = element('canvas');
  canvas.width = source.width;
  canvas.height = source.height;
  canvas.getContext('2d').drawImage(source, 0, 0);
  return canvas;
}

// The probe images as canvases; decoded once.
const probeImages = (() => {
  let kept = null;
  return () => {
    kept ??= data.images.map(([width, height, text]) => {
      const rgb = new Uint8Array(bytes(text));
      const canvas = element('canvas');
      canvas.width = width;
      canvas.height = height;
      const context = canvas.getContext('2d');
      const image = context.createImageData(width, height);
      for (let j = 0; j < width * height; j += 1) image.data.set([rgb[3 * j], rgb[3 * j + 1], rgb[3 * j + 2], 255], 4 * j);
      context.putImageData(image, 0, 0);
      return canvas;
    });
    return kept;
  };
})();

// A model's maps below the probe images that they are maps of, at most `room` pixels wide; null where it has none.
function stripOf(i, room) {
  const source = thumbnailOf(i);
  if (!source) return null;
  const strip = element('div', undefined, 'strip');
  strip.style.width = `${Math.min(room, source.width * Math.max(1, Math.floor(room / source.width)))}px`;
  if (data.images.length && data.images.length === data.tiles) {
    const row = element('div', undefined, 'probes');
    for (const image of probeImages()) row.append(copyOf(image));
    strip.append(row);
  }
  const maps = copyOf(source);
  maps.className = 'thumbnail';
  strip.append(maps);
  return strip;
}
