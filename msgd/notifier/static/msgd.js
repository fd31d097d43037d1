// @ts-self-types="./msgd.d.ts"
/**
 * The browser's client of msgd: events with cursors, a line that mends itself, and an outbox. One ES module without
 * dependencies, for pages and module workers; `msgd.d.ts` has its types, `docs/javascript.rst` tells how to use it.
 *
 *     import { Connection } from "/msgd.js";
 *     const msgd = new Connection();
 *     msgd.subscribe("room.kitchen", { since: "0", onEvent: (event) => console.log(event.data) });
 *
 * How it is built. A `Connection` is what a page holds. Its `Line` reaches the server over the best transport that
 * works (`WebSocketTransport`, `EventStreamTransport`, `LongPollTransport`) or through another tab (`Sharing`), and has
 * one `Channel` for each topic watched. A `Member` of a channel has a cursor of its own, and lets nothing pass that
 * does not lie after it: so whatever is lost, repeated or taken over, each kept event is shown once and in order. What
 * a member does with an event is its sink's: a `Delivery` to the page, or to another tab.
 *
 * @typedef {import("./msgd.d.ts").MsgdEvent} MsgdEvent
 * @typedef {import("./msgd.d.ts").Gap} Gap
 */

const FIRST_WAIT_MS = 500; // a server that restarts is back in about a second
const LONGEST_WAIT_MS = 30_000; // nobody looks longer at a page that does nothing
const ANSWER_MS = 10_000; // for a handshake or an answer: the slowest networks take seconds
const SILENCE_MS = 45_000; // more than the server's heartbeat, which scripts see of streams and not of WebSockets
const SHORT_LIFE_MS = 5_000; // a WebSocket that ends sooner, some times in a row, is cut by something in between
const SHORT_LIVES = 3;
const FAILURES = 2; // of a transport that has worked before, until another one is tried
const UPGRADE_MS = 30_000; // until a better transport is tried again; doubled each time
const LONGEST_UPGRADE_MS = 600_000;
const FRAME_BYTES = 64 * 1024; // what the server takes in one message; more goes by HTTP
const WINDOW = 16; // of the outbox under way at once: half of what the server works on for a connection
const POLL_S = 25; // of a long-poll: below the 30 s after which the meanest proxies give up
const PAGE = 500; // events of history at once
const QUEUE = 1000; // events that wait for a slow reader; beyond, it reads on from its cursor when it has room
const TOPICS = 32; // in one request: the server's limit
const STREAMS = 4; // at once: as many topics as over a WebSocket, and two of a browser's six connections are left
const PRESENCE_MS = 15_000; // between two looks where presence is not pushed
const TOKEN_SPARE_MS = 30_000; // before its end a token is not begun with any more
const KEEP_MS = 250; // between two writes of a cursor to the storage
const OUTBOX = { count: 1000, bytes: 1024 * 1024, keep: false }; // storages hold 5 MiB

// -- words ------------------------------------------------------------------------------------------------------------

/** Codes of refusals that pass by themselves. */
const PASSING = new Set(["unavailable", "broker-unavailable", "broker-refused", "database-unavailable", "rate-limited"]);
const TOKEN_REFUSED = new Set(["unauthenticated", "token-expired"]);

/** What the server refuses, by its code; `retryAfter` (seconds) where it says when to come again. */
export class MsgdError extends Error {
  constructor({ code = "", message = "", where = "", retry_after = undefined, status = 0 } = {}) {
    super(message || code);
    this.name = "MsgdError";
    this.code = code;
    this.where = where;
    this.retryAfter = retry_after;
    this.status = status;
  }

  /** Whether the same may be granted later. */
  get retryable() {
    return this.retryAfter !== undefined || PASSING.has(this.code);
  }
}

const unavailable = (message) => new MsgdError({ code: "unavailable", message });

function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  // Pages without TLS have no randomUUID.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Whether an event at `cursor` lies after `place`; cursors of different lives of the journal have no order. */
function isAfter(cursor, place) {
  if (place === undefined || place === "0" || cursor === "0") return cursor !== "0";
  const [one, other] = [cursor, place].map((text) => text.lastIndexOf("-"));
  return cursor.slice(0, one) !== place.slice(0, other) || Number(cursor.slice(one + 1)) > Number(place.slice(other + 1));
}

/** The one of two cursors from which nothing of either is missed. */
const earlier = (one, other) => (one === undefined || isAfter(one, other) ? other : one);

/** Whether a topic is of a pattern, in which `*` is one word and `#` any number. */
function matches(pattern, topic) {
  const [wanted, words] = [pattern.split("."), topic.split(".")];
  const match = (at, word) => {
    if (at === wanted.length) return word === words.length;
    if (wanted[at] === "#") return match(at + 1, word) || (word < words.length && match(at, word + 1));
    return word < words.length && (wanted[at] === "*" || wanted[at] === words[word]) && match(at + 1, word + 1);
  };
  return pattern === topic || match(0, 0);
}

/** What a token says of itself; nothing if it is of no form that we know. */
function claims(token) {
  try {
    return JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
  } catch {
    return {};
  }
}

/** Call what is not ours: its errors go to the console, not to us. */
function tell(callback, value) {
  try {
    callback?.(value);
  } catch (error) {
    globalThis.reportError(error);
  }
}

/** Exponential, with full jitter: a restarted server is not met by everybody at once. */
class Backoff {
  constructor(random) {
    this.random = random;
    this.attempt = 0;
  }

  next() {
    const ceiling = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.attempt);
    this.attempt += 1;
    return ceiling * this.random();
  }

  reset() {
    this.attempt = 0;
  }
}

// -- who and how ------------------------------------------------------------------------------------------------------

/** A file, or what a command printed, ends with a line break. */
function trimmed(token) {
  return typeof token === "string" ? token.trim() : token;
}

/** The token, asked for anew when it nears its end or was refused. */
class Credentials {
  constructor(source) {
    this.source = source;
    this.token = undefined;
    this.goodUntil = 0;
    this.asking = null;
  }

  get renewable() {
    return typeof this.source === "function";
  }

  /** A token that is good for a while; undefined where the page's cookie counts. */
  async get() {
    if (!this.renewable) return trimmed(this.source);
    if (this.token === undefined || Date.now() > this.goodUntil) {
      this.asking ??= this.ask().finally(() => (this.asking = null));
      this.token = await this.asking;
      this.goodUntil = (claims(this.token).exp ?? Infinity) * 1000 - TOKEN_SPARE_MS;
    }
    return this.token;
  }

  async ask() {
    try {
      return trimmed(await this.source());
    } catch (error) {
      throw unavailable(`no token could be had: ${error?.message ?? error}`);
    }
  }

  forget() {
    this.token = undefined;
  }
}

/** Requests to the server's API. */
class Http {
  constructor(base, credentials) {
    this.base = base;
    this.credentials = credentials;
  }

