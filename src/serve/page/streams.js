// The streams: a card for each, and the page of one with the reasons for what was done with it.

import {
  Chart, KEY, PairedBar, Terms, clock, countOf, decimal, drawAccuracy, drawRecent, el, halfWidth,
  isShown, key, known, latency, percent, replace, say, scaleWords, share, table, watch,
} from './charts.js';

/** Windows that the chart of a card has room for. */
const CARD_WINDOWS = 20;
const PICTURE_SECONDS = 2;
/** Until a stream without a picture is asked for one again. */
const PAUSE_SECONDS = 10;
/** An older picture is not live: its time is told. */
const OLD_SECONDS = 5;
/** Cards are put in order at most this often: a page that jumps while it is read is of no use. */
const SORT_SECONDS = 15;
/** The page of a stream asks for its tables at most this often. */
const TABLES_SECONDS = 4;
const SEGMENTS_SHOWN = 60;

export const hashOf = (name) => `#stream/${encodeURIComponent(name)}`;
const pathOf = (name) => `api/v1/streams/${encodeURIComponent(name)}`;

// Words about a stream.

function accuracyWords({ index, measured, sd, predicted, previous }) {
  const parts = [`window ${index}: measured ${percent(measured)}${known(sd) ? ` ${halfWidth(sd)}` : ''}`];
  if (known(predicted)) parts.push(`predicted ${percent(predicted)}`);
  if (known(previous)) parts.push(`student before ${percent(previous)}`);
  return parts.join(', ');
}

const basisWords = (accuracy) =>
  accuracy ? `on ${countOf(accuracy.frames, 'labelled frame')} of window ${accuracy.window}` : 'no labelled frames yet';

function inferenceWords({ sample_every: step, resolution }) {
  const frames = step === 1 ? 'every frame' : `1 frame of ${step}`;
  return `${frames}, ${resolution === 1 ? 'full resolution' : `resolution × ${resolution}`}`;
}

function dropWords({ frames, rates }) {
  const parts = [`${decimal(rates.dropped)}/s, ${percent(frames.dropped / (frames.arrived || 1))} since the start`];
  if (frames.late) parts.push(`${frames.late} late`);
  if (frames.failed) parts.push(`${frames.failed} failed`);
  return parts.join(', ');
}

function studentWords({ student, checkpoint }) {
  const which = { 0: 'the first' }[student] ?? (known(student) ? `number ${student}` : 'none yet');
  return known(checkpoint) ? `${which}, began from checkpoint ${checkpoint}` : which;
}

const STAGES = {
  idle: 'Not retraining',
  profiling: 'Profiling retraining configurations',
  ready: 'Profiled, waits for the plan',
  training: 'Retraining',
};

function stageWords({ stage, training }) {
  const words = STAGES[stage] ?? stage;
  if (!training) return words;
  const place = training.on ? ` on ${training.on}` : '';
  return `${words}${place} since ${clock(training.since)}, expects ${percent(training.expected_accuracy)}`;
}

const latencyWords = (stream) =>
  stream.latency ? `p50 ${latency(stream.latency.p50)}, p99 ${latency(stream.latency.p99)}` : 'no answers lately';

const rateWords = ({ rates }) => `${decimal(rates.arrived)}/s arrive, ${decimal(rates.answered)}/s answered`;

const FACTS = [
  ['Inference', (stream) => inferenceWords(stream.inference)],
  ['Frames', rateWords],
  ['Dropped', dropWords],
  ['Latency', latencyWords],
  ['Student', studentWords],
];

/** What the marks in the charts of accuracy mean. */
export function accuracyLegend() {
  return el('ul', { class: 'legend marks' },
    key('measured, with its 95 % interval', 'measured', KEY.dot),
    key('predicted', 'predicted', KEY.diamond),
    key('student before the last promotion: what not retraining would have given', 'previous', KEY.square),
    key('truth, where the source knows it', 'truth', KEY.line));
}

// Pictures.

