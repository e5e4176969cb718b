// The dashboard of a node. Data flows one way: the node's answers change the store, the store is
// drawn. Here are the store, its sources, and the sections other than the streams.

import {
  Chart, KEY, KINDS, PairedBar, StackedBar, Terms, clock, countOf, drawRecent, el, isShown, key, known,
  percent, roundScale, say, scaleWords, share, watch,
} from './charts.js';
import { Cards, Detail, accuracyLegend, hashOf } from './streams.js';

const HISTORY_POINTS = 15 * 60;
const HISTORY_WINDOWS = 60;
/** After the end of a window, until its figures are final. */
const SETTLE_SECONDS = 5;
/** The node sends a tick a second; after this long without one the connection is given up. */
const SILENCE_SECONDS = 6;
const RETRY_SECONDS = [1, 2, 4, 8];
const PLAN_SECONDS = 2;
const NODES_SECONDS = 5;
const JOBS_FOLDED = 10;
const LANES_FOLDED = 12;

const byId = (id) => document.getElementById(id);

// The store.

const store = {
  snapshot: null,
  history: { times: [], devices: {}, streams: {}, windows: [] },
  jobs: new Map(),
  plan: null,
  nodes: null,
  link: { state: 'connecting', why: null },
  /** Full width of the bars of jobs and of streams; the same for all, so that bars can be compared. */
  shareScale: 1,
  streamScale: 1,
  /** Lower end of all charts of accuracy; the same for all streams, so that charts can be compared. */
  accuracyFloor: 0.5,

  /** Windows of a stream, oldest first, with `measured`, `sd`, `frames`, `predicted`, `previous`. */
  windowsOf(name) {
    return this.history.windows.filter(({ streams }) => streams[name])
      .map(({ index, from, to, streams }) => ({ index, from, to, ...streams[name] }));
  },

  /** Shares over time, summed over the jobs that `wanted` picks. */
  jobHistory(wanted) {
    const picked = Object.entries(this.history.devices).flatMap(([device, jobs]) =>
      Object.keys(jobs).filter((name) => wanted(this.job(device, name))).map((name) => jobs[name]));
    return { granted: summed(picked.map((one) => one.granted)), used: summed(picked.map((one) => one.used)) };
  },

  /** What is known of a job; of one that is gone, its name tells the kind. */
  job(device, name) {
    const kind = KINDS.find((one) => name.endsWith(`/${one}`)) ?? 'other';
    return this.jobs.get(`${device}\n${name}`) ?? { device, name, kind, stream: name.replace(/\/\w+$/, '') };
  },
};

function summed(columns) {
  if (columns.length < 2) return columns[0] ?? [];
  return columns[0].map((_, index) => columns.reduce((sum, column) =>
    (known(column[index]) ? (sum ?? 0) + column[index] : sum), null));
}

function takeSnapshot(snapshot) {
  const before = store.snapshot;
  store.snapshot = snapshot;
  for (const device of snapshot.devices) {
    for (const job of device.jobs) store.jobs.set(`${device.name}\n${job.name}`, { ...job, device: device.name });
  }
  append(store.history, snapshot);
  noteAccuracy(store.history.windows, snapshot);
  setScales(snapshot, before?.window.index !== snapshot.window.index);
  if (before) noteChange(before, snapshot);
  draw();
}

function noteChange(before, { node, run_time: now, window }) {
  // Another version may come with another page.
  if (before.node.version !== node.version) location.reload();
  else if (now < before.run_time) loadHistory();
  else if (before.window.index !== window.index) setTimeout(loadWindows, SETTLE_SECONDS * 1000);
}