  /**
   * What `read` makes of an answer that is no refusal, within `ms`. Throws MsgdError; with `down` if the server cannot be
   * reached at all.
   */
  async request(method, path, read, options = {}) {
    const { query = {}, body = undefined, accept = "application/json", signal = undefined, ms = ANSWER_MS } = options;
    const url = new URL(path, this.base);
    for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, String(value));
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), ms);
    const stop = () => late.abort();
    signal?.addEventListener("abort", stop);
    if (signal?.aborted) stop();
    try {
      const response = await this.send(url, method, body, accept, late.signal);
      if (response.ok) return await read(response);
      throw await refusal(response);
    } catch (error) {
      if (error instanceof MsgdError) throw error;
      const down = !late.signal.aborted;
      throw Object.assign(unavailable(down ? "the server cannot be reached" : "no answer came"), { down });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
    }
  }

  async send(url, method, body, accept, signal, again = true) {
    const token = await this.credentials.get();
    const headers = { accept };
    if (token !== undefined) headers.authorization = `Bearer ${token}`;
    if (body !== undefined) headers["content-type"] = "application/json";
    const response = await fetch(url, { method, headers, body: body && JSON.stringify(body), signal, cache: "no-store" });
    if (response.status !== 401 || !again || !this.credentials.renewable) return response;
    this.credentials.forget();
    return this.send(url, method, body, accept, signal, false);
  }

  json(method, path, options) {
    return this.request(method, path, (response) => (response.status === 204 ? {} : response.json()), options);
  }

  /** A page of history, or where "now" is if `since` is undefined. */
  page(topics, since) {
    return this.json("GET", "api/events", { query: { topics, since, limit: since === undefined ? 1 : PAGE } });
  }

  /** The job of a job's topic, as it is now. */
  async job(topic) {
    const [, id] = /^job\.([\w-]+)$/.exec(topic) ?? [];
    return id && this.json("GET", `api/jobs/${id}`);
  }
}

/** What a problem document says; proxies in between send pages of their own. */
async function refusal(response) {
  const found = await response.json().catch(() => ({}));
  const passing = response.status === 429 || response.status >= 500;
  const seconds = Number(response.headers.get("retry-after") ?? NaN);
  return new MsgdError({
    code: found.code ?? (passing ? "unavailable" : `http-${response.status}`),
    message: found.detail ?? `${response.status} ${response.statusText}`,
    where: found.where,
    retry_after: passing && seconds >= 0 ? seconds : undefined,
    status: response.status,
  });
}

/** An operation of `msgd.v1` as a request. */
function asRequest({ op, ref, topic, job, ...rest }) {
  const at = (name) => encodeURIComponent(name);
  switch (op) {
    case "publish": return ["POST", "api/events", { body: { topic, ...rest } }];
    case "submit": return ["POST", "api/jobs", { body: rest }];
    case "cancel": return ["DELETE", `api/jobs/${at(job)}`];
    case "presence": return ["GET", `api/topics/${at(topic)}/presence`];
    case "typing": return ["POST", `api/topics/${at(topic)}/typing`];
    case "ping": return ["GET", "api/session"];
    default: throw new MsgdError({ code: "invalid", message: `${op} takes a WebSocket`, where: "op" });
  }
}

// -- who watches ------------------------------------------------------------------------------------------------------

/** One who watches a topic: everything after its cursor goes to its sink, once and in order. */
class Member {
  /** `sink`: `event(event)`, false if it has no room; `gap`, `state`, `begun`, `advanced`, `presence`, `failed`. */
  constructor(channel, cursor, sink) {
    this.channel = channel;
    this.cursor = cursor;
    this.sink = sink;
    this.phase = "live"; // or "reading" history by itself, or "behind" a sink that is full
    this.held = []; // what came live while reading
    this.missed = false; // more came than could be held
  }

  hear(event) {
    if (this.phase === "live") this.take(event);
    else if (this.phase !== "reading" || event.cursor === null) return;
    else if (this.held.length < QUEUE) this.held.push(event);
    else this.missed = true;
  }

  /** False if the sink is full: this event will be read again. */
  take(event) {
    if (event.cursor !== null && !isAfter(event.cursor, this.cursor)) return true;
    if (this.sink.event(event)) {
      this.cursor = event.cursor ?? this.cursor;
    } else if (event.cursor !== null) {
      this.phase = "behind";
      this.channel.restIfNobodyKeepsUp();
      return false;
    }
    return true;
  }

  /** The sink has room again. */
  drained() {
    if (this.phase === "behind") this.readOn();
  }

  gap(gap) {
    if (gap.reason === "epoch" || gap.reason === "rewound") this.cursor = "0"; // the journal begins anew
    this.sink.gap(gap);
  }

  /** Nothing up to `cursor` is still to come. */
  advanced(cursor) {
    if (this.phase !== "live" || (this.cursor !== undefined && !isAfter(cursor, this.cursor))) return;
    this.cursor = cursor;
    this.sink.advanced(cursor);
  }

  /** Read from the cursor on by requests, until what comes live joins on. `anew`: nothing was told yet. */
  async readOn(anew = false) {
    this.phase = "reading";
    this.held = [];
    const { line, topic } = this.channel;
    for (let more = true; more;) {
      let page;
      try {
        const job = anew && (await line.http.job(topic));
        page = await line.http.page(topic, this.cursor);
        if (job) this.sink.state(job);
      } catch (error) {
        if (!this.channel.members.has(this)) return;
        if (!error.retryable) return this.channel.drop(this, error);
        await line.pause(error);
        continue;
      }
      if (!this.channel.members.has(this)) return undefined;
      if (anew) this.sink.begun(this.cursor ?? page.cursor);
      anew = false;
      more = this.cursor !== undefined && (page.more || this.missed);
      if (this.missed) this.held = [];
      this.missed = false;
      for (const gap of page.gaps ?? []) this.gap(gap);
      if (this.cursor !== undefined && !page.events.every((event) => this.take(event))) return undefined;
      this.cursor = page.cursor;
    }
    this.phase = "live";
    if (this.channel.resting) this.channel.goOn(this.cursor);
    this.held.splice(0).every((event) => this.take(event));
    return undefined;
  }
}

/** One topic or pattern on a line, and all who watch it there. */
class Channel {
  constructor(line, topic, cursor) {
    this.line = line;
    this.topic = topic;
    this.cursor = cursor; // up to where the line has heard it
    this.begunAt = undefined;
    this.resting = false; // not heard for now: all its members read by themselves
    this.goingOn = false;
    /** @type {Set<Member>} */
    this.members = new Set();
  }

  /** Whether anybody listens. */
  get heard() {
    return this.members.size > 0 && !this.resting;
  }

  get wantsPresence() {
    return [...this.members].some((member) => member.sink.wantsPresence);
  }

  /** The server has granted it. */
  begun(cursor) {
    this.cursor ??= cursor;
    this.begunAt = cursor;
    for (const member of this.members) {
      if (member.phase !== "live" || this.goingOn) continue;
      member.cursor ??= cursor;
      member.sink.begun(cursor);
    }
    this.goingOn = false;
    if (this.wantsPresence) this.line.watchPresence(this);
  }

  hear(event) {
    if (event.cursor !== null) {
      if (!isAfter(event.cursor, this.cursor)) return;
      this.cursor = event.cursor;
    }
    for (const member of [...this.members]) member.hear(event);
  }

  gap(gap) {
    if (gap.reason === "epoch" || gap.reason === "rewound") this.cursor = "0";
    for (const member of [...this.members]) if (member.phase === "live") member.gap(gap);
  }

  state(job) {
    for (const member of [...this.members]) member.sink.state(job);
  }

  presence(presence) {
    for (const member of [...this.members]) member.sink.presence(presence);
  }

  advanced(cursor) {
    if (this.cursor !== undefined && !isAfter(cursor, this.cursor)) return;
    this.cursor = cursor;
    for (const member of [...this.members]) member.advanced(cursor);
  }

  /** What comes is not taken: have the server send no more. */
  restIfNobodyKeepsUp() {
    if (this.resting || this.members.size === 0 || [...this.members].some((member) => member.phase === "live")) return;
    this.resting = true;
    this.line.unhear(this);
  }

  /** One keeps up again, from here on. */
  goOn(cursor) {
    this.resting = false;
    this.goingOn = true;
    this.cursor = cursor;
    this.line.hear(this);
  }