const pictures = new Set();
setInterval(() => pictures.forEach((picture) => picture.refresh()), PICTURE_SECONDS * 1000);

/** The newest picture of a stream with the boxes of its answer; loaded only while it is in view. */
class Picture {
  constructor(name, large) {
    this.path = `${pathOf(name)}/picture.json`;
    this.image = el('img', { alt: '', hidden: '' });
    this.boxes = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    this.boxes.setAttribute('aria-hidden', 'true');
    this.message = el('p', {}, 'no picture yet');
    this.frame = el('div', { class: 'frame' }, this.image, this.boxes, this.message);
    this.caption = el('figcaption');
    this.node = el('figure', { class: 'picture' }, this.frame, this.caption);
    Object.assign(this, { name, large, allowed: true, busy: false, pausedUntil: 0 });
    pictures.add(this);
    watch(this.node, () => this.refresh());
  }

  /** `now` is the node's clock: that of the browser may differ. */
  update({ pictures: allowed, at: now }) {
    if (this.allowed && !allowed) this.tell('pictures are switched off on this node');
    this.allowed = allowed;
    this.now = now;
  }

  async refresh() {
    if (!this.allowed || this.busy || performance.now() < this.pausedUntil || !isShown(this.node)) return;
    this.busy = true;
    try {
      const answer = await fetch(this.path, { signal: AbortSignal.timeout(10_000) });
      if (answer.ok) this.show(await answer.json());
      else if (answer.status === 403) this.update({ pictures: false, at: this.now });
      else this.tell(answer.status === 404 ? 'no picture yet' : `no picture: the node answers ${answer.status}`);
    } catch {
      this.tell('no picture: the node cannot be reached');
    }
    this.busy = false;
  }

  tell(message) {
    this.pausedUntil = performance.now() + PAUSE_SECONDS * 1000;
    this.image.hidden = true;
    this.boxes.replaceChildren();
    this.message.hidden = false;
    say(this.message, message);
    say(this.caption, '');
  }

  show({ at, width, height, objects, image }) {
    if (!image.startsWith('data:image/')) return;
    this.message.hidden = true;
    this.image.hidden = false;
    this.image.src = image;
    this.frame.style.aspectRatio = `${width} / ${height}`;
    this.boxes.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.boxes.replaceChildren(...objects.flatMap((object) => this.box(object, width)));
    const old = this.now - at > OLD_SECONDS ? `from ${new Date(at * 1000).toLocaleTimeString()}: ` : '';
    say(this.caption, old + counted(objects));
    this.image.alt = `Picture of ${this.name}: ${this.caption.textContent}`;
  }

  box({ class: name, score, x1, y1, x2, y2 }, width) {
    const part = (tag, attributes, text = '') => {
      const node = document.createElementNS(this.boxes.namespaceURI, tag);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      node.textContent = text;
      return node;
    };
    const place = { x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) };
    const parts = [part('rect', { ...place, class: 'halo' }), part('rect', { ...place, class: 'box' })];
    // On a card the letters would be too small to read; the caption counts instead.
    if (!this.large) return parts;
    const size = width / 40;
    const text = `${name} ${decimal(score, 2)}`;
    return [...parts, part('text', { x: x1, y: Math.max(size, y1 - size / 4), 'font-size': size }, text)];
  }

  drop() {
    pictures.delete(this);
  }
}

function counted(objects) {
  const counts = new Map();
  for (const { class: name } of objects) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, count]) => `${count} ${name}`).join(', ') || 'nothing found';
}

// What card and page have in common.

