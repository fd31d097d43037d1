/**
 * A connection to msgd over WebSocket (subprotocol `msgd.v1`) that mends itself. One ES module without dependencies.
 *
 *     import { Connection } from "/msgd.js";
 *     const msgd = new Connection();
 *     msgd.subscribe("room.kitchen", { since: "0", onEvent: (event) => console.log(event.data) });
 *
 * Each subscription has its own cursor: after a lost connection it goes on where it was, and is shown each kept event
 * once and in order. What is lost for good is told through `onGap`.
 *
 * @typedef {{topic: string, seq: number | null, cursor: string | null, id: string, type: string, source: string,
 *   time: string, data: any, run?: number, subscription?: string}} MsgdEvent
 * @typedef {{topic: string, requested: string, first: number | null, lost: number | null, reason: string}} Gap
 * @typedef {{since?: string, onEvent?: (event: MsgdEvent) => void, onState?: (job: any) => void,
 *   onGap?: (gap: Gap) => void, onReady?: (cursor: string) => void, onError?: (error: MsgdError) => void}} Options
 */

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const SILENCE_MS = 45_000; // more than the server's heartbeat, in which browsers take no part that scripts can see
const ANSWER_MS = 10_000;

/** What the server refuses, by its code. */
export class MsgdError extends Error {
  constructor({ code = "", message = "", where = "" } = {}) {
    super(message || code);
    this.code = code;
    this.where = where;
  }
}

/** One subscription; `cursor` says how far it has come. */
export class Subscription {
  /** @param {Connection} connection @param {string} topic @param {Options} options */
  constructor(connection, topic, options) {
    this.topic = topic;
    this.cursor = options.since;
    this.options = options;
    this.connection = connection;
  }

  /** End it. */
  close() {
    this.connection.forget(this);
  }
}

/** Tells of `status` events: `connecting`, `online`, `waiting` (for `retryAt`), `refused`, `closed`. */
export class Connection extends EventTarget {
  /**
   * @param {{url?: string, token?: string | (() => string | Promise<string>), random?: () => number}} [options]
   *   without a token the page's own cookie counts
   */
  constructor({ url, token, random = Math.random } = {}) {
    super();
    this.url = url ?? new URL("/ws", location.href).href.replace(/^http/, "ws");
    this.token = token;
    this.random = random;
    this.status = "connecting";
    this.retryAt = 0;
    /** @type {Map<string, Subscription>} */
    this.subscriptions = new Map();
    this.waiting = new Map(); // answers by ref
    this.ref = 0;
    this.attempt = 0;
    this.advisedMs = null;
    this.wake = this.wake.bind(this);
    globalThis.addEventListener?.("online", this.wake);
    globalThis.document?.addEventListener("visibilitychange", this.wake);
    this.open();
  }

  /**
   * Watch a topic or pattern; once per connection.
   * @param {string} topic
   * @param {Options} [options] `since`: absent from now on, "0" from the first kept, or a cursor
   */
  subscribe(topic, options = {}) {
    if (this.subscriptions.has(topic)) throw new Error(`there is a subscription to ${topic} already`);
    const subscription = new Subscription(this, topic, options);
    this.subscriptions.set(topic, subscription);
    if (this.status === "online") this.begin(subscription);
    return subscription;
  }

  /** @param {string} topic @param {string} type @param {unknown} data */
  publish(topic, type, data, id = crypto.randomUUID()) {
    return this.ask({ op: "publish", topic, type, data, id });
  }

  submit(type, params, key = crypto.randomUUID()) {
    return this.ask({ op: "submit", type, params, key });
  }

  cancel(job) {
    return this.ask({ op: "cancel", job });
  }

  /** Close for good. */
  close() {
    this.setStatus("closed");
    clearTimeout(this.timer);
    clearTimeout(this.silence);
    globalThis.removeEventListener?.("online", this.wake);
    globalThis.document?.removeEventListener("visibilitychange", this.wake);
    this.socket?.close(1000);
    this.failAll(new MsgdError({ code: "closed", message: "the connection was closed" }));
  }

  // -- one connection ------------------------------------------------------------------------------------------------

  open() {
    clearTimeout(this.timer);
    this.setStatus("connecting");
    const socket = new WebSocket(this.url, ["msgd.v1"]);
    this.socket = socket;
    socket.onopen = async () => {
      if (!this.token) return;
      const token = typeof this.token === "function" ? await this.token() : this.token;
      if (socket === this.socket) this.say({ op: "hello", token });
    };
    socket.onmessage = (message) => socket === this.socket && this.hear(JSON.parse(message.data));
    socket.onclose = (event) => socket === this.socket && this.lost(event.code, event.reason);
    this.watchSilence();
  }