  /** The server refuses it. */
  failed(error) {
    for (const member of [...this.members]) this.drop(member, error);
  }

  drop(member, error) {
    this.line.leave(member);
    member.sink.failed(error);
  }
}

// -- transports -------------------------------------------------------------------------------------------------------
//
// A transport is opened once. It calls `line.opened` or `line.lost`, and after the former, `line.lost` at most once;
// what it hears it gives to the channels that it was told to `subscribe`.

/** `msgd.v1` over a WebSocket. */
class WebSocketTransport {
  static kind = "websocket";
  window = WINDOW;

  constructor(line) {
    this.line = line;
    this.socket = null;
    this.ended = false;
    this.ref = 0;
    this.waiting = new Map(); // questions by ref
    this.channels = new Map(); // those that have begun, by topic
    this.timers = new Set();
    this.silence = 0;
    this.retryAfter = undefined; // seconds: when to come again, if the server has said why it will close
  }

  async open() {
    try {
      const token = await this.line.credentials.get();
      if (this.ended) return;
      this.watchSilence(ANSWER_MS);
      const socket = new WebSocket(new URL("ws", this.line.base).href.replace(/^http/, "ws"), ["msgd.v1"]);
      this.socket = socket;
      socket.onopen = () => token !== undefined && this.say({ op: "hello", token });
      socket.onmessage = (message) => this.hear(JSON.parse(message.data));
      socket.onclose = (event) => this.end(event);
    } catch (error) {
      this.end({ reason: String(error.message ?? error) });
    }
  }

  close() {
    if (this.ended) return;
    this.ended = true;
    clearTimeout(this.silence);
    for (const timer of this.timers) clearTimeout(timer);
    if (this.socket) {
      this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
      this.socket.close(1000);
    }
    for (const one of this.waiting.values()) one.reject(unavailable("the connection was lost before the answer came"));
  }

  end({ code = 1006, reason = "" }) {
    if (this.ended) return;
    this.close();
    this.line.lost(this, { code, reason, retryAfter: this.retryAfter });
  }

  /** A half-open connection says nothing: ask, and give it up if there is no answer. */
  watchSilence(ms = SILENCE_MS) {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => {
      if (ms === ANSWER_MS) this.end({ reason: "no answer" });
      else this.check();
    }, ms);
  }

  check() {
    this.ask({ op: "ping" }).catch(() => {});
    this.watchSilence(ANSWER_MS);
  }

  hear(message) {
    this.watchSilence(message.op === "welcome" || this.line.transport === this ? SILENCE_MS : ANSWER_MS);
    const channel = this.channels.get(message.subscription ?? message.topic);
    const asked = this.waiting.get(message.ref);
    if (message.ref !== undefined) this.waiting.delete(message.ref);
    switch (message.op) {
      case "event": return channel?.hear(message);
      case "welcome": return this.line.opened(this, message);
      case "gap": return channel?.gap(message);
      case "state": return channel?.state(message.job);
      case "presence": return asked ? asked.resolve(message) : channel?.presence(message);
      case "subscribed":
        if (asked?.channel.heard) {
          this.channels.set(message.topic, asked.channel);
          asked.channel.begun(message.cursor);
        }
        return asked?.resolve(message);
      case "expiring": return this.renew();
      case "drain": return this.line.advise(message.reconnect_in);
      case "ok": return asked?.resolve(message);
      case "error":
        if (message.ref === undefined) this.retryAfter = message.retry_after;
        return asked?.reject(new MsgdError(message));
      default: return undefined; // of a later version
    }
  }

  async renew() {
    try {
      const token = await this.line.renewed();
      if (token !== undefined) await this.ask({ op: "token", token });
    } catch {
      // The server closes what has no good token, and says so.
    }
  }

  subscribe(channel) {
    const { topic, cursor } = channel;
    this.ask({ op: "subscribe", topic, since: cursor }, channel).catch((error) => {
      if (this.ended || !channel.heard) return;
      if (!error.retryable) return channel.failed(error);
      const timer = setTimeout(() => {
        this.timers.delete(timer);
        if (channel.heard) this.subscribe(channel);
      }, this.line.patience(error));
      this.timers.add(timer);
    });
  }

  unsubscribe(channel) {
    if (this.channels.get(channel.topic) === channel) this.channels.delete(channel.topic);
    this.ask({ op: "unsubscribe", topic: channel.topic }).catch(() => {});
  }

  /** Ask once; what changes is pushed. */
  presence(channel) {
    this.ask({ op: "presence", topic: channel.topic }).then((found) => channel.presence(found), () => {});
  }

  ask(operation, channel = undefined) {
    if (this.ended || this.socket?.readyState !== 1) return Promise.reject(unavailable("there is no connection now"));
    const ref = (this.ref += 1);
    const text = JSON.stringify({ ...operation, ref });
    // A character has three bytes at most.
    if (text.length * 3 > FRAME_BYTES && new TextEncoder().encode(text).length > FRAME_BYTES) return this.line.request(operation);
    return new Promise((resolve, reject) => {
      this.waiting.set(ref, { resolve, reject, channel });
      this.socket.send(text);
    });
  }

  say(operation) {
    this.socket.send(JSON.stringify(operation));
  }
}

/**
 * One request after the other, each answered when there is something. Topics are read up to now, each from its own
 * cursor, then heard together. Transient events do not come this way.
 */
class LongPollTransport {
  static kind = "longpoll";
  window = 1; // one request after the other keeps their order

  constructor(line) {
    this.line = line;
    this.ended = false;
    this.stop = new AbortController();
    this.fresh = new Set(); // channels still to be read up to now
    this.streams = []; // {channels, cursor}: those that are heard together, from one cursor on
    this.watched = new Map(); // timers of presence by channel
  }

  async open() {
    try {
      const session = await this.line.http.json("GET", "api/session");
      if (this.ended) return;
      if (session.sub === null) return this.end({ code: 4101, reason: "there is no good token" });
      this.line.opened(this, session);
      await this.run();
    } catch (error) {
      const { status, message: reason, retryAfter, unfit, down } = error;
      this.end({ code: status === 401 ? 4101 : 1006, reason, retryAfter, unfit, down });
    }
  }

  close() {
    this.ended = true;
    this.stop.abort();
    for (const timer of this.watched.values()) clearTimeout(timer);
    this.watched.clear();
  }

  end(why) {
    if (this.ended) return;
    this.close();
    this.line.lost(this, why);
  }

  /** Nothing: every request shows whether the server is there. */
  check() {}

  subscribe(channel) {
    this.fresh.add(channel);
    this.stop.abort();
  }

  unsubscribe(channel) {
    this.fresh.delete(channel);
    clearTimeout(this.watched.get(channel));
    this.watched.delete(channel);
    for (const { channels } of this.streams) if (channels.delete(channel) && channels.size === 0) this.stop.abort();
  }

  async presence(channel) {
    clearTimeout(this.watched.get(channel));
    this.watched.set(channel, setTimeout(() => this.presence(channel), PRESENCE_MS));
    const found = await this.ask({ op: "presence", topic: channel.topic }).catch(() => null);
    if (found && this.watched.has(channel)) channel.presence(found);
  }

  ask(operation) {
    return this.line.request(operation);
  }

