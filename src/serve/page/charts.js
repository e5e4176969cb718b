// Elements, numbers in words, and charts in SVG. Knows nothing of where the data comes from.

const SVG = 'http://www.w3.org/2000/svg';
const MARGIN = { left: 44, right: 8, top: 7, bottom: 18 };
/** Kinds of jobs, in the order in which they are stacked. */
export const KINDS = ['inference', 'training', 'labelling', 'guest', 'other'];
/** Half of a 95 % interval, in standard deviations. */
const INTERVAL = 1.96;

// Elements. Data enters as text only: names come from cameras, labels and other nodes.

export function el(tag, attributes = {}, ...children) {
  return built(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return built(document.createElementNS(SVG, tag), attributes, children);
}

function built(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Changes a text only when it is another one, so that a tick without news costs no layout. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Puts new content in place of the old one where it says something else. */
export function replace(body, content) {
  if (body.textContent !== content.textContent || !body.firstChild) body.replaceChildren(content);
}

/** A list of terms whose values are changed by `set`. */
export class Terms {
  constructor(attributes) {
    this.node = el('dl', attributes);
    this.rows = new Map();
  }

  /** A row without a value is hidden. */
  set(term, text) {
    let row = this.rows.get(term);
    if (!row) {
      row = { term: el('dt', {}, term), value: el('dd') };
      this.rows.set(term, row);
      this.node.append(el('div', {}, row.term, row.value));
    }
    row.value.parentNode.hidden = text === null;
    say(row.value, text ?? '');
  }
}

/** Cells are texts, or elements where they look otherwise; a title looks like the cells below it. */
export function table(titles, rows) {
  const cell = (value) => (value instanceof Node ? value : el('td', {}, value));
  const body = rows.map((row) => el('tr', {}, ...row.map(cell)));
  const look = (index) => body[0]?.children[index].className ?? '';
  const head = titles.map((title, index) => el('th', { scope: 'col', class: look(index) }, title));
  return el('table', {}, el('thead', {}, el('tr', {}, ...head)), el('tbody', {}, ...body));
}

// Numbers in words.

export const known = (value) => value !== null && value !== undefined;
const or = (words) => (value, ...rest) => (known(value) ? words(value, ...rest) : '–');
export const percent = or((part, digits = 1) => `${(part * 100).toFixed(digits)}\u00a0%`);
/** Two digits as people write shares; a third for those of many streams on one device. */
export const share = or((part) => part.toFixed(part > 0 && part < 0.02 ? 3 : 2));
export const decimal = or((value, digits = 1) => value.toFixed(digits));
export const halfWidth = (sd) => `±\u00a0${(INTERVAL * sd * 100).toFixed(1)}`;
export const latency = or((seconds) =>
  seconds < 1 ? `${(seconds * 1000).toFixed(0)}\u00a0ms` : `${seconds.toFixed(2)}\u00a0s`);

/** Time since the run began: 0:07, 12:30, 1:02:03. */
export const clock = or((seconds) => {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, '0');
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
});

export const countOf = (count, what) => `${count} ${what}${count === 1 ? '' : 's'}`;

export const scaleWords = (scale) => (scale === 1 ? 'a whole device' : `${share(scale)} of a device`);

/** Full width of bars for shares up to `most`: few steps, so that it seldom changes. */
export const roundScale = (most) => [0.05, 0.1, 0.25, 0.5].find((step) => most <= step) ?? Math.max(1, most);

// Work is spared for what nobody sees.

const shown = new WeakSet();
const uponShow = new WeakMap();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) {
      shown.add(target);
      uponShow.get(target)();
    } else {
      shown.delete(target);
    }
  }
}, { rootMargin: '80px' });

/** Calls `show` whenever the node comes into view; from then on `isShown` knows about it. */
export function watch(node, show) {
  uponShow.set(node, show);
  watcher.observe(node);
}

export const isShown = (node) => !document.hidden && node.isConnected && shown.has(node);