  lost(code, reason) {
    clearTimeout(this.silence);
    this.socket = null;
    this.failAll(new MsgdError({ code: "unavailable", message: "the connection was lost before the answer came" }));
    if (this.status === "closed") return;
    if (code >= 4100 && code < 4200) {
      this.setStatus("refused", { code, reason });
      return;
    }
    // Full jitter: a restarted server is not met by everybody at once.
    const ceiling = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.attempt);
    const wait = this.advisedMs ?? ceiling * this.random();
    this.advisedMs = null;
    this.attempt += 1;
    this.retryAt = Date.now() + wait;
    this.setStatus("waiting", { code, reason, wait });
    this.timer = setTimeout(() => this.open(), wait);
  }

  /** The network is back, or the page is looked at again: do not sit out the wait. */
  wake() {
    const looked = globalThis.document?.visibilityState !== "hidden";
    if (this.status === "waiting" && looked) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.open(), Math.min(FIRST_WAIT_MS * this.random(), this.retryAt - Date.now()));
    } else if (this.status === "online" && looked) {
      this.ask({ op: "ping" }).catch(() => {});
    }
  }

  /** A half-open connection says nothing: ask, and give it up if there is no answer. */
  watchSilence() {
    clearTimeout(this.silence);
    const socket = this.socket;
    this.silence = setTimeout(() => {
      if (this.status === "online") this.ask({ op: "ping" }).catch(() => {});
      this.silence = setTimeout(() => {
        if (socket !== this.socket) return;
        socket.close();
        this.lost(1006, "no answer");
      }, ANSWER_MS);
    }, this.status === "online" ? SILENCE_MS : ANSWER_MS);
  }

  // -- messages ------------------------------------------------------------------------------------------------------

  hear(message) {
    this.watchSilence();
    switch (message.op) {
      case "event": return this.hearEvent(message);
      case "welcome": return this.welcomed(message);
      case "subscribed": return this.subscribed(message);
      case "state": return this.subscriptions.get(message.topic)?.options.onState?.(message.job);
      case "gap": return this.subscriptions.get(message.subscription ?? message.topic)?.options.onGap?.(message);
      case "expiring": return this.renew();
      case "drain": this.advisedMs = message.reconnect_in * 1000; return undefined;
      case "ok": return this.settle(message, (waiting) => waiting.resolve(message));
      case "error": return this.settle(message, (waiting) => waiting.reject(new MsgdError(message)));
      default: return undefined; // of a later version
    }
  }

  /** @param {MsgdEvent} event */
  hearEvent(event) {
    const subscription = this.subscriptions.get(event.subscription ?? event.topic);
    if (!subscription) return;
    if (event.cursor) subscription.cursor = event.cursor;
    subscription.options.onEvent?.(event);
  }

  welcomed(message) {
    this.session = message;
    this.attempt = 0;
    this.setStatus("online");
    for (const subscription of this.subscriptions.values()) this.begin(subscription);
  }

  begin(subscription) {
    const { topic, cursor } = subscription;
    this.ask({ op: "subscribe", topic, ...(cursor === undefined ? {} : { since: cursor }) }).catch((error) => {
      if (error.code !== "unavailable" && error.code !== "closed") {
        this.subscriptions.delete(topic);
        subscription.options.onError?.(error);
      }
    });
  }

  subscribed(message) {
    this.settle(message, (waiting) => waiting.resolve(message));
    const subscription = this.subscriptions.get(message.topic);
    if (!subscription) return;
    subscription.cursor ??= message.cursor;
    subscription.options.onReady?.(message.cursor);
  }

  forget(subscription) {
    if (this.subscriptions.get(subscription.topic) !== subscription) return;
    this.subscriptions.delete(subscription.topic);
    if (this.status === "online") this.ask({ op: "unsubscribe", topic: subscription.topic }).catch(() => {});
  }

  async renew() {
    if (this.token === undefined) return this.dispatchEvent(new Event("expiring"));
    const token = typeof this.token === "function" ? await this.token() : this.token;
    return this.ask({ op: "token", token }).catch(() => {});
  }

  ask(operation) {
    return new Promise((resolve, reject) => {
      if (this.socket?.readyState !== WebSocket.OPEN) {
        reject(new MsgdError({ code: "unavailable", message: "there is no connection now" }));
        return;
      }
      this.ref += 1;
      this.waiting.set(this.ref, { resolve, reject });
      this.say({ ...operation, ref: this.ref });
    });
  }

  say(operation) {
    this.socket.send(JSON.stringify(operation));
  }

  settle(message, how) {
    const waiting = this.waiting.get(message.ref);
    this.waiting.delete(message.ref);
    if (waiting) how(waiting);
  }

  failAll(error) {
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    for (const one of waiting) one.reject(error);
  }

  setStatus(status, detail = {}) {
    this.status = status;
    this.dispatchEvent(new CustomEvent("status", { detail: { status, ...detail } }));
  }
}