/** Adds the second that a tick tells about, as the node's own history has it. */
function append({ times, devices, streams }, snapshot) {
  if (snapshot.at <= (times.at(-1) ?? 0)) return;
  times.push(snapshot.at);
  for (const device of snapshot.devices) {
    const jobs = (devices[device.name] ??= {});
    for (const { name, granted, used } of device.jobs) lengthen((jobs[name] ??= {}), { granted, used }, times.length);
  }
  for (const { name, rates, latency, true_accuracy } of snapshot.streams) {
    const { answered, dropped } = rates;
    const values = { answered, dropped, latency_p99: latency?.p99 ?? null, true_accuracy };
    lengthen((streams[name] ??= {}), values, times.length);
  }
  const all = [...Object.values(devices).flatMap(Object.values), ...Object.values(streams)];
  for (const series of all) lengthen(series, {}, times.length);
  if (times.length <= HISTORY_POINTS) return;
  times.shift();
  for (const series of all) Object.values(series).forEach((column) => column.shift());
}

/** Brings all columns to a length: with the values given, with nulls where there is none. */
function lengthen(series, values, length) {
  for (const name of Object.keys(values)) series[name] ??= [];
  for (const [name, column] of Object.entries(series)) {
    if (column.length >= length) continue;
    while (column.length < length - 1) column.push(null);
    column.push(values[name] ?? null);
  }
}

/** Newest measurements: ticks have them long before the history is asked for again. */
function noteAccuracy(windows, { window, streams }) {
  for (const { name, accuracy, predicted } of streams) {
    if (!accuracy) continue;
    let entry = windows.findLast(({ index }) => index === accuracy.window);
    if (!entry && accuracy.window === window.index) {
      entry = { index: window.index, from: window.from, to: window.to, streams: {} };
      windows.push(entry);
      if (windows.length > HISTORY_WINDOWS) windows.shift();
    }
    if (!entry) continue;
    const { measured, sd, frames } = accuracy;
    // The plan in force tells nothing about a window that is over.
    const expected = entry.index === window.index ? predicted : null;
    const noted = (entry.streams[name] ??= { predicted: expected, previous: null });
    Object.assign(noted, { measured, sd, frames });
  }
}

/** Bars and charts get a coarser scale at once, a finer one only in a new window: no flutter. */
function setScales({ devices, streams }, afresh) {
  const fit = (before, jobs) => {
    const scale = roundScale(Math.max(0, ...jobs.flatMap(({ granted, used }) => [granted, used])));
    return afresh ? scale : Math.max(scale, before);
  };
  store.shareScale = fit(store.shareScale, devices.flatMap(({ jobs }) => jobs));
  store.streamScale = fit(store.streamScale, streams.flatMap(({ shares }) => [shares.inference, shares.training]));
  const figures = store.history.windows.flatMap(({ streams }) =>
    Object.values(streams).flatMap(({ measured, previous }) => [measured ?? 1, previous ?? 1]));
  const lowest = figures.reduce((least, figure) => Math.min(least, figure), 1);
  store.accuracyFloor = Math.min(0.75, Math.floor(lowest * 4) / 4);
}

// Sources.

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(15_000) });
  if (answer.ok) return answer.json();
  const { error } = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(error ?? `the node answers ${answer.status} to ${path}`), { status: answer.status });
}

/** All that the charts begin with; large where streams are many. */
async function loadHistory() {
  try {
    store.history = await ask('api/v1/history');
    draw();
  } catch (error) {
    // A node that goes away right now: the ticks make the charts.
    console.info(`no history: ${error.message}`);
  }
}

/** The figures of a window that is over, which no tick tells about any more. */
async function loadWindows() {
  try {
    store.history.windows = await ask('api/v1/windows');
    draw();
  } catch (error) {
    console.info(`no windows: ${error.message}`);
  }
}

function setLink(state, why = null) {
  store.link = { state, why };
  drawLink();
}

/**
 * Ticks. The browser tries again by itself only after some errors, and never notices a connection
 * that is open but dead; so each attempt is ours.
 */
