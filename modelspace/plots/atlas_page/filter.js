// Conditions such as: parameters > 1e6 and (group = 2D or name ~ resnet) and not task = depth
// A small parser; nothing is ever evaluated as code.

const OPERATORS = ['<=', '>=', '!=', '=', '<', '>', '~'];

function tokensOf(text) {
  const tokens = [];
  const pattern = /\s*(?:(<=|>=|!=|=|<|>|~|\(|\))|"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s<>=!~()"']+))/y;
  let at = 0;
  const end = text.trimEnd().length;
  while (at < end) {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (!found) throw new Error(`"${text.slice(at).trim()[0]}" is out of place`);
    at = pattern.lastIndex;
    if (found[1]) tokens.push({ kind: 'sign', value: found[1] });
    else if (found[4] !== undefined) tokens.push({ kind: 'word', value: found[4] });
    else tokens.push({ kind: 'quoted', value: (found[2] ?? found[3]).replace(/\\(.)/g, '$1') });
  }
  return tokens;
}

// A condition as a function of a model's number. Throws an Error that says what is wrong.
function parseFilter(text) {
  const tokens = tokensOf(text);
  let at = 0;
  const isWord = (word) => tokens[at]?.kind === 'word' && tokens[at].value.toLowerCase() === word;
  const isSign = (sign) => tokens[at]?.kind === 'sign' && tokens[at].value === sign;

  function either() {
    let left = both();
    while (isWord('or')) {
      at += 1;
      const a = left;
      const b = both();
      left = (i) => a(i) || b(i);
    }
    return left;
  }
  function both() {
    let left = one();
    while (isWord('and')) {
      at += 1;
      const a = left;
      const b = one();
      left = (i) => a(i) && b(i);
    }
    return left;
  }
  function one() {
    if (isWord('not')) {
      at += 1;
      const inner = one();
      return (i) => !inner(i);
    }
    if (isSign('(')) {
      at += 1;
      const inner = either();
      if (!isSign(')')) throw new Error('a bracket is not closed');
      at += 1;
      return inner;
    }
    return comparison();
  }
  function comparison() {
    const column = phrase();
    const sign = tokens[at]?.kind === 'sign' ? tokens[at].value : null;
    if (!column) throw new Error('a column is missing');
    if (!OPERATORS.includes(sign)) throw new Error(`after "${column}" one of ${OPERATORS.join(' ')} is missing`);
    at += 1;
    const value = phrase();
    if (value === null) throw new Error(`after "${column} ${sign}" a value is missing`);
    return compare(column, sign, value);
  }
  // Words up to the next sign, or up to and / or: names of columns and values may hold blanks.
  function phrase() {
    if (tokens[at]?.kind === 'quoted') return tokens[at++].value;
    const words = [];
    while (tokens[at]?.kind === 'word' && !isWord('and') && !isWord('or')) words.push(tokens[at++].value);
    return words.length ? words.join(' ') : null;
  }

  const condition = either();
  if (at < tokens.length) throw new Error(`"${tokens[at].value}" is out of place`);
  return condition;
}

function compare(name, sign, value) {
  const lower = value.toLowerCase();
  if (name.toLowerCase() === 'name' && !data.column.has('name')) return compareText((i) => data.lower[i], sign, lower, name);
  const column = data.column.get(name.toLowerCase());
  if (!column) throw new Error(`there is no column "${name}": ${['name', ...data.columns.map((c) => c.name)].join(', ')}`);
  if (column.kind === 'text') {
    const texts = column.texts.map((text) => text.toLowerCase());
    return compareText((i) => (column.values[i] < 0 ? '' : texts[column.values[i]]), sign, lower, name);
  }
  const number = Number(value);
  if (value.trim() === '' || Number.isNaN(number)) throw new Error(`"${value}" is not a number, but ${column.name} holds numbers`);
  const values = column.values;
  switch (sign) {
    case '<': return (i) => values[i] < number;
    case '<=': return (i) => values[i] <= number;
    case '>': return (i) => values[i] > number;
    case '>=': return (i) => values[i] >= number;
    case '=': return (i) => values[i] === number;
    case '!=': return (i) => values[i] !== number;
    default: throw new Error(`~ looks inside texts, but ${column.name} holds numbers`);
  }
}

function compareText(text, sign, value, name) {
  switch (sign) {
    case '=': return (i) => text(i) === value;
    case '!=': return (i) => text(i) !== value;
    case '~': return (i) => text(i).includes(value);
    default: throw new Error(`${sign} compares numbers, but ${name} holds texts`);
  }
}
