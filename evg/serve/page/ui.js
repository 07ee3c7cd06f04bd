/** The document: finding, showing, writing. Text is always set as text, never as markup. */

export const $ = (id) => document.getElementById(id);

/** An element with properties and children (elements or texts). */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A line of text that shows only while it says something; `kind` is 'error' or 'hint'. */
export function say(id, text = '', kind = 'error') {
  const line = $(id);
  if (line.textContent !== text) line.textContent = text;
  line.dataset.kind = kind;
  line.hidden = !text;
}

/** A number with its digits and unit; a dash where it is not known. */
export function number(value, digits = 0, unit = '') {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  const rounded = Number(value.toFixed(digits)) || 0; // not -0
  return rounded.toFixed(digits).replace('-', '−') + (unit && `\u202f${unit}`);
}

/** Fill a list of [name, value] pairs. */
export function fillFacts(list, pairs) {
  const text = JSON.stringify(pairs);
  if (list.dataset.text === text) return;
  list.dataset.text = text;
  list.replaceChildren(...pairs.flatMap(([name, value]) => [make('dt', {}, name), make('dd', {}, value)]));
}

/** Large figures with a name each: [[value, unit, name, title], ...]. */
export function figures(entries) {
  const boxes = entries.map(([value, unit, name, title = '']) =>
    make('div', { title }, make('b', {}, value, ' ', make('small', {}, unit)), make('span', {}, name)));
  return make('div', { className: 'figures' }, ...boxes);
}

/** A table of texts; the last row is the foot where `foot` is given. */
export function table(caption, head, rows, foot = null) {
  const line = (cells, tag) => make('tr', {}, ...cells.map((cell) => make(tag, {}, cell)));
  const body = make('table', {}, make('caption', {}, caption), make('thead', {}, line(head, 'th')));
  body.append(make('tbody', {}, ...rows.map((row) => line(row, 'td'))));
  if (foot) body.append(make('tfoot', {}, line(foot, 'td')));
  return make('div', { className: 'scroll', tabIndex: 0, role: 'region', ariaLabel: caption }, body);
}

/** Offer a text as a file. */
export function download(name, text, type) {
  const link = make('a', { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