function listen(attempt = 0) {
  const source = new EventSource('events');
  let silence;
  const lose = async () => {
    clearTimeout(silence);
    source.close();
    setLink('lost', store.link.why);
    const wait = RETRY_SECONDS[Math.min(attempt, RETRY_SECONDS.length - 1)];
    setTimeout(() => listen(attempt + 1), wait * 1000);
    const why = await whyLost();
    if (store.link.state === 'lost') setLink('lost', why);
  };
  const expect = () => {
    clearTimeout(silence);
    silence = setTimeout(lose, SILENCE_SECONDS * 1000);
  };
  source.onerror = lose;
  source.addEventListener('tick', ({ data }) => {
    attempt = 0;
    if (store.link.state === 'lost') loadHistory();
    setLink('live');
    expect();
    takeSnapshot(JSON.parse(data));
  });
  expect();
}

/** An event source hides why it was refused; an ordinary request tells. */
async function whyLost() {
  try {
    await ask('api/v1/snapshot');
    return null;
  } catch ({ status, message }) {
    if (status === 401) return 'This node wants a token: open /?token=TOKEN once.';
    return status ? message : null;
  }
}

/** Asks again and again while the node is in view. */
function poll(node, seconds, path, take) {
  let at = -Infinity;
  const due = async () => {
    if (!isShown(node) || store.link.state === 'lost' || performance.now() - at < seconds * 950) return;
    at = performance.now();
    try {
      take(await ask(path), null);
    } catch (error) {
      take(null, error);
    }
  };
  watch(node, due);
  setInterval(due, seconds * 1000);
}

// Header.

const about = new Terms({ id: 'about', class: 'pairs' });

function drawHeader({ node, window, run_time: now }) {
  say(byId('node'), node.name ?? '');
  document.title = [detail.summary && detail.name, node.name, 'ekya'].filter(Boolean).join(' – ');
  about.set('scheduler', node.scheduler);
  about.set('leader', leaderWords(node));
  about.set('running for', clock(now));
  about.set('version', node.version);
  const done = Math.min(Math.max(now - window.from, 0), window.to - window.from);
  say(byId('window'), `window ${window.index}: ${done.toFixed(0)} of ${(window.to - window.from).toFixed(0)} s`);
  byId('progress').value = done / (window.to - window.from || 1);
}

function leaderWords({ name, leader }) {
  if (!name) return 'none needed, one node';
  if (!leader) return 'none, this node plans for itself';
  return `${leader.name}${leader.name === name ? ' (this node)' : ''}, term ${leader.term}`;
}

function drawLink() {
  const { state, why } = store.link;
  const link = byId('link');
  link.dataset.state = state;
  const lostWords = `${store.snapshot ? 'connection lost' : 'no connection'}, trying again`;
  say(link, { connecting: 'connecting', live: 'live', lost: lostWords }[state]);
  document.body.classList.toggle('stale', state === 'lost');
  const draining = store.snapshot?.node.draining && 'This node is being drained: its streams move to other nodes.';
  const shown = store.snapshot && `What is shown is from ${new Date(store.snapshot.at * 1000).toLocaleTimeString()}.`;
  const lost = state === 'lost' && (why ?? shown);
  byId('notice').hidden = !lost && !draining;
  say(byId('notice'), lost || draining || '');
}

// Devices.

function byKind(jobs, figure) {
  const sums = {};
  for (const job of jobs) sums[job.kind] = (sums[job.kind] ?? 0) + job[figure];
  return sums;
}

const total = (jobs, figure) => jobs.reduce((sum, job) => sum + job[figure], 0);

/** The kind is told by colour, and by the name, or else here. */
const jobWords = ({ name, kind }) => (name.endsWith(kind) ? name : `${name} (${kind})`);

class JobRow {
  constructor(job, choose) {
    const title = `${job.name}: show it in the chart`;
    this.button = el('button', { type: 'button', class: job.kind, title }, jobWords(job));
    this.button.addEventListener('click', () => choose(job.name));
    this.bar = new PairedBar(job.kind);
    this.granted = el('td');
    this.used = el('td');
    const bars = el('td', { class: 'bars' }, this.bar.node);
    this.node = el('tr', {}, el('td', {}, this.button), bars, this.granted, this.used);
  }