/** Picture, accuracy, shares, training and the newest decision of one stream. */
class Summary {
  constructor(name, large) {
    this.name = name;
    this.windows = large ? Infinity : CARD_WINDOWS;
    this.picture = new Picture(name, large);
    this.measured = el('span');
    this.interval = el('small');
    this.basis = el('p', { class: 'soft' });
    this.score = new Terms({});
    this.readout = el('p', { class: 'readout' });
    this.chart = new Chart(large ? 240 : 104, (chart) => this.drawAccuracy(chart));
    this.facts = new Terms({ class: 'facts' });
    this.failure = el('p', { class: 'failure' });
    this.stage = el('span');
    this.progress = el('progress', { max: 1, 'aria-label': `Progress of retraining ${name}` });
    this.done = el('span');
    this.configuration = el('p', { class: 'soft' });
    this.decision = el('p', { class: 'decision' });
    this.shares = ['inference', 'training'].map((kind) => ({ kind, bar: new PairedBar(kind), text: el('span') }));
    this.parts = this.layOut();
  }

  layOut() {
    const score = el('div', { class: 'score' },
      el('p', { class: 'big' }, this.measured, ' ', this.interval), this.basis, this.score.node);
    const shares = this.shares.flatMap(({ kind, bar, text }) => [el('span', {}, kind), bar.node, text]);
    this.bar = el('div', {}, this.progress, this.done);
    return {
      top: [this.failure, el('div', { class: 'sum' }, this.picture.node, score)],
      chart: [el('div', { class: 'accuracy' }, this.chart.svg, this.readout)],
      rest: [
        el('div', { class: 'shares' }, ...shares),
        this.facts.node,
        el('div', { class: 'training-now training' }, this.stage, this.bar, this.configuration),
        this.decision,
      ],
    };
  }

  update(stream, store) {
    this.store = store;
    this.picture.update(store.snapshot);
    this.failure.hidden = !stream.failure;
    say(this.failure, stream.failure ? `${stream.state === 'lost' ? 'Camera lost' : 'Failed'}: ${stream.failure}` : '');
    this.tellScore(stream, store);
    for (const { kind, bar, text } of this.shares) {
      const { granted, used } = stream.shares[kind];
      bar.set(granted, used, store.streamScale);
      say(text, `granted ${share(granted)}, used ${share(used)}`);
    }
    for (const [term, words] of FACTS) this.facts.set(term, words(stream));
    this.tellTraining(stream);
    say(this.decision, stream.decision ? `${clock(stream.decision.at)} ${stream.decision.text}` : 'No decision yet.');
    this.decision.title = this.decision.textContent;
    this.chart.update();
  }

  tellScore({ accuracy, predicted, true_accuracy: truth }, store) {
    say(this.measured, percent(accuracy?.measured));
    say(this.interval, known(accuracy?.sd) ? halfWidth(accuracy.sd) : '');
    say(this.basis, basisWords(accuracy));
    const before = store.windowsOf(this.name).findLast(({ previous }) => known(previous));
    this.score.set('plan expects', known(predicted) ? percent(predicted) : null);
    const elsewhen = before && before.index !== accuracy?.window ? ` (window\u00a0${before.index})` : '';
    this.score.set('student before', before ? percent(before.previous) + elsewhen : null);
    this.score.set('truth', known(truth) ? percent(truth) : null);
  }

  tellTraining(stream) {
    const { training } = stream;
    say(this.stage, stageWords(stream));
    this.bar.hidden = !known(training?.progress);
    this.progress.value = training?.progress ?? 0;
    say(this.done, percent(training?.progress, 0));
    this.configuration.hidden = !training;
    say(this.configuration, training?.configuration ?? '');
  }

  drawAccuracy(chart) {
    const { history, snapshot, accuracyFloor, window } = this.store;
    const windows = this.store.windowsOf(this.name).slice(-this.windows);
    const to = snapshot.run_time;
    const from = Math.min(windows[0]?.from ?? to, to - snapshot.window.seconds);
    const began = snapshot.at - snapshot.run_time;
    const values = history.streams[this.name]?.true_accuracy ?? [];
    const truth = smooth(history.times.map((time, index) => [time - began, values[index]]), from);
    const told = drawAccuracy(chart, { windows, truth, low: accuracyFloor, from, to });
    say(this.readout, told ? accuracyWords(told) : 'no labelled frames yet');
    chart.label(`Accuracy of ${this.name} over ${countOf(windows.length, 'window')}; ${this.readout.textContent}`);
  }

