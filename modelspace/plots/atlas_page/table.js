// The models that were chosen with the lasso: a table, its download as CSV, and commands for them.

const MAX_ROWS = 300;
// A command with more names is too long for some shells.
const MAX_IN_COMMAND = 200;
const sorting = { column: -1, down: false };

// A cell of a CSV file (RFC 4180). A spreadsheet would run a text that begins like a formula: an apostrophe keeps it a text.
function csvCell(text, isNumber) {
  const safe = !isNumber && /^[\s]*[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
function csvOf(models) {
  const lines = [['name', ...data.columns.map((column) => column.name)].map((text) => csvCell(text, false))];
  for (const i of models) {
    lines.push([csvCell(data.names[i], false), ...data.columns.map((column) => csvCell(exact(column, i), column.kind === 'number'))]);
  }
  return `${lines.map((cells) => cells.join(',')).join('\n')}\n`;
}
function download(name, text, kind) {
  const link = element('a');
  const address = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  link.href = address;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// Chooses models on every map; an empty list chooses none.
function choose(models) {
  state.chosen = models.length ? models : null;
  dim();
  drawTable();
  moved();
}

function inOrder(models) {
  const column = data.columns[sorting.column];
  const sign = sorting.down ? -1 : 1;
  const text = (i) => (column ? exact(column, i) : data.names[i]);
  const compare = column?.kind === 'number'
    ? (a, b) => sign * (column.values[a] - column.values[b])
    : (a, b) => sign * text(a).localeCompare(text(b), 'en', { numeric: true });
  const isMissing = (i) => column && exact(column, i) === '';
  // Missing values come last in both directions.
  return [...models].sort((a, b) => isMissing(a) - isMissing(b) || (isMissing(a) ? a - b : compare(a, b) || a - b));
}

function headCell(name, index) {
  const cell = element('th');
  const isSorted = sorting.column === index;
  const button = element('button', `${name}${isSorted ? (sorting.down ? ' ↓' : ' ↑') : ''}`);
  button.type = 'button';
  cell.setAttribute('aria-sort', isSorted ? (sorting.down ? 'descending' : 'ascending') : 'none');
  button.addEventListener('click', () => {
    sorting.down = isSorted && !sorting.down;
    sorting.column = index;
    drawTable();
  });
  cell.append(button);
  return cell;
}
function tableRow(i) {
  const row = element('tr', undefined, i === state.selected ? 'selected' : '');
  row.dataset.model = i;
  const name = element('td', data.names[i]);
  name.title = data.names[i];
  row.append(name);
  for (const column of data.columns) {
    const cell = element('td', shown(column, i) ?? '', column.kind === 'number' ? 'number' : '');
    cell.title = exact(column, i);
    row.append(cell);
  }
  row.tabIndex = 0;
  const take = () => { select(i); reveal(i); };
  row.addEventListener('click', take);
  row.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter') return;
    take();
    // The table was drawn again: its row keeps the focus.
    document.querySelector(`#table tr[data-model="${i}"]`)?.focus();
  });
  row.addEventListener('pointerenter', () => hover(i, null));
  row.addEventListener('pointerleave', () => hover(-1, null));
  return row;
}

// The condition that picks these models: as SQL, and quoted for a shell.
function conditionFor(models) {
  const names = models.map((i) => `'${data.names[i].replaceAll("'", "''")}'`);
  return quoted(`name IN (${names.join(', ')})`);
}

function drawTable() {
  const section = byId('table');
  section.hidden = !state.chosen;
  document.body.classList.toggle('chosen', Boolean(state.chosen));
  section.replaceChildren();
  if (!state.chosen) return;
  const models = inOrder(state.chosen);
  const head = element('div', undefined, 'head');
  const button = (text, action) => {
    const node = element('button', text);
    node.type = 'button';
    node.addEventListener('click', action);
    return node;
  };
  head.append(
    element('b', `${models.length.toLocaleString('en')} model${models.length === 1 ? '' : 's'} selected`),
    button('Download CSV', () => download('models.csv', csvOf(models), 'text/csv')),
    button('Clear', () => choose([])),
  );
  if (models.length <= MAX_IN_COMMAND) {
    for (const verb of ['list', 'map']) {
      head.append(copyButton(`modelspace ${verb} --where ${conditionFor(models)}`, `modelspace ${verb} --where …`));
    }
  }
  const rows = element('div', undefined, 'rows');
  const table = element('table');
  const top = element('thead');
  const line = element('tr');
  line.append(headCell('name', -1), ...data.columns.map((column, index) => headCell(column.name, index)));
  top.append(line);
  const body = element('tbody');
  body.append(...models.slice(0, MAX_ROWS).map(tableRow));
  table.append(top, body);
  rows.append(table);
  if (models.length > MAX_ROWS) rows.append(element('div', `The first ${MAX_ROWS} are shown; the CSV file has all.`, 'count'));
  section.append(head, rows);
}
