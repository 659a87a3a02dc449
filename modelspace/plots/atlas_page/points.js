// The models as point sprites: one WebGL draw call for those that are dimmed and one for the others.
// They are kept in a shuffled order, so that the first m of them are a fair sample: on a machine without a graphics card
// that is what is drawn while the map moves, and all of them when it rests.

const VERTEX = `
attribute vec2 place; attribute vec3 colour; attribute float shape; attribute float state;
uniform vec2 scale; uniform vec2 shift; uniform float size; uniform float pass; uniform float opacity;
varying vec4 tint; varying float code; varying float half_size;
void main() {
  float dim = step(0.5, state);
  // What belongs to the other pass is put outside the view.
  gl_Position = abs(dim - pass) > 0.5 ? vec4(2.0, 2.0, 2.0, 1.0) : vec4(place * scale + shift, 0.0, 1.0);
  half_size = size * mix(1.0, 0.7, dim);
  gl_PointSize = 2.0 * half_size + 2.0;
  tint = vec4(colour, mix(opacity, 0.13, dim));
  code = shape;
}`;

// Distances to the edge of each shape, in units of its half size; negative inside.
const FRAGMENT = `
precision mediump float;
uniform float plain;
varying vec4 tint; varying float code; varying float half_size;
float regular(vec2 p, float sides, float size) {
  float turn = 6.2831853 / sides;
  float angle = atan(p.x, p.y);
  return cos(floor(0.5 + (angle + turn * 0.5) / turn) * turn - (angle + turn * 0.5)) * length(p) - size * cos(turn * 0.5);
}
float cross_shape(vec2 p) {
  p = abs(p);
  return min(max(p.x - 0.36, p.y - 1.0), max(p.y - 0.36, p.x - 1.0));
}
void main() {
  vec2 p = (gl_PointCoord - 0.5) * 2.0 * (half_size + 1.0) / half_size;
  p.y = -p.y;
  float d;
  if (code < 0.5 || plain > 0.5) d = length(p) - 0.9;
  else if (code < 1.5) d = regular(p, 3.0, 1.1);
  else if (code < 2.5) d = max(abs(p.x), abs(p.y)) - 0.8;
  else if (code < 3.5) d = (abs(p.x) + abs(p.y) - 1.05) * 0.7071;
  else if (code < 4.5) d = cross_shape(p);
  else if (code < 5.5) d = regular(vec2(p.x, -p.y), 3.0, 1.1);
  else if (code < 6.5) d = cross_shape(vec2(p.x + p.y, p.x - p.y) * 0.7071);
  else if (code < 7.5) d = regular(p, 5.0, 1.0);
  else if (code < 8.5) d = regular(p, 6.0, 1.0);
  else d = length(p) - 0.55;
  float alpha = tint.a * clamp(0.5 - d * half_size, 0.0, 1.0);
  if (alpha < 0.004) discard;
  gl_FragColor = vec4(tint.rgb * alpha, alpha);
}`;

function shuffle(n) {
  const order = new Uint32Array(n);
  let random = 12345;
  for (let i = 0; i < n; i += 1) {
    random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((random / 4294967296) * (i + 1));
    order[i] = order[j];
    order[j] = i;
  }
  return order;
}