  drop() {
    this.picture.drop();
  }
}

/** Means of 10 seconds: the truth of a single second is mostly noise. */
function smooth(points, from) {
  const means = [];
  for (let start = 0; start < points.length; start += 10) {
    const part = points.slice(start, start + 10).filter(([time, value]) => known(value) && time >= from);
    const mean = (which) => part.reduce((sum, point) => sum + point[which], 0) / part.length;
    if (part.length) means.push([mean(0), mean(1)]);
  }
  return means;
}

// Cards.

class Card {
  constructor(name) {
    this.name = name;
    this.summary = new Summary(name, false);
    this.link = el('a', { href: hashOf(name) }, name);
    this.state = el('span', { class: 'badge' });
    this.device = el('span', { class: 'soft' });
    const { top, chart, rest } = this.summary.parts;
    this.summary.picture.node.addEventListener('click', () => this.link.click());
    const head = el('header', { class: 'head' }, el('h3', {}, this.link), this.device, this.state);
    this.node = el('article', { class: 'panel card' }, head, ...top, ...chart, ...rest);
  }

  update(stream, store) {
    this.node.dataset.state = stream.state;
    say(this.state, stream.state);
    say(this.device, stream.device);
    this.summary.update(stream, store);
  }

  drop() {
    this.summary.drop();
    this.node.remove();
  }
}

/** All cards, filtered and in order. */
export class Cards {
  constructor(store) {
    this.store = store;
    this.cards = new Map();
    this.list = document.getElementById('stream-list');
    this.filter = document.getElementById('filter');
    this.order = document.getElementById('sort');
    this.sortedAt = -Infinity;
    this.filter.addEventListener('input', () => this.pick());
    this.order.addEventListener('change', () => this.sort());
  }

  update() {
    const { streams, run_time: now } = this.store.snapshot;
    const changed = this.match(streams);
    for (const stream of streams) this.cards.get(stream.name).update(stream, this.store);
    const scale = `Full width of the bars: ${scaleWords(this.store.streamScale)}.`;
    say(document.getElementById('streams-sum'), `${sumWords(streams)}. ${scale}`);
    document.getElementById('filter-box').hidden = streams.length <= 8;
    if (changed || now < this.sortedAt || now - this.sortedAt > SORT_SECONDS) this.sort();
    if (changed) this.pick();
  }

  /** Makes the cards of new streams, drops those of streams that are gone. */
  match(streams) {
    if (this.cards.size === 0) this.list.replaceChildren();
    const names = new Set(streams.map(({ name }) => name));
    const gone = [...this.cards.keys()].filter((name) => !names.has(name));
    const come = [...names].filter((name) => !this.cards.has(name));
    for (const name of gone) {
      this.cards.get(name).drop();
      this.cards.delete(name);
    }
    for (const name of come) this.cards.set(name, new Card(name));
    return gone.length + come.length > 0;
  }

  sort() {
    const { streams, run_time: now } = this.store.snapshot ?? { streams: [], run_time: 0 };
    this.sortedAt = now;
    const sorted = streams.toSorted(ORDERS[this.order.value](this.store)).map(({ name }) => this.cards.get(name).node);
    if (sorted.every((node, index) => this.list.children[index] === node)) return;
    const focused = document.activeElement;
    this.list.replaceChildren(...sorted);
    if (this.list.contains(focused)) focused.focus({ preventScroll: true });
  }

  /** Whether a stream is among those that the filter asks for. */
  wants(name) {
    return name.toLowerCase().includes(this.filter.value.trim().toLowerCase());
  }

  pick() {
    let any = false;
    for (const { name, node } of this.cards.values()) {
      node.hidden = !this.wants(name);
      any ||= !node.hidden;
    }
    document.getElementById('none-match').hidden = any || this.cards.size === 0;
  }

  focus(name) {
    this.cards.get(name)?.link.focus();
  }
}