// Bars.

/** Share granted (outlined) above share used (filled). The numbers stand beside it as text. */
export class PairedBar {
  constructor(kind) {
    this.granted = el('i', { class: 'granted' });
    this.used = el('i', { class: 'used' });
    const track = (bar) => el('span', { class: 'track' }, bar);
    this.node = el('span', { class: kind, 'aria-hidden': 'true' }, track(this.granted), track(this.used));
  }

  set(granted, used, scale) {
    place(this.granted, 0, granted / scale);
    place(this.used, 0, used / scale);
  }
}

/** Parts of a whole device, one after the other, by kind of job. */
export class StackedBar {
  constructor(look) {
    this.parts = new Map(KINDS.map((kind) => [kind, el('i', { class: `${look} ${kind}` })]));
    this.node = el('span', { class: 'track', 'aria-hidden': 'true' }, ...this.parts.values());
  }

  set(byKind) {
    let left = 0;
    for (const [kind, part] of this.parts) {
      place(part, left, byKind[kind] ?? 0);
      left += byKind[kind] ?? 0;
    }
  }
}

function place(bar, left, width) {
  const bounded = Math.min(Math.max(width, 0), 1 - Math.min(left, 1));
  bar.style.left = `${(Math.min(left, 1) * 100).toFixed(2)}%`;
  bar.style.width = `${(bounded * 100).toFixed(2)}%`;
  // An outline around nothing would look like a small share.
  bar.style.visibility = bounded > 0 ? 'visible' : 'hidden';
}

// Charts.

const charts = new WeakMap();
const resized = new ResizeObserver((entries) => entries.forEach(({ target }) => charts.get(target).redraw()));

/**
 * An SVG that is drawn in real pixels whenever it is in view, from the first update on. `draw` is run
 * anew for each drawing; the nodes of the one before are used again, in their order.
 */
export class Chart {
  constructor(height, draw, margin = MARGIN) {
    Object.assign(this, { height, draw, margin });
    this.svg = svg('svg', { class: 'chart', role: 'img', height });
    charts.set(this.svg, this);
    resized.observe(this.svg);
    watch(this.svg, () => this.redraw());
    const left = () => this.svg.getBoundingClientRect().left;
    this.svg.addEventListener('pointermove', ({ clientX }) => this.point(clientX - left()));
    this.svg.addEventListener('pointerleave', () => this.point(null));
  }

  /** There is something new to draw. */
  update() {
    this.begun = true;
    this.redraw();
  }

  redraw() {
    this.width = this.begun && isShown(this.svg) ? this.svg.getBoundingClientRect().width : 0;
    if (this.width === 0) return;
    this.next = 0;
    this.draw(this);
    while (this.svg.childNodes.length > this.next) this.svg.lastChild.remove();
  }

  label(text) {
    this.svg.setAttribute('aria-label', text);
  }

  put(tag, attributes, text = '') {
    const old = this.svg.childNodes[this.next++];
    const node = old?.tagName === tag ? old : svg(tag, {});
    if (node !== old) old ? old.replaceWith(node) : this.svg.append(node);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    say(node, text);
  }

  /** Scales and grid. `times` and `values` are the marked ones, as [value, words]. */
  axes({ from, to, low, high, times, values }) {
    Object.assign(this, { from, to, low, high });
    for (const [value, words] of values) {
      const y = Math.round(this.y(value)) + 0.5;
      this.put('path', { class: 'rule', d: `M${this.margin.left} ${y}H${this.width - this.margin.right}` });
      this.put('text', { class: 'end', x: this.margin.left - 5, y: y + 3.5 }, words);
    }
    for (const [time, words] of times) {
      const at = this.x(time);
      const side = at > this.width - 40 ? 'end' : at < this.margin.left + 20 ? 'start' : 'middle';
      const x = { start: this.margin.left, middle: at, end: this.width - this.margin.right }[side];
      this.put('text', { class: side, x, y: this.height - 4 }, words);
    }
  }

