/**
 * Whom and where one talks: rooms, and people by direct messages; how much of each is unread.
 *
 * A direct message is an event on `user.<to>`, and a copy of it, with `to`, on one's own topic: so one's own topic has
 * both sides of each talk. What is read is kept in this browser, as the cursor of the last message seen.
 *
 * Tells of `change` events.
 */

import { get } from "/static/api.js";
import { kept, keep, watchKept } from "/static/kept.js";
import { may } from "/static/patterns.js";
import { isOfRoom } from "/static/room_words.js";

const PAGE = 100;
const ROOMS = 1000; // listed
const COUNTED = 50; // rooms whose unread messages are counted one by one at the start
const TOPICS = 32; // in one request: the server's limit
const POLL_MS = 15_000; // where a pattern may not be watched
const AGAIN_MS = 5000;
const RELOAD_MS = 300;

/** With whom a direct message is, seen from `me`. */
export const peerOf = (event, me) => (event.source === me ? event.data?.to : event.source);
export const isMessage = (event) => event.type === "message" && typeof event.data?.text === "string";

export class Talks extends EventTarget {
  /** @param {{session: any, connection: any, count: (unread: number) => void}} options */
  constructor({ session, connection, count }) {
    super();
    this.session = session;
    this.connection = connection;
    this.count = count;
    this.rooms = new Map(); // as GET /api/rooms has them
    this.peers = new Set();
    this.unread = new Map(); // by word: a room's name, or @sub
    this.counted = new Set(); // cursors of what was counted by reading, and may come once more by watching
    this.problem = null;
    this.loaded = false;
    this.subscriptions = [];
    this.keyRead = `${session.sub}.talks.read`;
    this.read = kept(this.keyRead, {});
    this.unwatch = watchKept(this.keyRead, () => this.readElsewhere());
    this.closed = false;
    this.open = ""; // the word of the talk in view
  }

  async begin() {
    try {
      await this.load();
      if (this.closed) return;
      await this.countPeers();
      await this.countRooms();
      if (!this.closed) this.watch();
    } catch (problem) {
      if (this.closed) return;
      this.problem = problem;
      this.changed();
      if (problem.status !== 401 && problem.status !== 403 && problem.status !== 404) this.again(() => this.begin(), AGAIN_MS);
    }
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.unwatch();
    for (const one of this.subscriptions) one.close();
  }

  /** Read the list of rooms anew. */
  async load() {
    const rooms = new Map();
    for (let after = ""; rooms.size < ROOMS;) {
      const page = await get(`/api/rooms?${new URLSearchParams({ limit: String(PAGE), ...(after && { after }) })}`);
      for (const room of page.rooms) rooms.set(room.name, room);
      after = page.next;
      if (!after) break;
    }
    this.rooms = rooms;
    this.loaded = true;
    this.problem = null;
    this.changed();
  }

  // -- what is unread ------------------------------------------------------------------------------------------------

  get joined() {
    return [...this.rooms.values()].filter((room) => room.member);
  }

  async countRooms() {
    for (const room of this.joined.slice(0, COUNTED)) {
      if (this.closed) return;
      const marker = this.read[room.name];
      const page = await get(`/api/topics/room.${room.name}/events?${new URLSearchParams({ limit: marker ? String(PAGE) : "1", ...(marker && { since: marker }) })}`);
      const others = page.events.filter((one) => isMessage(one) && one.source !== this.session.sub);
      if (marker) {
        this.add(room.name, others.length);
        for (const { cursor } of others) this.counted.add(cursor);
      } else {
        this.mark(room.name, page.cursor); // joined elsewhere: it begins now
      }
    }
  }

  async countPeers() {
    const page = await get(`/api/topics/${this.session.topic}/events?limit=200`);
    for (const event of page.events) this.hearPeer(event);
    this.cursor = page.cursor;
  }

  watch() {
    if (may(this.session, "subscribe", "room.*")) {
      this.subscriptions.push(this.connection.subscribe("room.*", {
        since: this.cursor, onEvent: (event) => this.hearRoom(event), onError: () => {},
      }));
    } else {
      this.poll(this.cursor);
    }
    this.subscriptions.push(this.connection.subscribe(this.session.topic, {
      since: this.cursor, onEvent: (event) => this.hearPeer(event), onError: () => {},
    }));
  }

  /** Without the right to watch all rooms: ask for those that one has joined. */
  async poll(since) {
    let cursor = since;
    try {
      const topics = this.joined.slice(0, TOPICS).map((room) => `room.${room.name}`);
      if (topics.length && !document.hidden) {
        const page = await get(`/api/events?${new URLSearchParams({ topics: topics.join(","), since: cursor, limit: "1000" })}`);
        cursor = page.cursor;
        for (const event of page.events) this.hearRoom(event);
      }
    } catch { /* next time */ }
    this.again(() => this.poll(cursor), POLL_MS);
  }

  /** The list is not what it was: read it anew, once for many changes. */
  reload() {
    clearTimeout(this.reloading);
    this.reloading = setTimeout(() => !this.closed && this.load().catch(() => {}), RELOAD_MS);
  }

  hearRoom(event) {
    const name = event.topic.slice("room.".length);
    if (isOfRoom(event)) this.reload();
    else if (this.counted.delete(event.cursor)) return;
    else if (isMessage(event) && event.source !== this.session.sub && this.rooms.get(name)?.member && this.open !== name) this.add(name, 1);
  }

  hearPeer(event) {
    const peer = isMessage(event) ? peerOf(event, this.session.sub) : undefined;
    if (typeof peer !== "string" || !peer) return;
    const word = `@${peer}`;
    this.peers.add(peer);
    if (event.source === this.session.sub) this.mark(word, event.time); // who answers has read
    else if (this.open !== word && event.time > (this.read[word] ?? "")) this.add(word, 1);
    this.changed();
  }

  add(word, number) {
    this.unread.set(word, (this.unread.get(word) ?? 0) + number);
    this.changed();
  }

  /** What is read of a talk: up to a cursor (rooms) or a time (people, whose talks share one topic). */
  mark(word, upTo) {
    this.unread.delete(word);
    if (upTo && this.read[word] !== upTo) {
      this.read = { ...kept(this.keyRead, {}), [word]: upTo };
      keep(this.keyRead, this.read);
    }
    this.changed();
  }

  readElsewhere() {
    const now = kept(this.keyRead, {});
    for (const [word, upTo] of Object.entries(now)) if (this.read[word] !== upTo) this.unread.delete(word);
    this.read = now;
    this.changed();
  }

  again(what, ms) {
    clearTimeout(this.timer);
    if (!this.closed) this.timer = setTimeout(what, ms);
  }

  /** Once a frame, however much happens. */
  changed() {
    if (this.scheduled) return;
    this.scheduled = true;
    setTimeout(() => {
      this.scheduled = false;
      if (this.closed) return;
      this.count([...this.unread.values()].reduce((sum, one) => sum + one, 0));
      this.dispatchEvent(new Event("change"));
    }, 16);
  }
}