  async run() {
    while (!this.ended) {
      this.stop = new AbortController();
      const { signal } = this.stop;
      this.streams = this.streams.filter(({ channels }) => channels.size > 0);
      await this.admit();
      await Promise.all(this.streams.map((stream) => this.listen(stream, signal)));
      if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve));
    }
  }

  /** Hear those of a stream, until `signal`. */
  async listen(stream, signal) {
    while (!signal.aborted) {
      const query = { topics: named(stream.channels), since: stream.cursor, wait: POLL_S, limit: PAGE };
      try {
        const page = await this.line.http.json("GET", "api/events", { query, signal, ms: POLL_S * 1000 + ANSWER_MS });
        if (signal.aborted) return;
        stream.cursor = page.cursor;
        this.show([...stream.channels], page);
      } catch (error) {
        if (!signal.aborted) throw error;
      }
    }
  }

  /** Let the fresh ones join. */
  async admit() {
    if (this.fresh.size === 0) return;
    for (const stream of this.streams) stream.cursor = await this.read([...stream.channels], stream.cursor);
    const groups = new Map(); // those that stand at one cursor are read in one go
    for (const channel of this.fresh) groups.set(channel.cursor, [...(groups.get(channel.cursor) ?? []), channel]);
    this.fresh.clear();
    for (const group of groups.values()) {
      while (group.length > 0) await this.admitGroup(group.splice(0, TOPICS));
    }
  }

  async admitGroup(group) {
    try {
      const cursor = await this.read(group, group[0].cursor, (page) => this.begin(group, page));
      for (const channel of group) if (channel.heard) this.place(channel, cursor);
    } catch (error) {
      if (!(error instanceof MsgdError) || error.retryable || error.status === 401) throw error;
      if (group.length === 1) group[0].failed(error);
      else for (const channel of group) await this.admitGroup([channel]);
    }
  }

  /** Find room in a stream. */
  place(channel, cursor) {
    let stream = this.streams.find(({ channels }) => channels.size < TOPICS);
    if (!stream && this.streams.length < STREAMS) this.streams.push((stream = { channels: new Set(), cursor }));
    if (!stream) {
      const message = `a connection has at most ${TOPICS * STREAMS} topics: use a pattern`;
      channel.failed(new MsgdError({ code: "overloaded", message, where: "topic" }));
      return;
    }
    stream.channels.add(channel);
    stream.cursor = earlier(stream.cursor, cursor);
  }

  async begin(group, page) {
    for (const channel of group) {
      const job = await this.line.http.job(channel.topic);
      if (this.ended || !channel.heard) continue;
      channel.begun(channel.cursor ?? page.cursor);
      if (job) channel.state(job);
    }
  }

  /** Page through what lies after `since`; returns the cursor of where "now" is. */
  async read(channels, since, first = undefined) {
    for (let cursor = since; ; first = undefined) {
      const page = await this.line.http.page(named(channels), cursor);
      await first?.(page);
      if (this.ended) return page.cursor;
      if (cursor !== undefined) this.show(channels, page);
      if (cursor === undefined || !page.more) return page.cursor;
      cursor = page.cursor;
    }
  }

  show(channels, { events, gaps = [], cursor }) {
    for (const gap of gaps) this.showGap(channels, gap);
    for (const event of events) for (const one of channels) if (matches(one.topic, event.topic)) one.hear(event);
    for (const channel of channels) channel.advanced(cursor);
  }

  showGap(channels, gap) {
    const meant = channels.filter(({ topic }) => [gap.topic, gap.subscription].includes(topic) || matches(topic, gap.topic));
    for (const channel of meant.length ? meant : channels) channel.gap(gap);
  }
}

/** The same, heard by server-sent events. By `fetch`: an `EventSource` cannot send a token. */
class EventStreamTransport extends LongPollTransport {
  static kind = "sse";

  async listen(stream, signal) {
    const over = new AbortController(); // told to stop, or nothing is heard any more
    const stop = () => over.abort();
    signal.addEventListener("abort", stop);
    let silence = 0;
    const heard = (ms) => {
      clearTimeout(silence);
      silence = setTimeout(stop, ms);
    };
    let came = false;
    try {
      const query = { topics: named(stream.channels), since: stream.cursor };
      const options = { query, accept: "text/event-stream", signal: over.signal };
      const response = await this.line.http.request("GET", "api/events", (answer) => answer, options);
      if (!response.headers.get("content-type")?.startsWith("text/event-stream")) throw unavailable("this is no event stream");
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      over.signal.addEventListener("abort", () => reader.cancel().catch(() => {}));
      if (signal.aborted) return;
      heard(ANSWER_MS); // the server says something at once: what does not come is held back in between
      for (let rest = "", part = await reader.read(); !part.done; part = await reader.read()) {
        came = true;
        heard(SILENCE_MS);
        const messages = (rest + part.value).split(/\r?\n\r?\n/);
        rest = messages.pop();
        for (const message of messages) this.hear(stream, message);
      }
      throw unavailable("the stream has ended");
    } catch (error) {
      if (signal.aborted) return;
      const refused = error.status === 401 || error.status === 429 || error.status >= 500;
      throw came || refused ? error : Object.assign(unavailable(error.message), { unfit: true });
    } finally {
      clearTimeout(silence);
      signal.removeEventListener("abort", stop);
      stop();
    }
  }

  hear(stream, text) {
    const fields = { event: "", data: "", id: undefined };
    for (const line of text.split(/\r?\n/)) {
      const [, name, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
      if (name === "data" && fields.data) fields.data += `\n${value}`;
      else if (name) fields[name] = value;
    }
    const channels = [...stream.channels];
    const message = fields.data ? JSON.parse(fields.data) : {};
    switch (fields.event) {
      case "":
        if (fields.data) for (const one of channels) if (matches(one.topic, message.topic)) one.hear(message);
        break;
      case "gap": this.showGap(channels, message); break;
      case "state": channels.find(({ topic }) => topic === message.topic)?.state(message.job); break;
      case "presence": channels.find(({ topic }) => topic === message.topic)?.presence(message); break;
      case "expiring": this.line.renewed().then((token) => token !== undefined && this.stop.abort(), () => {}); break;
      case "expired": this.end({ code: 4101, reason: "the token has expired" }); break;
      case "close": this.end(message); break;
      case "drain": this.line.advise(message.reconnect_in); break;
      default: // of a later version
    }
    if (fields.id) {
      stream.cursor = fields.id;
      for (const channel of channels) channel.advanced(fields.id);
    }
  }
}

const named = (channels) => Array.from(channels, (channel) => channel.topic).join();

const KINDS = new Map([WebSocketTransport, EventStreamTransport, LongPollTransport].map((one) => [one.kind, one]));

// -- one line for several tabs ----------------------------------------------------------------------------------------
//
// The tab that holds a lock leads: it has the line, and a `Hub` to which the others speak `msgd.v1` over a
// BroadcastChannel. To them the leader is one more transport: if its tab is closed, the next one gets the lock, and all
// subscribe there from their own cursors.

/** In a tab that follows: the way to the leader. */
class SharedTransport {
  static kind = "shared";
  window = WINDOW;

  constructor(line, post) {
    this.line = line;
    this.post = post;
    this.ended = false;
    this.attached = false;
    this.ref = 0;
    this.waiting = new Map();
    this.channels = new Map();
    this.timer = 0;
  }

  open() {
    this.timer = setTimeout(() => this.end(), ANSWER_MS);
    this.post({ op: "attach" });
  }

  close() {
    if (this.ended) return;
    this.ended = true;
    clearTimeout(this.timer);
    if (this.attached) this.post({ op: "detach" });
    this.rejectAll();
  }

  end() {
    if (this.ended) return;
    this.close();
    this.line.lost(this, { reason: "no tab answers that holds the connection" });
  }

  rejectAll() {
    for (const one of this.waiting.values()) one.reject(unavailable("the connection was lost before the answer came"));
    this.waiting.clear();
  }

  check() {}