  update({ name, granted, used }, chosen) {
    this.button.setAttribute('aria-pressed', name === chosen);
    this.bar.set(granted, used, store.shareScale);
    say(this.granted, share(granted));
    say(this.used, share(used));
  }
}

class DevicePanel {
  constructor(name) {
    this.name = name;
    this.chosen = null;
    this.rows = new Map();
    this.sum = el('p', { class: 'note' });
    this.granted = new StackedBar('granted');
    this.used = new StackedBar('used');
    this.chart = new Chart(118, (chart) => this.draw(chart));
    this.readout = el('p', { class: 'readout' });
    this.scale = el('th', { scope: 'col', class: 'bars', title: 'Ends of the bars' });
    this.body = el('tbody');
    this.free = el('td');
    this.more = el('button', { type: 'button', class: 'more', 'aria-expanded': false });
    this.more.addEventListener('click', () => this.unfold());
    this.node = this.layOut();
  }

  layOut() {
    const column = (title) => el('th', { scope: 'col' }, title);
    const free = el('tr', { class: 'free' }, el('td', {}, 'free'), el('td'), this.free, el('td'));
    return el('section', { class: 'panel', 'aria-label': `Device ${this.name}` },
      el('div', { class: 'head' }, el('h3', {}, this.name), this.sum),
      el('div', { class: 'total' }, 'granted', this.granted.node, 'used', this.used.node),
      this.chart.svg, this.readout,
      el('table', { class: 'jobs' },
        el('thead', {}, el('tr', {}, column('job'), this.scale, column('granted'), column('used'))),
        this.body, el('tfoot', {}, free)),
      this.more);
  }

  choose(name) {
    this.chosen = this.chosen === name ? null : name;
    draw();
  }

  unfold() {
    this.more.setAttribute('aria-expanded', this.more.ariaExpanded !== 'true');
    draw();
  }

  update({ free, jobs }) {
    this.jobs = jobs;
    say(this.sum, `granted ${share(total(jobs, 'granted'))}, free ${share(free)}, used ${share(total(jobs, 'used'))}`);
    this.granted.set(byKind(jobs, 'granted'));
    this.used.set(byKind(jobs, 'used'));
    say(this.free, share(free));
    say(this.scale, `0 – ${store.shareScale}`);
    this.match(jobs);
    const visible = this.visible(jobs);
    for (const job of jobs) {
      const row = this.rows.get(job.name);
      row.node.hidden = !visible.has(job.name);
      if (!row.node.hidden) row.update(job, this.chosen);
    }
    this.chart.update();
  }

  match(jobs) {
    const names = jobs.map(({ name }) => name);
    if (names.length === this.rows.size && names.every((name) => this.rows.has(name))) return;
    const rows = jobs.map((job) => [job.name, this.rows.get(job.name) ?? new JobRow(job, (name) => this.choose(name))]);
    this.rows = new Map(rows);
    this.body.replaceChildren(...rows.map(([, row]) => row.node));
    if (!this.rows.has(this.chosen)) this.chosen = null;
  }

  /** Names of the rows that are shown: all, or those with the largest grants, in their usual places. */
  visible(jobs) {
    const folded = jobs.length > JOBS_FOLDED && this.more.ariaExpanded !== 'true';
    this.more.hidden = jobs.length <= JOBS_FOLDED;
    say(this.more, folded ? `Show all ${jobs.length} jobs` : `Show the ${JOBS_FOLDED} largest jobs only`);
    const picked = folded ? jobs.toSorted((one, other) => other.granted - one.granted).slice(0, JOBS_FOLDED) : jobs;
    return new Set(picked.map(({ name }) => name)).add(this.chosen);
  }

