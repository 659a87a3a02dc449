// The words beside the map: cards, the nearest models with their bars, the legend, the search. All of it is written as
// text, never as markup, so a name can hold any characters.

function facts(i, most, first = 0) {
  const list = element('dl');
  let written = -first;
  for (const column of data.columns) {
    const value = shown(column, i);
    if (value === null || written >= most) continue;
    if (written < 0) { written += 1; continue; }
    const cell = element('dd', value);
    if (column.kind === 'number') cell.title = exact(column, i);
    list.append(element('dt', column.name), cell);
    written += 1;
  }
  return list;
}

// The card of the model under the pointer; `at` is the pointer in the window.
function drawCard(i, at) {
  const card = byId('card');
  card.hidden = i < 0 || !at;
  if (card.hidden) return;
  card.replaceChildren(element('b', data.names[i]), facts(i, 6));
  const strip = stripOf(i, 192);
  if (strip) card.append(strip);
  const box = card.parentElement.getBoundingClientRect();
  const [x, y] = [at[0] - box.left, at[1] - box.top];
  const left = x + 16 + card.offsetWidth > box.width ? x - 16 - card.offsetWidth : x + 16;
  card.style.left = `${Math.max(4, Math.min(left, box.width - card.offsetWidth - 4))}px`;
  card.style.top = `${Math.max(4, Math.min(y + 12, box.height - card.offsetHeight - 6))}px`;
}

function svg(tag, values) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [key, value] of Object.entries(values)) node.setAttribute(key, value);
  return node;
}

// Bars from 0 to 1: the score where it decides the order, and the affinity with its interval.
function barsOf({ affinity, low, high, score }) {
  const x = (value) => Math.min(Math.max(value, 0), 1) * 100;
  const bars = svg('svg', { viewBox: '0 0 100 10', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  const [top, thick] = score === null ? [2, 6] : [5, 4];
  bars.append(svg('rect', { class: 'track', x: 0, y: score === null ? 2 : 1, width: 100, height: score === null ? 6 : 8 }));
  if (score !== null) bars.append(svg('rect', { class: 'score', x: 0, y: 1, width: x(score), height: 4 }));
  bars.append(svg('rect', { class: 'bar', x: 0, y: top, width: x(affinity), height: thick }));
  if (low === null) return bars;
  const middle = top + thick / 2;
  const line = (x1, x2, y1, y2) =>
    bars.append(svg('line', { class: 'interval', x1, x2, y1, y2, 'vector-effect': 'non-scaling-stroke' }));
  line(x(low), x(high), middle, middle);
  for (const edge of [low, high]) line(x(edge), x(edge), middle - 2, middle + 2);
  return bars;
}

// One of the nearest models: its rank, its name, what orders it, and its affinity.
function nearestRow(near, rank) {
  const { model, affinity, low, high, score, tied } = near;
  const row = element('button', undefined, 'nearest');
  row.type = 'button';
  row.dataset.model = model;
  const interval = low === null ? '' : ` (${low.toFixed(3)} to ${high.toFixed(3)})`;
  const words = `affinity ${affinity.toFixed(3)}${interval}`;
  const line = element('span', undefined, 'line');
  line.append(
    element('span', `${tied ? '≈' : ''}${rank}`, 'rank'),
    element('b', data.names[model]),
    element('span', (score ?? affinity).toFixed(3), 'number'),
  );
  row.title = `${data.names[model]}: ${score === null ? '' : `score ${score.toFixed(4)}, `}${words}${tied ? ', tied with the one above' : ''}`;
  row.setAttribute('aria-label', `${rank}: ${row.title}`);
  row.append(line, barsOf(near));
  if (score !== null) row.append(element('div', words, 'more'));
  else if (interval) row.append(element('div', `${low.toFixed(3)} to ${high.toFixed(3)}`, 'more'));
  row.addEventListener('click', () => { select(model); reveal(model); });
  row.addEventListener('pointerenter', () => hover(model, null));
  row.addEventListener('pointerleave', () => hover(-1, null));
  return row;
}

function nearestList(i, space) {
  const around = nearestOf(i, space);
  if (!around.length) return [];
  const { nearest, name } = data.spaces[space];
  const words = [];
  const interval = nearest.low ? ', with its 95% interval' : '';
  if (nearest.score) words.push(`Ordered by ${nearest.orderedBy}: the number and the upper bar. Lower bar: affinity${interval}.`);
  else words.push(`Ordered by ${nearest.orderedBy}${interval}.`);
  if (around.some((near) => near.tied)) words.push('≈: tied with the one above.');
  const axis = element('div', undefined, 'axis');
  axis.append(element('span', '0'), element('span', '0.5'), element('span', '1'));
  return [
    element('h3', data.spaces.length > 1 && name ? `Nearest models in ${name}` : 'Nearest models'),
    element('p', words.join(' ')), axis, ...around.map((near, at) => nearestRow(near, at + 1)),
  ];
}

// A word of a command, quoted for a POSIX shell.
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
// A name that begins with a dash would be read as an option.
const nameWord = (name) => (name.startsWith('-') ? `-- ${quoted(name)}` : quoted(name));

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Inside a notebook or from disk the clipboard may be closed; the old way still works in most browsers.
    const area = element('textarea', text);
    document.body.append(area);
    area.select();
    const copied = document.execCommand('copy');
    area.remove();
    return copied;
  }
}
function copyButton(command, label) {
  const button = element('button', label ?? command, 'copy');
  button.type = 'button';
  button.dataset.command = command;
  button.title = 'Copy this command';
  button.addEventListener('click', async () => {
    const copied = await copyText(command);
    byId('announce').textContent = copied ? 'Copied' : 'The clipboard is closed: select the text and copy it';
    button.classList.toggle('copied', copied);
    setTimeout(() => button.classList.remove('copied'), 1500);
  });
  return button;
}