const byName = (one, other) => one.name.localeCompare(other.name, undefined, { numeric: true });
const ascending = (figure) => (one, other) => figure(one) - figure(other) || byName(one, other);
const ORDERS = {
  name: () => byName,
  accuracy: () => ascending(({ accuracy }) => accuracy?.measured ?? 2),
  drops: (store) => ascending(({ name }) => -recentDrops(store, name)),
};

/** Frames dropped over the last minute. */
function recentDrops({ history }, name) {
  return (history.streams[name]?.dropped ?? []).slice(-60).reduce((sum, count) => sum + (count ?? 0), 0);
}

function sumWords(streams) {
  const counted = ['running', 'lost', 'ended', 'failed']
    .map((state) => [streams.filter((stream) => stream.state === state).length, state])
    .filter(([count]) => count > 0).map(([count, state]) => `${count} ${state}`);
  const measured = streams.map(({ accuracy }) => accuracy?.measured).filter(known);
  if (measured.length === 0) return counted.join(', ');
  const mean = measured.reduce((sum, value) => sum + value, 0) / measured.length;
  return `${counted.join(', ')}; mean accuracy ${percent(mean)}, lowest ${percent(Math.min(...measured))}`;
}

// The page of one stream.

/** Everything about one stream; `ask` gets JSON from the node. */
export class Detail {
  constructor(store, ask) {
    this.store = store;
    this.ask = ask;
    this.node = document.getElementById('detail');
  }

  open(name) {
    this.close();
    this.name = name;
    this.summary = new Summary(name, true);
    this.title = el('h2', { tabindex: -1 }, name);
    this.state = el('span', { class: 'badge' });
    this.note = el('p', { class: 'note' });
    this.recent = this.recentCharts();
    this.retrainings = section('Retrainings');
    this.decisions = section('Decisions');
    this.windows = section('Windows');
    this.segments = folded('Shares by segment, newest first');
    this.profiles = folded('What the newest profile predicts');
    this.layOut();
    this.node.hidden = false;
    this.title.focus({ preventScroll: true });
    window.scrollTo(0, 0);
    this.asked = { at: -Infinity };
    this.update();
  }

  close() {
    this.summary?.drop();
    this.summary = null;
    this.node.hidden = true;
    this.node.replaceChildren();
  }

  layOut() {
    const { top, chart, rest } = this.summary.parts;
    const panel = (...children) => el('div', { class: 'panel stack' }, ...children);
    const charts = this.recent.map((one) => panel(el('h4', {}, one.title), one.chart.svg, one.readout));
    this.windows.node.append(this.segments.node, this.profiles.node);
    this.body = el('div', { class: 'stack large', hidden: '' },
      el('div', { class: 'two' }, panel(...top), panel(...rest)),
      panel(el('h4', {}, 'Accuracy by window'), ...chart, accuracyLegend()),
      el('div', { class: 'two' }, ...charts),
      this.retrainings.node, this.decisions.node, this.windows.node);
    this.node.replaceChildren(
      el('a', { href: '#streams', class: 'back' }, 'All streams'),
      el('div', { class: 'head' }, this.title, this.state, this.note),
      this.body,
    );
  }

  recentCharts() {
    const shares = (kind) =>
      this.recentChart(`Share of ${kind}: granted (line), used (area)`, (chart) => this.drawShares(chart, kind));
    return [
      shares('inference'),
      shares('training'),
      this.recentChart('Frames a second: answered (area), dropped (dashed line)', (chart) => this.drawFrames(chart)),
      this.recentChart('Latency, p99', (chart) => this.drawLatency(chart)),
    ];
  }

  recentChart(title, draw) {
    const readout = el('p', { class: 'readout' });
    const chart = new Chart(130, (drawn) => {
      say(readout, draw(drawn));
      drawn.label(`${title} of ${this.name}, last 15 minutes; ${readout.textContent}`);
    });
    return { title, chart, readout };
  }