  draw(chart) {
    const mine = ({ device, name }) => device === this.name && (!this.chosen || name === this.chosen);
    const all = store.jobHistory(mine);
    const kinds = KINDS.map((kind) => ({ kind, ...store.jobHistory((job) => mine(job) && job.kind === kind) }))
      .filter(({ used }) => used.length > 0);
    const layers = kinds.map(({ kind, used }) => ({ look: `area ${kind}`, values: used }));
    const lines = [{ look: 'granted', values: all.granted }];
    const high = this.chosen ? store.shareScale : 1;
    const { times } = store.history;
    const at = drawRecent(chart, { times, now: store.snapshot.at, layers, lines, high, words: share });
    const parts = kinds.filter(({ used }) => known(used[at])).map(({ kind, used }) => `${kind} ${share(used[at])}`);
    const what = this.chosen ? `${this.chosen}: ` : '';
    const split = kinds.length > 1 ? ` (${parts.join(', ')})` : '';
    say(this.readout, `${what}granted ${share(all.granted[at])}, used ${share(all.used[at])}${split}`);
    chart.label(`Shares of ${this.chosen ?? this.name} over the last 15 minutes; ${this.readout.textContent}`);
  }
}

const panels = new Map();

function drawDevices({ devices }) {
  const list = byId('device-list');
  if (devices.length !== panels.size || devices.some(({ name }) => !panels.has(name))) {
    for (const { name } of devices) if (!panels.has(name)) panels.set(name, new DevicePanel(name));
    for (const name of panels.keys()) if (!devices.some((device) => device.name === name)) panels.delete(name);
    list.replaceChildren(...devices.map(({ name }) => panels.get(name).node));
  }
  for (const device of devices) panels.get(device.name).update(device);
  const kinds = new Set([...store.jobs.values()].map(({ kind }) => kind));
  KINDS.forEach((kind, index) => { byId('kinds').children[index].hidden = !kinds.has(kind); });
}

// The plan of the window.

const LANE = { height: 40, shares: 24, margin: { left: 0, right: 0, top: 0, bottom: 0 } };

class Lane {
  constructor(name) {
    this.name = name;
    this.chart = new Chart(LANE.height, (chart) => this.draw(chart), LANE.margin);
    this.node = el('div', { class: 'lane' }, el('a', { href: hashOf(name), title: name }, name), this.chart.svg);
  }

  update(stream, scale) {
    Object.assign(this, { stream, scale });
    this.chart.update();
  }

  draw(chart) {
    const { from, to } = store.plan;
    const now = store.snapshot.run_time;
    Object.assign(chart, { from, to });
    for (const segment of this.stream.segments.flatMap((one) => cutAt(one, now))) {
      const inference = this.block(chart, segment, 'inference', 0);
      this.block(chart, segment, 'training', inference);
    }
    for (const run of this.stream.retrainings) this.run(chart, run, now);
    chart.put('path', { class: 'now', d: `M${chart.x(now).toFixed(1)} 0V${LANE.height}` });
    chart.label(`Plan of ${this.name}: ${this.words(now)}`);
    const { pointed } = chart;
    if (pointed !== null) say(byId('plan-note'), `${this.name} at ${clock(pointed)}: ${this.words(pointed)}`);
  }

  block(chart, segment, kind, below) {
    const height = (segment[kind] / this.scale) * LANE.shares;
    const x = chart.x(segment.from);
    const place = { x, y: LANE.shares - below - height, width: Math.max(0, chart.x(segment.to) - x), height };
    chart.put('rect', { class: `${kind}${segment.planned ? ' planned' : ''}`, ...place });
    return below + height;
  }

  run(chart, { from, to, outcome }, now) {
    const x = chart.x(from);
    const width = Math.max(3, chart.x(to ?? store.plan.to) - x - 1);
    const ahead = outcome === 'running' && (to ?? Infinity) > now;
    chart.put('rect', { class: `run${ahead ? ' ahead' : ''}`, x, y: LANE.shares + 1.5, width, height: 13 });
    if (width > 52) chart.put('text', { class: 'word', x: x + 4, y: LANE.shares + 12 }, outcome);
  }