function drawPanel() {
  const panel = byId('panel');
  panel.replaceChildren();
  panel.scrollTop = 0;
  const i = state.selected;
  panel.classList.toggle('rest', i < 0 && state.cluster < 0);
  if (state.cluster >= 0) {
    const members = treeView.members(state.cluster);
    const { height, support } = treeView.about(state.cluster);
    panel.append(element('h2', `Cluster of ${members.length.toLocaleString('en')} models`));
    const words = support === null ? '' : `; found in ${Math.round(100 * support)}% of resampled probe sets`;
    panel.append(element('p', `Joined at distance ${height.toFixed(3)}${words}.`));
    const button = element('button', 'Table of these models');
    button.type = 'button';
    button.addEventListener('click', () => { choose(Array.from(members)); });
    panel.append(button);
  }
  if (i < 0) {
    if (state.cluster < 0) {
      panel.append(element('h2', `${data.n.toLocaleString('en')} models`));
      const touch = window.matchMedia('(pointer: coarse)').matches;
      const move = touch ? 'Tap a model to see its nearest. Drag and pinch to move.'
        : 'Click a model to see its nearest. Drag and scroll to move; press ? for all keys.';
      panel.append(element('p', move));
    }
    return;
  }
  panel.append(element('h2', data.names[i]));
  const commands = element('div', undefined, 'commands');
  const { name } = data.spaces[0];
  for (const verb of [name ? `nearest --space ${quoted(name)}` : 'nearest', 'show']) commands.append(copyButton(`modelspace ${verb} ${nameWord(data.names[i])}`));
  panel.append(commands, facts(i, 5));
  const strip = stripOf(i, 264);
  if (strip) panel.append(element('h3', data.images.length ? 'Attribution maps, below their probe images' : 'Attribution maps'), strip);
  for (const map of maps) if (map.isShown()) panel.append(...nearestList(i, map.index));
  const rest = facts(i, 60, 5);
  if (rest.children.length) panel.append(element('h3', 'Further columns'), rest);
}

