// The words beside the map: cards, the nearest models with their bars, the legend, the search. All of it is written as
// text, never as markup, so a name can hold any characters.

function facts(i, most) {
  const list = element('dl');
  let written = 0;
  for (const column of data.columns) {
    const value = shown(column, i);
    if (value === null || written >= most) continue;
    list.append(element('dt', column.name), element('dd', value));
    written += 1;
  }
  return list;
}

function drawCard(i, at) {
  const card = byId('card');
  card.hidden = i < 0 || !at;
  if (card.hidden) return;
  card.replaceChildren(element('b', data.names[i]), facts(i, 6));
  const picture = thumbnail(i, 128);
  if (picture) card.append(picture);
  const [width, height] = [byId('map').clientWidth, byId('map').clientHeight];
  const left = at[0] + 16 + card.offsetWidth > width ? at[0] - 16 - card.offsetWidth : at[0] + 16;
  card.style.left = `${Math.max(4, left)}px`;
  card.style.top = `${Math.max(4, Math.min(at[1] + 12, height - card.offsetHeight - 6))}px`;
}

function svg(tag, values) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
  return made;
}

// One of the nearest models: its name, its affinity as a bar from 0 to the largest, and the interval as a line.
function nearestRow({ model, affinity, low, high }, largest) {
  const row = element('button', undefined, 'nearest');
  row.type = 'button';
  row.dataset.model = model;
  const words = element('span');
  const interval = low === null ? '' : ` (${low.toFixed(3)} to ${high.toFixed(3)})`;
  words.append(element('b', data.names[model]), element('span', affinity.toFixed(3)));
  row.title = `${data.names[model]}: affinity ${affinity.toFixed(4)}${interval}`;
  row.setAttribute('aria-label', row.title);
  const x = (value) => Math.min(Math.max(value / largest, 0), 1) * 100;
  const bars = svg('svg', { viewBox: '0 0 100 8', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  bars.append(
    svg('rect', { class: 'track', x: 0, y: 1, width: 100, height: 6 }),
    svg('rect', { class: 'bar', x: 0, y: 1, width: x(affinity), height: 6 }),
  );
  if (low !== null) {
    bars.append(svg('line', { class: 'interval', x1: x(low), x2: x(high), y1: 4, y2: 4, 'vector-effect': 'non-scaling-stroke' }));
    for (const end of [low, high]) {
      bars.append(svg('line', { class: 'interval', x1: x(end), x2: x(end), y1: 1.5, y2: 6.5, 'vector-effect': 'non-scaling-stroke' }));
    }
  }
  row.append(words, bars);
  row.addEventListener('click', () => { select(model); reveal(model); });
  row.addEventListener('pointerenter', () => hover(model, null));
  row.addEventListener('pointerleave', () => hover(-1, null));
  return row;
}

function drawPanel() {
  const panel = byId('panel');
  panel.replaceChildren();
  const i = state.selected;
  if (state.cluster >= 0) {
    const members = treeView.members(state.cluster);
    const { height, support } = treeView.about(state.cluster);
    panel.append(element('h2', `Cluster of ${members.length.toLocaleString('en')} models`));
    const words = support === null ? '' : `; found in ${Math.round(100 * support)} % of resampled probe sets`;
    panel.append(element('p', `Joined at distance ${height.toFixed(3)}${words}.`));
  }
  if (i < 0) {
    if (state.cluster < 0) {
      panel.append(element('h2', `${data.n.toLocaleString('en')} models`));
      panel.append(element('p', 'Click a model to see its nearest. Drag and scroll to move; press ? for all keys.'));
    }
    return;
  }
  panel.append(element('h2', data.names[i]), facts(i, 60));
  const picture = thumbnail(i, 264);
  if (picture) panel.append(element('h3', 'Attribution maps'), picture);
  const around = nearestOf(i);
  if (around.length) {
    panel.append(element('h3', data.nearest.low ? 'Nearest models: affinity and interval' : 'Nearest models: affinity'));
    const largest = Math.max(1e-6, ...around.map((near) => Math.max(near.affinity, near.high ?? 0)));
    for (const near of around) panel.append(nearestRow(near, largest));
  }
}

function drawLegend() {
  const legend = byId('legend');
  legend.replaceChildren();
  const column = data.columns[state.colour];
  const ratio = window.devicePixelRatio || 1;
  for (const entry of look.looks) {
    const row = element('button');
    row.type = 'button';
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
    // "other" and "no group" are no values that a filter could name.
    if (column.texts.includes(entry.label)) {
      row.title = 'Filter by it';
      row.addEventListener('click', () => {
        const quoted = (text) => `"${text.replace(/[\\"]/g, '\\$&')}"`;
        const wanted = `${quoted(column.name)} = ${quoted(entry.label)}`;
        setFilter(state.filter === wanted ? '' : wanted);
      });
    }
    legend.append(row);
  }
  if (look.range) {
    const scale = element('div', undefined, 'scale');
    const bar = element('canvas');
    bar.width = 150;
    bar.height = 1;
    const context = bar.getContext('2d');
    for (let x = 0; x < 150; x += 1) {
      context.fillStyle = css(onTheme(blend(SEQUENCE, x / 149), state.dark));
      context.fillRect(x, 0, 1, 1);
    }
    const words = (value) => (Math.abs(value) >= 1e5 ? value.toExponential(1) : String(Number(value.toPrecision(4))));
    scale.append(element('span', column.name + (look.range.log ? ' (log)' : '')), element('span'), bar);
    scale.append(element('span', words(look.range.low)), element('span', words(look.range.high)));
    legend.append(scale);
  }
}

const search = (() => {
  const input = byId('search');
  const list = byId('hits');
  const most = 30;
  let found = [];
  let active = 0;

  function find(text) {
    const wanted = text.trim().toLowerCase();
    found = [];
    let count = 0;
    if (!wanted) return count;
    const starts = [];
    const inside = [];
    for (let i = 0; i < data.n; i += 1) {
      const at = data.lower[i].indexOf(wanted);
      if (at < 0) continue;
      count += 1;
      if (at === 0) { if (starts.length < most) starts.push(i); } else if (inside.length < most) inside.push(i);
    }
    found = [...starts, ...inside].slice(0, most);
    return count;
  }
  function draw(count) {
    list.replaceChildren();
    found.forEach((i, row) => {
      const hit = element('div', data.names[i]);
      hit.setAttribute('role', 'option');
      hit.id = `hit-${row}`;
      hit.setAttribute('aria-selected', String(row === active));
      hit.addEventListener('pointerdown', (event) => { event.preventDefault(); choose(row); });
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
  function choose(row) {
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
      choose(active);
      input.blur();
    } else if (event.key === 'Escape') {
      input.value = '';
      close();
      input.blur();
    }
  });
  return { focus: () => input.focus() };
})();