  words(time) {
    const within = ({ from, to }) => from <= time && time < (to ?? Infinity);
    const segment = this.stream.segments.find(within);
    const run = this.stream.retrainings.find(within);
    const shares = segment ? segmentWords(segment) : 'nothing granted';
    if (!run) return shares;
    return `${shares}; retraining with ${run.configuration}: ${run.outcome}${run.on ? ` on ${run.on}` : ''}`;
  }
}

const segmentWords = ({ inference, training, planned }) =>
  `inference ${share(inference)}, training ${share(training)}${planned ? ', planned' : ''}`;

/** The plan is asked for every few seconds; what was planned then has become the past since. */
function cutAt(segment, now) {
  const { from, to, planned } = segment;
  if (!planned || now <= from) return [segment];
  return [{ ...segment, to: Math.min(now, to), planned: false }, { ...segment, from: Math.min(now, to) }];
}

class Plan {
  constructor() {
    this.lanes = new Map();
    this.all = false;
    this.axis = new Chart(18, (chart) => this.drawAxis(chart), LANE.margin);
    this.more = el('button', { type: 'button', class: 'more' });
    this.more.addEventListener('click', () => {
      this.all = !this.all;
      this.update();
    });
    this.list = byId('lanes');
    // The note tells what is pointed at, and the rule of the drawing otherwise.
    this.list.addEventListener('pointerleave', () => this.tellScale());
  }

  drawAxis(chart) {
    const { from, to } = store.plan;
    Object.assign(chart, { from, to });
    const text = (look, time, words) => chart.put('text', { class: look, x: chart.x(time), y: 12 }, words);
    text('', from, clock(from));
    text('end', to, clock(to));
    const now = Math.min(Math.max(store.snapshot.run_time, from), to);
    const crowded = Math.min(now - from, to - now) / (to - from || 1) * chart.width < 60;
    text('middle word', now, crowded ? '' : `now ${clock(now)}`);
  }

  update() {
    const { plan } = store;
    if (!plan) return;
    const wanted = plan.streams.filter(({ name }) => cards.wants(name));
    const streams = this.all ? wanted : wanted.slice(0, LANES_FOLDED);
    const names = streams.map(({ name }) => name);
    if (names.join('\n') !== [...this.lanes.keys()].join('\n')) this.layOut(names);
    this.more.hidden = wanted.length <= LANES_FOLDED;
    say(this.more, this.all ? `Show the first ${LANES_FOLDED} streams only` : `Show all ${wanted.length} streams`);
    const segments = plan.streams.flatMap((stream) => stream.segments);
    this.scale = roundScale(segments.reduce((most, one) => Math.max(most, one.inference + one.training), 0));
    this.axis.update();
    for (const stream of streams) this.lanes.get(stream.name).update(stream, this.scale);
    if (!this.list.matches(':hover')) this.tellScale();
  }

  layOut(names) {
    this.lanes = new Map(names.map((name) => [name, this.lanes.get(name) ?? new Lane(name)]));
    const axis = el('div', { class: 'lane' }, el('span', { class: 'soft' }, 'time'), this.axis.svg);
    this.list.replaceChildren(axis, ...[...this.lanes.values()].map(({ node }) => node), this.more);
  }

  tellScale() {
    say(byId('plan-note'), `Height of a lane: ${scaleWords(this.scale)}. Times since the run began.`);
  }

  tellError({ message }) {
    if (!store.plan) this.list.replaceChildren(el('p', { class: 'empty' }, message));
  }
}

// The site.

function drawNodes(answer, error) {
  const entries = Object.entries(answer?.nodes ?? {});
  say(byId('site-note'), error ? `The nodes could not be asked: ${error.message}` : countOf(entries.length, 'node'));
  if (error) return;
  const list = byId('node-list');
  const fresh = el('div', {}, ...entries.map(([name, node]) => nodePanel(name, node)));
  if (list.textContent !== fresh.textContent) list.replaceChildren(...fresh.children);
}