  hear(message) {
    const channel = this.channels.get(message.subscription);
    const asked = this.waiting.get(message.ref);
    if (message.ref !== undefined) this.waiting.delete(message.ref);
    switch (message.op) {
      case "status": return this.mirror(message.detail);
      case "event": return channel?.hear(message.event);
      case "gap": return channel?.gap(message.gap);
      case "state": return channel?.state(message.job);
      case "presence": return channel?.presence(message.presence);
      case "advanced": return channel?.advanced(message.cursor);
      case "subscribed": return channel?.begun(message.cursor);
      case "failed": return channel?.failed(new MsgdError(message.error));
      case "ok": return asked?.resolve(message.answer);
      case "error": return asked?.reject(new MsgdError(message.error));
      default: return undefined;
    }
  }

  /** The leader's line is in this state, and so is ours. */
  mirror(detail) {
    clearTimeout(this.timer);
    if (detail.status !== "online") this.rejectAll();
    if (!this.attached && detail.status === "online") {
      this.attached = true;
      this.line.opened(this, detail);
    } else {
      this.line.setStatus(detail.status, { ...detail, shared: true });
    }
  }

  subscribe(channel) {
    const { topic, cursor, wantsPresence } = channel;
    this.channels.set(topic, channel);
    this.post({ op: "subscribe", topic, since: cursor, wantsPresence });
  }

  unsubscribe(channel) {
    this.channels.delete(channel.topic);
    this.post({ op: "unsubscribe", topic: channel.topic });
  }

  presence(channel) {
    this.post({ op: "watch", topic: channel.topic });
  }

  ask(operation) {
    if (this.ended || !this.attached) return Promise.reject(unavailable("there is no connection now"));
    const ref = (this.ref += 1);
    return new Promise((resolve, reject) => {
      this.waiting.set(ref, { resolve, reject });
      this.post({ ...operation, ref });
    });
  }
}

/** In the tab that leads: what the others ask for. */
class Hub {
  constructor(line, post) {
    this.line = line;
    this.post = post;
    this.tabs = new Map(); // by tab: its members by topic
  }

  hear(tab, { ref, ...operation }) {
    const { op, topic } = operation;
    const members = this.tabs.get(tab);
    switch (op) {
      case "attach":
        this.drop(tab);
        this.tabs.set(tab, new Map());
        return this.post(tab, { op: "status", detail: this.line.detail });
      case "detach": return this.drop(tab);
      case "subscribe": {
        if (!members) return undefined;
        this.leave(members, topic);
        const sink = this.sink(tab, topic, operation.wantsPresence);
        members.set(topic, this.line.join(topic, operation.since, sink));
        return undefined;
      }
      case "unsubscribe": return members && this.leave(members, topic);
      case "watch": return members?.has(topic) && this.watch(members.get(topic));
      default:
        return this.line.ask(operation).then(
          (answer) => this.post(tab, { op: "ok", ref, answer }),
          (error) => this.post(tab, { op: "error", ref, error: plain(error) }),
        );
    }
  }

  sink(tab, subscription, wantsPresence) {
    const say = (message) => this.post(tab, { ...message, subscription });
    return {
      wantsPresence,
      event: (event) => (say({ op: "event", event }), true),
      gap: (gap) => say({ op: "gap", gap }),
      state: (job) => say({ op: "state", job }),
      begun: (cursor) => say({ op: "subscribed", cursor }),
      advanced: (cursor) => say({ op: "advanced", cursor }),
      presence: (presence) => say({ op: "presence", presence }),
      failed: (error) => {
        this.tabs.get(tab)?.delete(subscription);
        say({ op: "failed", error: plain(error) });
      },
    };
  }

  watch(member) {
    if (member.sink.wantsPresence) return;
    member.sink.wantsPresence = true;
    this.line.watchPresence(member.channel);
  }

  leave(members, topic) {
    const member = members.get(topic);
    members.delete(topic);
    if (member) this.line.leave(member);
  }

  /** A tab is closed, or begins anew. */
  drop(tab) {
    const members = this.tabs.get(tab);
    this.tabs.delete(tab);
    for (const topic of [...(members?.keys() ?? [])]) this.leave(members, topic);
  }
}

const plain = ({ code, message, where, retryAfter, status }) => ({ code, message, where, retry_after: retryAfter, status });

/** Who leads: the tab that holds the lock of this server and principal. */
class Sharing {
  static get possible() {
    return Boolean(globalThis.navigator?.locks && globalThis.BroadcastChannel);
  }

  constructor(line, kinds) {
    this.line = line;
    this.kinds = kinds;
    this.tab = newId();
    this.end = new AbortController();
    this.release = () => {};
    this.hub = null;
  }

  /** Tabs share that speak to the same server for the same principal with the same rights. */
  async begin() {
    const { http, credentials, base } = this.line;
    const token = await credentials.get();
    const { sub, can = [] } = token === undefined ? await http.json("GET", "api/session") : claims(token);
    if (!sub) throw unavailable("nobody is known to share with");
    this.name = JSON.stringify(["msgd", base, token !== undefined, sub, [...can].sort()]);
    if (this.end.signal.aborted) return;
    this.channel = new BroadcastChannel(this.name);
    this.channel.onmessage = ({ data }) => this.hear(data);
    await this.hold(this.lockOf(this.tab));
    const released = () => new Promise((end) => (this.release = () => end(undefined)));
    navigator.locks.request(this.name, { ifAvailable: true }, (lock) => {
      if (this.end.signal.aborted) return undefined;
      if (lock) return this.lead(released());
      const shared = (line) => new SharedTransport(line, (message) => this.post("leader", message));
      this.line.use([{ kind: SharedTransport.kind, make: shared }, ...this.kinds]);
      const { signal } = this.end;
      return void navigator.locks.request(this.name, { signal }, () => this.lead(released())).catch(() => {});
    });
  }

  /** A lock of this tab's own: when another gets it, this tab is gone. */
  hold(name) {
    const { signal } = this.end;
    return new Promise((resolve) => {
      const ended = new Promise((end) => signal.addEventListener("abort", end));
      navigator.locks.request(name, { signal }, () => (resolve(undefined), ended)).catch(resolve);
    });
  }

  lockOf(tab) {
    return `${this.name}/${tab}`;
  }

  lead(released) {
    if (this.end.signal.aborted) return undefined;
    this.hub = new Hub(this.line, (tab, message) => this.post(tab, message));
    this.line.use(this.kinds);
    this.post("all", { op: "leader" });
    return released;
  }

  post(to, message) {
    if (!this.end.signal.aborted) this.channel.postMessage({ from: this.tab, to, message });
  }

  hear({ from, to, message }) {
    if (to === "leader") {
      if (message.op === "attach" && this.hub) this.watch(from);
      this.hub?.hear(from, message);
    } else if (to === "all" && message.op === "leader") {
      this.leader = from;
      this.line.use(this.line.kinds);
    } else if (to === this.tab || (to === "all" && from === (this.leader ??= from))) {
      for (const one of [this.line.transport, this.line.better]) if (one instanceof SharedTransport) one.hear(message);
    }
  }

  watch(tab) {
    const gone = () => this.hub?.drop(tab);
    if (!this.hub.tabs.has(tab)) navigator.locks.request(this.lockOf(tab), { signal: this.end.signal }, gone).catch(() => {});
  }

  /** The leader's line has another state. */
  told(detail) {
    if (this.hub && detail.status !== "closed") this.post("all", { op: "status", detail });
  }