  x(time) {
    const width = this.width - this.margin.left - this.margin.right;
    return this.margin.left + (width * (time - this.from)) / (this.to - this.from || 1);
  }

  y(value) {
    const bottom = this.height - this.margin.bottom;
    const part = Math.min(Math.max((value - this.low) / (this.high - this.low), 0), 1);
    return bottom - (bottom - this.margin.top) * part;
  }

  line(look, points) {
    this.put('path', { class: look, d: runs(points).map((run) => this.trace(run)).join('') });
  }

  /** Between two lines over the same times; `points` are [time, lower, upper]. */
  area(look, points) {
    const outline = (run) =>
      `${this.trace(run.map(([time, , upper]) => [time, upper]))}L${this.trace(run.toReversed()).slice(1)}Z`;
    this.put('path', { class: look, d: runs(points).map(outline).join('') });
  }

  trace(run) {
    return `M${run.map(([time, value]) => `${this.x(time).toFixed(1)} ${this.y(value).toFixed(1)}`).join('L')}`;
  }

  /** The time under the pointer, or null. */
  get pointed() {
    if (!known(this.pointer) || this.from === undefined) return null;
    const width = this.width - this.margin.left - this.margin.right;
    const time = this.from + ((this.pointer - this.margin.left) * (this.to - this.from)) / width;
    return Math.min(Math.max(time, this.from), this.to);
  }

  cursor(time) {
    const from = () => `M${this.x(time).toFixed(1)} ${this.margin.top}`;
    this.put('path', { class: 'cursor', d: known(time) ? `${from()}V${this.height - this.margin.bottom}` : '' });
  }

  point(x) {
    this.pointer = x;
    this.svg.parentNode.classList.toggle('pointed', x !== null);
    this.redraw();
  }
}

/** Cuts points where a value is missing. */
function runs(points) {
  const all = [[]];
  for (const point of points) {
    if (known(point[1])) all.at(-1).push(point);
    else if (all.at(-1).length) all.push([]);
  }
  return all.filter((run) => run.length > 0);
}

/**
 * Means of as many seconds as share a pixel or two. The buckets are cut by the clock, not by the
 * index, so that the drawing does not flicker while points move to the left.
 */
function thinned(times, columns, from, to, width) {
  const size = Math.max(1, Math.ceil((to - from) / (width / 2)));
  const buckets = [];
  times.forEach((time, index) => {
    if (time < from) return;
    const key = Math.floor(time / size);
    if (buckets.at(-1)?.key !== key) buckets.push({ key, sums: columns.map(() => 0), counts: columns.map(() => 0) });
    const bucket = buckets.at(-1);
    columns.forEach((column, which) => {
      if (!known(column[index])) return;
      bucket.sums[which] += column[index];
      bucket.counts[which] += 1;
    });
  });
  const mean = (bucket, which) => (bucket.counts[which] ? bucket.sums[which] / bucket.counts[which] : null);
  const middle = ({ key }) => Math.min((key + 0.5) * size, to);
  return buckets.map((bucket) => [middle(bucket), ...columns.map((_, which) => mean(bucket, which))]);
}

const QUARTER = 15 * 60;

/** Marks of the axis of the last 15 minutes. */
function minutesAgo(to) {
  return [15, 10, 5, 0].map((minutes) => [to - minutes * 60, minutes ? `−${minutes} min` : 'now']);
}

/**
 * The last 15 minutes. `layers` are stacked areas, `lines` are lines; each has `look` and `values`,
 * one a time of `times`. Returns the index of the time that is pointed at, or of the newest.
 */