function nodePanel(name, node) {
  const title = el('h3', {}, name === store.snapshot.node.name ? `${name} (this node)` : name);
  if (known(node.silent)) {
    const why = el('p', { class: 'failure' }, `Silent: ${node.silent}`);
    return el('article', { class: 'panel card', 'data-state': 'failed' }, title, why);
  }
  const leader = node.leader?.name ?? node.leader;
  const follows = [node.address, leader ? `follows ${leader}` : 'plans for itself', node.draining && 'draining'];
  const lines = node.streams.map((stream) => el('li', {}, siteStreamWords(stream)));
  return el('article', { class: 'panel card' }, title, el('p', { class: 'soft' }, follows.filter(Boolean).join(', ')),
    el('div', { class: 'devices' }, ...node.devices.flatMap(siteDevice)), el('ul', {}, ...lines));
}

function siteDevice({ name, jobs }) {
  const bar = new PairedBar('other');
  bar.set(total(jobs, 'granted'), total(jobs, 'used'), 1);
  const words = `granted ${share(total(jobs, 'granted'))}, used ${share(total(jobs, 'used'))}`;
  return [el('span', {}, name), bar.node, el('span', {}, words)];
}

function siteStreamWords({ name, device, accuracy, retrains, trained_on: place }) {
  const training = place ? `, retraining on ${place.device} of ${place.node}` : ', retraining';
  return `${name} on ${device}: ${percent(accuracy)}${retrains ? training : ''}`;
}

// Drawing, and which page is shown.

const cards = new Cards(store);
const detail = new Detail(store, ask);
const plan = new Plan();
let asked = false;

function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    if (store.snapshot) drawAll(store.snapshot);
  });
}

function drawAll(snapshot) {
  drawHeader(snapshot);
  drawLink();
  const alone = snapshot.node.name === null;
  byId('site').hidden = alone;
  byId('to-site').hidden = alone;
  if (detail.summary) return detail.update();
  drawDevices(snapshot);
  cards.update();
  plan.update();
}

/** Name of the stream that the address asks for, or null. */
function wantedStream() {
  const [, name] = location.hash.match(/^#stream\/(.+)$/) ?? [];
  try {
    return name ? decodeURIComponent(name) : null;
  } catch {
    return null;
  }
}

function route() {
  const name = wantedStream();
  const left = detail.summary && detail.name;
  byId('overview').hidden = name !== null;
  if (name !== null) return detail.open(name);
  detail.close();
  if (store.snapshot) drawAll(store.snapshot);
  if (left && ['', '#streams'].includes(location.hash)) return cards.focus(left);
  // Cards get their height only when they come into view, so that the first jump may miss.
  const jump = () => byId(location.hash.slice(1))?.scrollIntoView();
  [0, 100, 300].forEach((wait) => setTimeout(jump, wait));
}

/** In the page of a stream, the way past the header leads to that stream. */
function skip(event) {
  event.preventDefault();
  (detail.title?.isConnected ? detail.title : byId('streams')).focus();
}

function drawLegends() {
  const kind = (name) => key(name, `area ${name}`, KEY.box);
  byId('kinds').append(...KINDS.map(kind), key('granted', 'granted', KEY.line));
  const words = ['lighter: planned', 'bar below: a retraining'].map((text) => el('li', {}, text));
  byId('plan-legend').append(kind('inference'), kind('training'), ...words);
  byId('accuracy-legend').replaceWith(accuracyLegend());
}

byId('about').replaceWith(about.node);
document.querySelector('.skip').addEventListener('click', skip);
addEventListener('hashchange', route);
document.addEventListener('visibilitychange', draw);
drawLegends();
route();
listen();
loadHistory();
poll(byId('plan'), PLAN_SECONDS, 'api/v1/plan', (answer, error) => {
  if (error) return plan.tellError(error);
  store.plan = answer;
  draw();
});
poll(byId('site'), NODES_SECONDS, 'api/v1/nodes', drawNodes);