  close() {
    this.end.abort();
    this.release();
    this.channel?.close();
  }
}

// -- the line ---------------------------------------------------------------------------------------------------------

/** The way to the server, whatever it is made of at the moment. */
class Line {
  /** `changed(detail)` is called with every status. */
  constructor({ base, credentials, random, upgradeAfter, changed, expiring }) {
    this.base = base;
    this.credentials = credentials;
    this.http = new Http(base, credentials);
    this.random = random;
    this.changed = changed;
    this.expiring = expiring;
    this.upgradeAfter = upgradeAfter;
    this.backoff = new Backoff(random);
    /** @type {Map<string, Channel>} */
    this.channels = new Map();
    this.detail = { status: "connecting" };
    this.kinds = [];
    this.index = 0; // of the kind in use
    this.worked = new Set();
    this.failures = 0; // of this kind, in a row
    this.shortLives = 0;
    this.transport = null;
    this.better = null; // one that is tried while another is in use
    this.advisedMs = null;
    this.renewedOnce = false;
    this.timer = 0;
    this.upgradeTimer = 0;
    this.openedAt = 0; // when the transport in use was; 0: not yet
    this.paused = []; // what goes on when it is online
  }

  get status() {
    return this.detail.status;
  }

  get online() {
    return this.status === "online";
  }

  setStatus(status, detail = {}) {
    this.detail = { ...detail, status };
    if (this.online) for (const go of this.paused.splice(0)) go();
    this.changed(this.detail);
  }

  /** Begin with these transports, the best first; begin anew if it had begun. */
  use(kinds) {
    if (this.status === "closed") return;
    this.kinds = kinds;
    this.index = 0;
    this.failures = 0;
    this.backoff.reset();
    this.drop();
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    if (this.status === "closed") return;
    this.drop();
    if (this.status !== "connecting") this.setStatus("connecting");
    this.openedAt = 0;
    this.transport = this.kinds[this.index].make(this);
    this.transport.open();
  }

  drop() {
    clearTimeout(this.upgradeTimer);
    this.better?.close();
    this.transport?.close();
    this.better = this.transport = null;
  }

  close() {
    this.setStatus("closed");
    clearTimeout(this.timer);
    this.drop();
  }

  // -- what transports tell --

  opened(transport, session) {
    if (transport === this.better) {
      this.better = null;
      this.transport.close();
      this.transport = transport;
      this.index = 0;
    }
    if (transport !== this.transport) return;
    const { kind } = this.kinds[this.index];
    this.worked.add(kind);
    this.failures = 0;
    this.renewedOnce = false;
    this.openedAt = Date.now();
    this.backoff.reset();
    for (const channel of this.channels.values()) if (!channel.resting) transport.subscribe(channel);
    this.setStatus("online", kind === SharedTransport.kind ? { ...session, shared: true } : { transport: kind, sub: session.sub });
    clearTimeout(this.upgradeTimer);
    if (this.index > 0) this.planUpgrade(this.upgradeAfter);
  }

  lost(transport, { code = 1006, reason = "", retryAfter = undefined, unfit = false, down = false }) {
    if (transport === this.better) {
      this.better = null;
      return;
    }
    if (transport !== this.transport) return;
    this.drop();
    if (code >= 4100 && code < 4200 && !this.mayRenew(code)) {
      this.setStatus("refused", { code, reason });
      return;
    }
    if (!down && this.isUnfit(code, unfit)) {
      this.index += 1;
      this.failures = 0;
      this.setStatus("connecting");
      this.open();
      return;
    }
    if (!this.openedAt) this.index = 0;
    this.wait({ code, reason, retryAfter });
  }

  /** Whether the next transport is to be tried rather than this one again. */
  isUnfit(code, unfit) {
    if (code >= 4000 && code < 4100) return false; // the server itself sends us away: this transport reaches it
    const cut = this.openedAt > 0 && code < 4000 && this.advisedMs === null;
    const short = cut && Date.now() - this.openedAt < SHORT_LIFE_MS;
    this.shortLives = short ? this.shortLives + 1 : 0;
    if (!this.openedAt) this.failures += 1;
    const patience = this.worked.has(this.kinds[this.index].kind) ? FAILURES : 0;
    const failed = unfit || this.shortLives >= SHORT_LIVES || this.failures > patience;
    return failed && this.index + 1 < this.kinds.length;
  }

  /** A token that was refused may have been an old one: once, a new one is tried. */
  mayRenew(code) {
    if (code !== 4101 || !this.credentials.renewable || this.renewedOnce) return false;
    this.renewedOnce = true;
    this.credentials.forget();
    return true;
  }

  wait({ code, reason, retryAfter }) {
    const ms = this.advisedMs ?? Math.max(this.backoff.next(), (retryAfter ?? 0) * 1000);
    this.advisedMs = null;
    this.timer = setTimeout(() => this.open(), ms);
    this.setStatus("waiting", { code, reason, retryAt: Date.now() + ms });
  }

  advise(seconds) {
    this.advisedMs = seconds * 1000;
  }

  /** A new token before the old one ends; undefined where there is none to be had by us. */
  async renewed() {
    if (!this.credentials.renewable) {
      this.expiring();
      return undefined;
    }
    this.credentials.forget();
    return this.credentials.get();
  }

  planUpgrade(ms) {
    clearTimeout(this.upgradeTimer);
    this.upgradeTimer = setTimeout(() => {
      this.tryUpgrade();
      this.planUpgrade(Math.min(ms * 2, Math.max(ms, LONGEST_UPGRADE_MS)));
    }, ms * (0.5 + this.random()));
  }

  tryUpgrade() {
    if (this.better || !this.online || this.index === 0) return;
    this.better = this.kinds[0].make(this);
    this.better.open();
  }

  /** The network has come or gone, or the page is looked at again: do not sit out the wait, and do not trust it. */
  wake() {
    if (globalThis.document?.visibilityState === "hidden") return;
    if (this.status === "waiting" && !(this.transport instanceof SharedTransport)) {
      clearTimeout(this.timer);
      const ms = Math.max(0, Math.min(FIRST_WAIT_MS * this.random(), this.detail.retryAt - Date.now()));
      this.timer = setTimeout(() => this.open(), ms);
    } else if (this.online) {
      this.transport.check();
      this.tryUpgrade();
    }
  }

  // -- what is asked of it --

  join(topic, cursor, sink) {
    const known = this.channels.get(topic);
    const channel = known ?? new Channel(this, topic, cursor);
    const member = new Member(channel, cursor, sink);
    channel.members.add(member);
    if (!known) {
      this.channels.set(topic, channel);
      this.hear(channel);
      return member;
    }
    if (sink.wantsPresence) this.watchPresence(channel);
    if (channel.begunAt !== undefined || cursor !== channel.cursor) member.readOn(true);
    return member;
  }

  leave(member) {
    const { channel } = member;
    channel.members.delete(member);
    if (channel.members.size > 0 || this.channels.get(channel.topic) !== channel) return;
    this.channels.delete(channel.topic);
    if (!channel.resting) this.unhear(channel);
  }

  hear(channel) {
    if (this.transport && this.openedAt) this.transport.subscribe(channel);
  }

  unhear(channel) {
    if (this.transport && this.openedAt) this.transport.unsubscribe(channel);
  }

  watchPresence(channel) {
    if (channel.begunAt !== undefined && this.openedAt) this.transport?.presence(channel);
  }

  ask(operation) {
    return this.online ? this.transport.ask(operation) : Promise.reject(unavailable("there is no connection now"));
  }

  /** The same by a request, whatever the transport. */
  async request(operation) {
    return this.http.json(...asRequest(operation));
  }

  get window() {
    return this.transport?.window ?? 1;
  }

  patience(error) {
    return Math.max((error.retryAfter ?? 0) * 1000, FIRST_WAIT_MS * (1 + this.random()));
  }