export function drawRecent(chart, { times, now, layers = [], lines = [], high, words }) {
  const marks = [0, 0.5, 1].map((part) => [part * high, words(part * high)]);
  chart.axes({ from: now - QUARTER, to: now, low: 0, high, times: minutesAgo(now), values: marks });
  const columns = [...layers, ...lines].map(({ values }) => values);
  const points = thinned(times, columns, now - QUARTER, now, chart.width);
  const floor = points.map(() => 0);
  layers.forEach(({ look }, which) => {
    const outline = points.map(([time, ...values], index) => {
      if (!known(values[which])) return [time, null, null];
      return [time, floor[index], (floor[index] += values[which])];
    });
    chart.area(look, outline);
  });
  const first = 1 + layers.length;
  lines.forEach(({ look }, which) => chart.line(look, points.map((point) => [point[0], point[first + which]])));
  const pointed = chart.pointed;
  chart.cursor(pointed);
  if (pointed === null) return times.length - 1;
  const index = times.findIndex((time) => time >= pointed);
  return index < 0 ? times.length - 1 : index;
}

/**
 * Accuracy by window: measured with its interval, predicted, that of the student before, and the
 * truth by second where it is known. Returns the window that is pointed at, or the newest.
 */
export function drawAccuracy(chart, { windows, truth, low, from, to }) {
  const values = [0, 0.25, 0.5, 0.75, 1].filter((value) => value >= low).map((value) => [value, percent(value, 0)]);
  const times = [0, 0.5, 1].map((part) => from + part * (to - from)).map((time) => [time, clock(time)]);
  chart.axes({ from, to, low, high: 1, times, values });
  chart.line('truth', truth);
  const middle = (window) => (window.from + Math.min(window.to, to)) / 2;
  const points = (key) => windows.map((window) => [middle(window), window[key]]);
  const shape = (key, look, path) => {
    const marks = points(key).filter(([, value]) => known(value));
    const d = marks.map(([time, value]) => path([chart.x(time), chart.y(value)])).join('');
    chart.put('path', { class: look, d });
  };

  chart.line('previous', points('previous'));
  shape('previous', 'previous', ([x, y]) => `M${x - 2.5} ${y - 2.5}h5v5h-5z`);
  shape('predicted', 'predicted', ([x, y]) => `M${x} ${y - 4}l4 4l-4 4l-4 -4z`);
  chart.line('measured', points('measured'));
  const whisker = ({ measured, sd, ...window }) => {
    const ends = [measured - INTERVAL * sd, measured + INTERVAL * sd].map((value) => chart.y(value).toFixed(1));
    const x = chart.x(middle(window));
    return `M${x} ${ends[0]}V${ends[1]}M${x - 2.5} ${ends[0]}h5M${x - 2.5} ${ends[1]}h5`;
  };
  const certain = windows.filter(({ measured, sd }) => known(measured) && known(sd));
  chart.put('path', { class: 'whisker', d: certain.map(whisker).join('') });
  shape('measured', 'measured dot', ([x, y]) => `M${x - 2.8} ${y}a2.8 2.8 0 1 0 5.6 0a2.8 2.8 0 1 0 -5.6 0z`);
  const pointed = chart.pointed;
  const window = pointed === null ? windows.at(-1) : nearest(windows, (one) => Math.abs(middle(one) - pointed));
  chart.cursor(pointed === null || !window ? null : middle(window));
  return window;
}

function nearest(list, distance) {
  return list.reduce((best, one) => (best && distance(best) <= distance(one) ? best : one), null);
}

/** An entry of a legend: the mark as it is drawn, and what it means. */
export function key(words, look, path) {
  const mark = svg('path', { class: look, d: path });
  const drawing = svg('svg', { class: 'chart', 'aria-hidden': 'true', viewBox: '0 0 24 14' }, mark);
  return el('li', {}, drawing, words);
}

export const KEY = {
  line: 'M1 7H23',
  box: 'M5 2H19V12H5Z',
  dot: 'M8 7a4 4 0 1 0 8 0a4 4 0 1 0 -8 0zM12 0V14',
  diamond: 'M12 2l5 5l-5 5l-5 -5z',
  square: 'M1 7H23M9 4h6v6h-6z',
};