function glPoints(canvas) {
  const gl = canvas.getContext('webgl', { antialias: false, depth: false, premultipliedAlpha: true });
  if (!gl) return null;
  let program;
  let uniform;
  const buffers = {};
  const kept = {};
  const shuffled = shuffle(data.n);
  let anyDim = false;

  function inOrder(array, width) {
    const moved = new array.constructor(array.length);
    for (let at = 0; at < data.n; at += 1) {
      const i = shuffled[at];
      for (let c = 0; c < width; c += 1) moved[width * at + c] = array[width * i + c];
    }
    return moved;
  }

  function build() {
    program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return false;
    gl.useProgram(program);
    uniform = (name) => gl.getUniformLocation(program, name);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    return true;
  }
  function fill(name, array, width, type, normalized) {
    kept[name] = [array, width, type, normalized];
    buffers[name] ??= gl.createBuffer();
    const location = gl.getAttribLocation(program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
    gl.bufferData(gl.ARRAY_BUFFER, array, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(location);
    gl.vertexAttribPointer(location, width, type, normalized, 0, 0);
  }
  if (!build()) return null;
  canvas.addEventListener('webglcontextlost', (event) => event.preventDefault());
  canvas.addEventListener('webglcontextrestored', () => {
    for (const name of Object.keys(buffers)) delete buffers[name];
    build();
    for (const [name, how] of Object.entries(kept)) fill(name, ...how);
    redraw();
  });
  const debug = gl.getExtension('WEBGL_debug_renderer_info');
  const renderer = String(gl.getParameter(debug ? debug.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
  return {
    kind: 'webgl',
    isSoftware: SOFTWARE.test(renderer),
    // Models without a place are put outside any view: a shader can't be trusted with NaN.
    places: (array) => fill('place', inOrder(array, 2).map((value) => (Number.isNaN(value) ? 1e9 : value)), 2, gl.FLOAT, false),
    look(rgb, shape) {
      fill('colour', inOrder(rgb, 3), 3, gl.UNSIGNED_BYTE, true);
      fill('shape', inOrder(shape, 1), 1, gl.UNSIGNED_BYTE, false);
    },
    states(state) {
      anyDim = state.includes(1);
      fill('state', inOrder(state, 1), 1, gl.UNSIGNED_BYTE, false);
    },
    draw(view, size, ratio, most) {
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      const sx = (2 * view.zoom * ratio) / canvas.width;
      const sy = (2 * view.zoom * ratio) / canvas.height;
      gl.uniform2f(uniform('scale'), sx, sy);
      gl.uniform2f(uniform('shift'), -view.x * sx, -view.y * sy);
      gl.uniform1f(uniform('size'), size * ratio);
      gl.uniform1f(uniform('opacity'), data.n > 20000 ? 0.75 : 0.92);
      // Below two pixels nobody sees a shape, and a plain dot is cheaper.
      gl.uniform1f(uniform('plain'), size * ratio < 2 ? 1 : 0);
      for (const pass of anyDim ? [1, 0] : [0]) {
        gl.uniform1f(uniform('pass'), pass);
        gl.drawArrays(gl.POINTS, 0, Math.min(most, data.n));
      }
    },
    // For measurements: waits until the frame is really there.
    finish: () => gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4)),
  };
}

// The same with canvas 2D, for browsers without WebGL or without a graphics card. Small points are blended into an array
// of pixels, which costs some nanoseconds a pixel; large ones are shapes, of which only those in view are drawn.
const MAX_SHAPES = 3000;

function flatPoints(canvas, grid) {
  const context = canvas.getContext('2d');
  let places;
  let rgb;
  let shape;
  let state;
  let anyDim = false;
  let image = null;
  // The same in shuffled order, so that the first m are a fair sample, and are read from memory one after the other.
  const shuffled = shuffle(data.n);
  const mixed = {
    places: new Float32Array(2 * data.n), redBlue: new Int32Array(data.n), green: new Uint8Array(data.n),
    shape: new Uint8Array(data.n), state: new Uint8Array(data.n),
  };

  // A mark's pixels: steps from its middle, and opacity in 1/256. Below two pixels nobody sees a shape: a plain dot.
  function markOf(code, r, opacity, width) {
    const reach = Math.ceil(1.1 * r);
    const side = 2 * reach + 1;
    const drawing = element('canvas');
    drawing.width = side;
    drawing.height = side;
    const pen = drawing.getContext('2d', { willReadFrequently: true });
    trace(pen, r < 2 ? 0 : code, reach + 0.5, reach + 0.5, r);
    pen.fill();
    const drawn = pen.getImageData(0, 0, side, side).data;
    const parts = [];
    for (let j = 0; j < side * side; j += 1) {
      const alpha = Math.round((drawn[4 * j + 3] / 255) * 256 * opacity);
      if (alpha > 0) parts.push([(j % side) - reach, Math.floor(j / side) - reach, alpha]);
    }
    const of = (value) => Int32Array.from(parts, value);
    return { dx: of(([dx]) => dx), dy: of(([, dy]) => dy), alphas: of(([, , alpha]) => alpha),
      steps: of(([dx, dy]) => dx + dy * width) };
  }
  // The marks of all shapes.
  const kept = new Map();
  function marksOf(r, opacity, width) {
    const key = `${r} ${opacity} ${width}`;
    if (!kept.has(key)) {
      if (kept.size > 100) kept.clear();
      kept.set(key, Object.values(SHAPES).map((code) => markOf(code, r, opacity, width)));
    }
    return kept.get(key);
  }
  // Two channels of a pixel are blended in one multiplication.
  function drawPixels(view, size, ratio, most) {
    const { width, height } = canvas;
    if (!image || image.width !== width || image.height !== height) image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const [red, green, blue] = theme.back;
    pixels.fill(((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0);
    const scale = view.zoom * ratio;
    const left = width / 2 - view.x * scale;
    const top = height / 2 + view.y * scale;
    for (const dim of anyDim ? [1, 0] : [0]) {
      // Sizes in quarters of a pixel, so that marks are drawn once and kept.
      const r = Math.max(0.75, Math.round(4 * size * ratio * (dim ? 0.7 : 1)) / 4);
      const reach = Math.ceil(1.1 * r);
      const marks = marksOf(r, dim ? 0.13 : 0.75, width);
      for (let at = 0; at < most; at += 1) {
        if (mixed.state[at] !== dim) continue;
        const x = Math.round(left + mixed.places[2 * at] * scale);
        const y = Math.round(top - mixed.places[2 * at + 1] * scale);
        if (!(x >= -reach && y >= -reach && x < width + reach && y < height + reach)) continue;
        const { dx, dy, alphas, steps } = marks[mixed.shape[at]];
        const isWhole = x >= reach && y >= reach && x + reach < width && y + reach < height;
        const redBlue = mixed.redBlue[at];
        const middle = mixed.green[at];
        const first = y * width + x;
        for (let j = 0; j < steps.length; j += 1) {
          if (!isWhole && (x + dx[j] < 0 || y + dy[j] < 0 || x + dx[j] >= width || y + dy[j] >= height)) continue;
          const alpha = alphas[j];
          const below = pixels[first + steps[j]];
          const rb = ((Math.imul(below & 0xff00ff, 256 - alpha) + Math.imul(redBlue, alpha)) >>> 8) & 0xff00ff;
          const g = (Math.imul((below >>> 8) & 0xff, 256 - alpha) + Math.imul(middle, alpha)) & 0xff00;
          pixels[first + steps[j]] = 0xff000000 | g | rb;
        }
      }
    }
    context.putImageData(image, 0, 0);
  }
  function drawShapes(view, size, ratio, inView) {
    context.clearRect(0, 0, canvas.width, canvas.height);
    for (const dim of [1, 0]) {
      context.globalAlpha = dim ? 0.13 : 0.92;
      const r = size * ratio * (dim ? 0.7 : 1);
      for (const i of inView) {
        if (state[i] !== dim) continue;
        const x = canvas.width / 2 + (places[2 * i] - view.x) * view.zoom * ratio;
        const y = canvas.height / 2 - (places[2 * i + 1] - view.y) * view.zoom * ratio;
        context.fillStyle = `rgb(${rgb[3 * i]},${rgb[3 * i + 1]},${rgb[3 * i + 2]})`;
        trace(context, shape[i], x, y, r);
        context.fill();
      }
    }
    context.globalAlpha = 1;
  }
  return {
    kind: 'canvas',
    places(array) {
      places = array;
      shuffled.forEach((i, at) => mixed.places.set([array[2 * i], array[2 * i + 1]], 2 * at));
    },
    look(newRgb, newShape) {
      [rgb, shape] = [newRgb, newShape];
      shuffled.forEach((i, at) => {
        mixed.redBlue[at] = rgb[3 * i] | (rgb[3 * i + 2] << 16);
        mixed.green[at] = rgb[3 * i + 1];
        mixed.shape[at] = shape[i];
      });
    },
    states(newState) {
      state = newState;
      anyDim = newState.includes(1);
      shuffled.forEach((i, at) => { mixed.state[at] = state[i]; });
    },
    draw(view, size, ratio, most) {
      const halfWidth = canvas.width / ratio / 2 / view.zoom + size / view.zoom;
      const halfHeight = canvas.height / ratio / 2 / view.zoom + size / view.zoom;
      const inView = [];
      grid.within(view.x - halfWidth, view.y - halfHeight, view.x + halfWidth, view.y + halfHeight, (i) => {
        inView.push(i);
        return inView.length <= MAX_SHAPES;
      });
      if (inView.length <= MAX_SHAPES) drawShapes(view, size, ratio, inView);
      else drawPixels(view, size, ratio, Math.min(most, data.n));
    },
    finish: () => context.getImageData(0, 0, 1, 1),
  };
}