  drawShares(chart, kind) {
    const { granted, used } = this.store.jobHistory((job) => job.stream === this.name && job.kind === kind);
    const high = roundUp([...granted, ...used]);
    const at = this.drawn(chart, high, share,
      [{ look: `area ${kind}`, values: used }], [{ look: 'granted', values: granted }]);
    return `granted ${share(granted[at])}, used ${share(used[at])}`;
  }

  drawFrames(chart) {
    const { answered = [], dropped = [] } = this.store.history.streams[this.name] ?? {};
    const at = this.drawn(chart, roundUp([...answered, ...dropped]), (value) => decimal(value, 0),
      [{ look: 'area inference', values: answered }], [{ look: 'granted dropped', values: dropped }]);
    return `answered ${decimal(answered[at])}/s, dropped ${decimal(dropped[at])}/s`;
  }

  drawLatency(chart) {
    const values = this.store.history.streams[this.name]?.latency_p99 ?? [];
    const at = this.drawn(chart, roundUp(values), latency, [], [{ look: 'stroke inference', values }]);
    return `p99 ${latency(values[at])}`;
  }

  drawn(chart, high, words, layers, lines) {
    const { history, snapshot } = this.store;
    return drawRecent(chart, { times: history.times, now: snapshot.at, layers, lines, high, words });
  }

  update() {
    const { snapshot } = this.store;
    if (!this.summary || !snapshot) return;
    const stream = snapshot.streams.find(({ name }) => name === this.name);
    this.body.hidden = !stream;
    this.state.hidden = !stream;
    if (!stream) {
      say(this.note, 'This node has no stream of this name now.');
      return;
    }
    this.node.dataset.state = stream.state;
    say(this.state, stream.state);
    say(this.note, `on ${stream.device}; classes: ${stream.classes.join(', ') || 'none yet'}`);
    this.summary.update(stream, this.store);
    this.recent.forEach(({ chart }) => chart.update());
    this.refreshTables(stream);
  }

  /** Asks for the tables anew when there is news in them. */
  async refreshTables(stream) {
    const { snapshot } = this.store;
    const news = [snapshot.window.index, stream.decision?.at, stream.stage].join();
    const age = snapshot.at - this.asked.at;
    if (age < TABLES_SECONDS || (news === this.asked.news && age < 5 * TABLES_SECONDS)) return;
    this.asked = { at: snapshot.at, news };
    const name = this.name;
    try {
      const [story, reasons] = await Promise.all(
        [this.ask(pathOf(name)), this.ask(`api/v1/explain/${encodeURIComponent(name)}`)]);
      if (name === this.name && this.summary) this.tell(story.windows, reasons);
    } catch (error) {
      say(this.note, error.message);
    }
  }

  tell(windows, { decisions, retrainings }) {
    const newest = windows.toReversed();
    this.retrainings.show(retrainings.length ? retrainingTable(retrainings) : nothing('Nothing was retrained yet.'));
    this.decisions.show(decisions.length ? decisionLog(decisions) : nothing('Nothing was decided yet.'));
    this.windows.show(windowTable(newest));
    this.segments.show(segmentTable(newest));
    const profiled = newest.find(({ profiles }) => profiles.length > 0);
    this.profiles.show(profiled ? profileTable(profiled.profiles) : nothing('Nothing was profiled yet.'));
  }
}

function roundUp(values) {
  const most = values.reduce((best, value) => Math.max(best, value ?? 0), 0);
  if (most === 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(most));
  return unit * [1, 2, 5, 10].find((step) => most <= step * unit * 1.0001);
}

const nothing = (words) => el('p', { class: 'empty' }, words);
const text = (words) => el('td', { class: 'text' }, words);

/** A titled panel whose content is replaced only when it says something else. */
function section(title) {
  const body = el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': title }, nothing('Loading.'));
  const node = el('section', { class: 'panel' }, el('h3', {}, title), body);
  return { node, show: (content) => replace(body, content) };
}

function folded(title) {
  const body = el('div', { class: 'scroll' });
  return { node: el('details', {}, el('summary', {}, title), body), show: (content) => replace(body, content) };
}