  /** Resolves when it makes sense to try again what has met `error`. */
  pause(error) {
    return new Promise((resolve) => {
      if (this.online) setTimeout(resolve, this.patience(error));
      else this.paused.push(resolve);
    });
  }
}

// -- what a page holds ------------------------------------------------------------------------------------------------

/** A part of a storage under a prefix; whatever is wrong with the storage, the page goes on without. */
class Kept {
  constructor(storage, prefix) {
    this.storage = storage;
    this.prefix = prefix;
  }

  try(work) {
    try {
      return work(this.storage ?? globalThis.sessionStorage) ?? undefined;
    } catch {
      return undefined; // full, forbidden, or none
    }
  }

  get(name) {
    return this.try((storage) => storage.getItem(this.prefix + name));
  }

  set(name, value) {
    this.try((storage) => storage.setItem(this.prefix + name, value));
  }

  remove(name) {
    this.try((storage) => storage.removeItem(this.prefix + name));
  }

  names() {
    const all = this.try((storage) => Array.from({ length: storage.length }, (_, index) => storage.key(index))) ?? [];
    return all.filter((key) => key?.startsWith(this.prefix)).map((key) => key.slice(this.prefix.length)).sort();
  }
}

/** Cursors kept over reloads. Written some times a second at most, and when the page is left. */
class Cursors {
  constructor(kept) {
    this.kept = kept;
    this.unwritten = new Map();
    this.timer = 0;
  }

  find(topic) {
    return this.unwritten.get(topic) ?? this.kept.get(topic);
  }

  move(topic, cursor) {
    this.unwritten.set(topic, cursor);
    this.timer ||= setTimeout(() => this.write(), KEEP_MS);
  }

  write() {
    clearTimeout(this.timer);
    this.timer = 0;
    for (const [topic, cursor] of this.unwritten) this.kept.set(topic, cursor);
    this.unwritten.clear();
  }
}

/** What is to be sent, until it is answered. An operation has an id, so that sending it again does nothing twice. */
class Outbox {
  /** `ask(operation)` sends one; `changed(detail)` hears of each that is done with. */
  constructor({ count, bytes }, { kept, ask, window, changed, random }) {
    this.limits = { count, bytes };
    this.kept = kept;
    this.ask = ask;
    this.window = window;
    this.changed = changed;
    this.backoff = new Backoff(random);
    this.bytes = 0;
    this.number = 0;
    this.entries = new Set();
    this.under = 0; // way
    this.open = false;
    this.timer = 0;
    for (const name of kept?.names() ?? []) this.restore(name);
  }

  restore(name) {
    const text = this.kept.get(name);
    if (text === undefined) return;
    this.bytes += text.length;
    this.entries.add({ name, text, sent: false, resolve: () => {}, reject: () => {} });
  }

  add(operation) {
    const text = JSON.stringify(operation);
    return new Promise((resolve, reject) => {
      if (this.entries.size >= this.limits.count || this.bytes + text.length > this.limits.bytes) {
        reject(new MsgdError({ code: "overloaded", message: "too much waits to be sent already" }));
        return;
      }
      this.number += 1;
      // Names are in the order of sending, over reloads too.
      const name = `${String(Date.now()).padStart(15, "0")}-${String(this.number).padStart(9, "0")}-${newId().slice(0, 8)}`;
      this.bytes += text.length;
      this.entries.add({ name, text, sent: false, resolve, reject });
      this.kept?.set(name, text);
      this.send();
    });
  }

  /** The line is there, or gone. */
  turn(open) {
    this.open = open;
    clearTimeout(this.timer);
    this.timer = 0;
    this.send();
  }

  send() {
    if (!this.open || this.timer) return;
    for (const entry of this.entries) {
      if (this.under >= this.window()) return;
      if (!entry.sent) this.sendOne(entry);
    }
  }

  async sendOne(entry) {
    entry.sent = true;
    this.under += 1;
    try {
      const answer = await this.ask(JSON.parse(entry.text));
      this.backoff.reset();
      this.done(entry);
      entry.resolve(answer);
    } catch (error) {
      entry.sent = false;
      if (error.retryable || TOKEN_REFUSED.has(error.code)) this.again(error);
      else this.done(entry, error);
    } finally {
      this.under -= 1;
      this.send();
    }
  }

  /** Later: all wait, so that their order stays. */
  again(error) {
    if (!this.open || this.timer) return;
    this.timer = setTimeout(() => this.turn(this.open), Math.max((error.retryAfter ?? 0) * 1000, this.backoff.next()));
  }

  done(entry, error = undefined) {
    this.entries.delete(entry);
    this.bytes -= entry.text.length;
    this.kept?.remove(entry.name);
    if (error) entry.reject(error);
    this.changed({ pending: this.entries.size, ...(error && { error, operation: JSON.parse(entry.text) }) });
  }

  close() {
    clearTimeout(this.timer);
    this.open = false;
    for (const entry of this.entries) entry.reject(new MsgdError({ code: "closed", message: "the connection was closed" }));
    this.entries.clear();
  }
}

/** The sink of a page's subscription: calls what the page has given, or queues for `for await`. */
class Delivery {
  constructor(options, cursor, moved) {
    this.options = options;
    this.cursor = cursor;
    this.moved = moved;
    this.queue = [];
    this.handling = null; // the cursor of the event that the loop has now
    this.wake = () => {};
    this.over = false;
    this.error = null;
    this.member = null;
    this.granted = null;
    this.refused = null;
    this.ready = new Promise((resolve, reject) => {
      this.granted = resolve;
      this.refused = reject;
    });
    this.ready.catch(() => {}); // who does not wait for it has onError
  }

  get wantsPresence() {
    return Boolean(this.options.onPresence);
  }

  event(event) {
    if (this.options.onEvent) {
      tell(this.options.onEvent, event);
      this.moveTo(event.cursor);
      return true;
    }
    if (this.queue.length >= QUEUE) return false;
    this.queue.push(event);
    this.wake();
    return true;
  }

  moveTo(cursor) {
    if (cursor === null) return;
    this.cursor = cursor;
    this.moved(cursor);
  }

  gap(gap) {
    tell(this.options.onGap, gap);
  }

  state(job) {
    tell(this.options.onState, job);
  }

  presence({ topic, members, count }) {
    tell(this.options.onPresence, { topic, members, count });
  }

  begun(cursor) {
    if (this.cursor === undefined) this.moveTo(cursor);
    this.granted(cursor);
    tell(this.options.onReady, cursor);
  }

  advanced(cursor) {
    if (this.queue.length === 0 && this.handling === null) this.moveTo(cursor);
  }

  failed(error) {
    this.error = error;
    this.refused(error);
    this.end();
    tell(this.options.onError, error);
  }

  end() {
    this.over = true;
    this.refused(new MsgdError({ code: "closed", message: "the subscription was closed" })); // if it still waits
    this.wake();
  }

  /** The next event of a loop; what came before it has been handled. */
  async next() {
    if (this.handling !== null) this.moveTo(this.handling);
    this.handling = null;
    while (this.queue.length === 0 && !this.over) {
      this.member.drained();
      if (this.queue.length === 0) await new Promise((go) => (this.wake = () => go(undefined)));
    }
    if (this.error && this.queue.length === 0) throw this.error;
    if (this.over) return { done: true, value: undefined };
    const value = this.queue.shift();
    this.handling = value.cursor;
    return { done: false, value };
  }
}

/** One subscription. `for await (const event of subscription)` reads it, where there is no `onEvent`. */
export class Subscription {
  #delivery;
  #end;

  /** Made by `Connection.subscribe`. */
  constructor(topic, options, delivery, end) {
    this.topic = topic;
    this.options = options;
    this.#delivery = delivery;
    this.#end = end;
  }