function filterFor(column, label) {
  const inQuotes = (text) => `"${text.replace(/[\\"]/g, '\\$&')}"`;
  return `${inQuotes(column.name)} = ${inQuotes(label)}`;
}
function legendRow(column, entry) {
  const ratio = window.devicePixelRatio || 1;
  // "other" and "no group" are no values that a filter could name.
  const isValue = column.texts.includes(entry.label);
  const row = element(isValue ? 'button' : 'div', undefined, 'legend-row');
  const mark = element('canvas');
  mark.width = 14 * ratio;
  mark.height = 14 * ratio;
  mark.style.width = '14px';
  mark.style.height = '14px';
  const context = mark.getContext('2d');
  context.scale(ratio, ratio);
  context.fillStyle = css(entry.rgb);
  trace(context, entry.code, 7, 7, 5.5);
  context.fill();
  row.append(mark, element('span', `${entry.label} (${entry.count.toLocaleString('en')})`));
  if (isValue) {
    row.type = 'button';
    row.title = 'Filter by it';
    row.addEventListener('click', () => {
      const condition = filterFor(column, entry.label);
      setFilter(state.filter === condition ? '' : condition);
    });
  }
  return row;
}
function legendScale(column) {
  const scale = element('div', undefined, 'scale');
  const bar = element('canvas');
  bar.width = 150;
  bar.height = 1;
  const context = bar.getContext('2d');
  for (let x = 0; x < 150; x += 1) {
    context.fillStyle = css(onTheme(blend(SEQUENCE, x / 149), state.dark));
    context.fillRect(x, 0, 1, 1);
  }
  scale.append(element('span', column.name + (look.range.log ? ' (log)' : '')), element('span'), bar);
  scale.append(element('span', human(look.range.low)), element('span', human(look.range.high)));
  return scale;
}
function drawLegend() {
  const column = data.columns[state.colour];
  const isEmpty = !look.looks.length && !look.range;
  byId('key').hidden = isEmpty;
  const button = byId('legend-button');
  button.textContent = state.legend ? '▾ Legend' : '▸ Legend';
  button.setAttribute('aria-expanded', String(state.legend));
  const legend = byId('legend');
  legend.hidden = !state.legend;
  legend.replaceChildren();
  if (isEmpty) return;
  legend.append(...look.looks.map((entry) => legendRow(column, entry)));
  if (look.range) legend.append(legendScale(column));
}

const search = (() => {
  const input = byId('search');
  const list = byId('hits');
  const most = 30;
  let found = [];
  let active = 0;

  // Every hit is marked on the map; the first of them are listed.
  function mark(all) {
    state.hits = all;
    redraw();
  }
  function find(text) {
    const wanted = text.trim().toLowerCase();
    found = [];
    const all = [];
    if (!wanted) { mark(all); return 0; }
    const starts = [];
    const inside = [];
    for (let i = 0; i < data.n; i += 1) {
      const at = data.lower[i].indexOf(wanted);
      if (at < 0) continue;
      all.push(i);
      if (at === 0) { if (starts.length < most) starts.push(i); } else if (inside.length < most) inside.push(i);
    }
    found = [...starts, ...inside].slice(0, most);
    mark(all);
    return all.length;
  }
  function draw(count) {
    list.replaceChildren();
    found.forEach((i, row) => {
      const hit = element('div', data.names[i]);
      hit.setAttribute('role', 'option');
      hit.id = `hit-${row}`;
      hit.setAttribute('aria-selected', String(row === active));
      hit.addEventListener('pointerdown', (event) => { event.preventDefault(); take(row); });
      list.append(hit);
    });
    const words = count > found.length ? `${count.toLocaleString('en')} found, the first ${found.length} shown` : `${count} found`;
    const footer = element('div', words, 'count');
    list.append(footer);
    list.hidden = !input.value.trim();
    input.setAttribute('aria-expanded', String(!list.hidden));
    if (found.length) input.setAttribute('aria-activedescendant', `hit-${active}`);
    else input.removeAttribute('aria-activedescendant');
  }
  function take(row) {
    if (found[row] === undefined) return;
    select(found[row]);
    reveal(found[row]);
    close();
  }
  function close() {
    list.hidden = true;
    input.setAttribute('aria-expanded', 'false');
  }
  input.addEventListener('input', () => { active = 0; draw(find(input.value)); });
  input.addEventListener('focus', () => { if (input.value.trim()) draw(find(input.value)); });
  input.addEventListener('blur', close);
  input.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      event.preventDefault();
      active = Math.min(Math.max(active + (event.key === 'ArrowDown' ? 1 : -1), 0), Math.max(found.length - 1, 0));
      draw(find(input.value));
      byId(`hit-${active}`)?.scrollIntoView({ block: 'nearest' });
    } else if (event.key === 'Enter') {
      take(active);
      input.blur();
    } else if (event.key === 'Escape') {
      input.value = '';
      find('');
      close();
      input.blur();
    }
  });
  return { focus: () => input.focus() };
})();