function configurationWords(config) {
  const data = `${percent(config.data_fraction, 0)} of the data`;
  const parts = [countOf(config.epochs, 'epoch'), `batch ${config.batch_size}`, data];
  if (known(config.learning_rate)) parts.push(`rate ${config.learning_rate}`);
  if (config.head_width) parts.push(`head ${config.head_width}`);
  if (known(config.layers_trained)) parts.push(`${config.layers_trained} layers trained`);
  if (config.layers_frozen) parts.push(`${config.layers_frozen} frozen`);
  return parts.join(', ');
}

function outcomeWords({ to, promoted, rolled_back: back, cut_off: cut, ...measured }) {
  const { serving_accuracy: serving, retrained_accuracy: retrained } = measured;
  if (promoted) return known(back) ? `promoted, taken back at ${clock(back)}` : 'promoted';
  if (cut) return 'cut off before its end';
  if (!known(to)) return 'running';
  if (!known(serving) || !known(retrained)) return 'dropped: not measured';
  return retrained > serving ? 'dropped: better, but not proven, or a class lost' : 'dropped: not better';
}

function differenceWords({ serving_accuracy: serving, retrained_accuracy: retrained, difference_sd: sd }) {
  if (!known(serving) || !known(retrained)) return '–';
  const difference = (retrained - serving) * 100;
  const signed = `${difference < 0 ? '−' : '+'}${Math.abs(difference).toFixed(1)}`;
  return known(sd) ? `${signed} ${halfWidth(sd)}` : signed;
}

function retrainingTable(retrainings) {
  const titles = ['from – to', 'outcome', 'accuracy predicted', 'retrained', 'serving', 'difference, points',
    'chance to be better', 'GPU-seconds predicted', 'taken', 'examples', 'held out', 'configuration'];
  return table(titles, retrainings.map((one) => [
    `${clock(one.from)} – ${known(one.to) ? clock(one.to) : 'now'}`,
    text(outcomeWords(one)),
    percent(one.predicted_accuracy), percent(one.retrained_accuracy), percent(one.serving_accuracy),
    differenceWords(one), percent(one.chance, 0),
    decimal(one.predicted_gpu_seconds), decimal(one.gpu_seconds),
    String(one.examples), String(one.held_out),
    text(configurationWords(one.config)),
  ]));
}

function decisionLog(decisions) {
  const line = ({ at, text: words }) => el('li', {}, el('span', { class: 'soft' }, clock(at)), el('span', {}, words));
  return el('ul', { class: 'log' }, ...decisions.map(line));
}

function windowTable(windows) {
  const titles = ['window', 'from – to', 'measured', 'frames labelled', 'predicted', 'truth', 'labelling, s',
    'profiling, s', 'retrainings'];
  return table(titles, windows.map((one) => [
    String(one.index), `${clock(one.from)} – ${clock(one.to)}`,
    `${percent(one.measured_accuracy)}${known(one.measured_sd) ? ` ${halfWidth(one.measured_sd)}` : ''}`,
    String(one.labelled_frames), percent(one.predicted_accuracy), percent(one.true_accuracy),
    decimal(one.labelling_seconds), decimal(one.profiling_seconds), String(one.retrainings.length),
  ]));
}

const MICRO = 1e6;

function segmentTable(windows) {
  const titles = ['from – to', 'inference granted', 'used', 'training granted', 'used', 'configuration'];
  const segments = windows.flatMap((window) => window.segments.toReversed()).slice(0, SEGMENTS_SHOWN);
  return table(titles, segments.map((one) => [
    `${clock(one.from)} – ${clock(one.to)}`,
    share(one.inference_granted / MICRO), share(one.inference_used),
    share(one.training_granted / MICRO), share(one.training_used),
    text(inferenceWords(one)),
  ]));
}

function profileTable(profiles) {
  const titles = ['configuration', 'accuracy at the end', 'GPU-seconds'];
  return table(titles, profiles.map((one) =>
    [text(configurationWords(one.config)), percent(one.end_accuracy), decimal(one.gpu_seconds)]));
}