  /** The place behind the last event handled: with it as `since`, another subscription goes on there. */
  get cursor() {
    return this.#delivery.cursor;
  }

  /** Resolves to the first cursor when the server has granted it; rejects with its refusal. */
  get ready() {
    return this.#delivery.ready;
  }

  /** End it. */
  close() {
    this.#delivery.end();
    this.#end();
  }

  [Symbol.asyncIterator]() {
    if (this.options.onEvent) throw new TypeError("a subscription has either onEvent or a loop");
    return {
      next: () => this.#delivery.next(),
      return: async () => {
        this.close();
        return { done: true, value: undefined };
      },
    };
  }
}

/**
 * Tells of `status` events (`connecting`, `online`, `waiting`, `refused`, `closed`), of `outbox` events, and `expiring`
 * where it has no way to a new token.
 */
export class Connection extends EventTarget {
  #line;
  #outbox;
  #cursors = null;
  #shares = false;
  #sharing = null;
  #kinds;
  #deliveries = new Set();
  #keeping = new Set(); // topics whose cursor is kept by a subscription
  #wake = () => this.#line.wake();
  #write = () => this.#cursors?.write();

  /** @param {import("./msgd.d.ts").ConnectionOptions} [options] */
  constructor({
    url = new URL(".", import.meta.url).href,
    token = undefined,
    transports = ["websocket", "sse", "longpoll"],
    share = false,
    keep = undefined,
    storage = undefined,
    outbox = {},
    upgradeAfter = UPGRADE_MS,
    random = Math.random,
  } = {}) {
    super();
    this.url = baseOf(url);
    this.#kinds = transports.map((kind) => {
      const Transport = KINDS.get(kind);
      if (!Transport) throw new TypeError(`there is no transport ${kind}`);
      return { kind, make: (line) => new Transport(line) };
    });
    const kept = (part) => new Kept(storage, `msgd:${keep}:${part}:`);
    if (keep !== undefined) this.#cursors = new Cursors(kept("cursor"));
    this.#line = new Line({
      base: this.url,
      credentials: new Credentials(token),
      random,
      upgradeAfter,
      changed: (detail) => this.#changed(detail),
      expiring: () => this.dispatchEvent(new Event("expiring")),
    });
    const limits = { ...OUTBOX, ...outbox };
    this.#outbox = new Outbox(limits, {
      kept: limits.keep && keep !== undefined ? kept("outbox") : undefined,
      ask: (operation) => this.ask(operation),
      window: () => this.#line.window,
      changed: (detail) => this.dispatchEvent(new CustomEvent("outbox", { detail })),
      random,
    });
    globalThis.addEventListener?.("online", this.#wake);
    globalThis.addEventListener?.("offline", this.#wake);
    globalThis.addEventListener?.("pagehide", this.#write);
    globalThis.document?.addEventListener("visibilitychange", this.#wake);
    this.#shares = share && Sharing.possible;
    if (this.#shares) this.#share();
    else this.#line.use(this.#kinds);
  }

  /** `connecting`, `online`, `waiting`, `refused` or `closed`. */
  get status() {
    return this.#line.status;
  }

  /** `websocket`, `sse` or `longpoll` while online. */
  get transport() {
    return this.#line.detail.transport;
  }

  /** When it will be tried again (milliseconds since 1970), while `waiting`. */
  get retryAt() {
    return this.#line.detail.retryAt ?? 0;
  }

  /** How many operations wait in the outbox for their answer. */
  get pending() {
    return this.#outbox.entries.size;
  }

  /**
   * Watch a topic or pattern.
   * @param {string} topic
   * @param {import("./msgd.d.ts").SubscribeOptions} [options] `since`: absent from now on, "0" from the first kept, or a cursor
   */
  subscribe(topic, options = {}) {
    if (this.status === "closed") throw new MsgdError({ code: "closed", message: "the connection was closed" });
    const keeps = this.#cursors !== null && !this.#keeping.has(topic);
    const cursor = (keeps ? this.#cursors.find(topic) : undefined) ?? options.since;
    if (keeps) this.#keeping.add(topic);
    const delivery = new Delivery(options, cursor, (moved) => keeps && this.#cursors.move(topic, moved));
    this.#deliveries.add(delivery);
    delivery.member = this.#line.join(topic, cursor, delivery);
    return new Subscription(topic, options, delivery, () => {
      this.#deliveries.delete(delivery);
      if (keeps) this.#keeping.delete(topic);
      this.#line.leave(delivery.member);
    });
  }

  /** Publish an event: it arrives once, also if it has to be sent again. Resolves to its id when it is safe. */
  async publish(topic, type, data = null, { id = newId() } = {}) {
    return this.#outbox.add({ op: "publish", topic, type, data, id });
  }

  /** Submit a job: there is one, also if this has to be sent again. Resolves to `{id, topic, state}` when it is safe. */
  async submit(type, params = {}, { key = newId(), delay = undefined, priority = undefined } = {}) {
    return this.#outbox.add({ op: "submit", type, params, key, delay, priority });
  }

  /** Cancel a job. */
  cancel(job) {
    return this.ask({ op: "cancel", job });
  }

  /** Who reads a topic now. */
  presence(topic) {
    return this.#line.request({ op: "presence", topic });
  }

  /** Tell a topic's readers that one is typing. */
  typing(topic) {
    return this.ask({ op: "typing", topic });
  }

  /** A page of a topic's history: without `before` and `since` the latest. */
  history(topic, { before = undefined, since = undefined, limit = undefined } = {}) {
    return this.#line.http.json("GET", "api/events", { query: { topics: topic, before, since, limit } });
  }

  /** Any operation of `msgd.v1`, now; rejects with the code `unavailable` while there is no connection. */
  async ask(operation) {
    const { op, ref, ...answer } = await this.#line.ask(operation);
    return answer;
  }

  /** Try now, also after `refused`; `token`: another one, from now on. */
  reconnect(token = undefined) {
    const { credentials } = this.#line;
    if (token !== undefined) credentials.source = token;
    credentials.forget();
    if (this.status === "closed") return;
    if (this.#shares && !this.#sharing) this.#share();
    else this.#line.use(this.#line.kinds);
  }

  /** Close for good. */
  close() {
    globalThis.removeEventListener?.("online", this.#wake);
    globalThis.removeEventListener?.("offline", this.#wake);
    globalThis.removeEventListener?.("pagehide", this.#write);
    globalThis.document?.removeEventListener("visibilitychange", this.#wake);
    this.#write();
    if (this.status === "closed") return;
    this.#line.close();
    this.#sharing?.close();
    for (const delivery of [...this.#deliveries]) delivery.end();
    this.#outbox.close();
  }

  async #share() {
    const sharing = new Sharing(this.#line, this.#kinds);
    this.#sharing = sharing;
    try {
      await sharing.begin();
    } catch {
      // Who we are cannot be told now: this page has a connection of its own.
      sharing.close();
      this.#sharing = null;
      this.#line.use(this.#kinds);
    }
  }

  #changed(detail) {
    this.#sharing?.told(detail);
    if (detail.status === "refused" && this.#sharing?.hub) {
      // Others may have a better token: let one of them lead.
      this.#sharing.close();
      this.#sharing = null;
    }
    this.#outbox?.turn(detail.status === "online");
    this.dispatchEvent(new CustomEvent("status", { detail }));
  }
}

/** Where msgd is, from its own address or that of its WebSocket. */
function baseOf(url) {
  const base = new URL(url, globalThis.location?.href);
  base.protocol = base.protocol.replace(/^ws/, "http");
  base.search = base.hash = "";
  base.pathname = base.pathname.replace(/\/ws$/, "/").replace(/\/?$/, "/");
  return base.href;
}
