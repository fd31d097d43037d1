/** One talk, in a room or with somebody: its history, what comes, what one says, who is there and who types. */

import { announce } from "/static/announce.js";
import { get } from "/static/api.js";
import { Composer } from "/static/composer.js";
import { fill, h, text } from "/static/dom.js";
import { Messages } from "/static/messages.js";
import { may, userTopic } from "/static/patterns.js";
import { Notice, explain, isForbidden, isStranger } from "/static/problem.js";
import { isOfRoom } from "/static/room_words.js";
import { isMessage, peerOf } from "/static/talks.js";

const PAGE = 60;
const LOOKS = 8; // pages fetched in a row for one that has something of this talk: one's own topic has all talks
const TYPING_MS = 6000;
const MY_TYPING_MS = 2500; // between two times that one's own is told

export class Talk {
  /**
   * @param {{context: any, word: string, name: string, present: (presence: any) => void,
   *   changed: () => void}} options `word` as in the address: a room's name, or @sub; `changed`: the room is not as it was
   */
  constructor({ context, word, name, present, changed }) {
    this.context = context;
    this.present = present;
    this.changed = changed;
    this.word = word;
    this.me = context.session.sub;
    this.peer = word.startsWith("@") ? word.slice(1) : null;
    this.topic = this.peer === null ? `room.${word}` : context.session.topic; // what is read
    this.target = this.peer === null ? this.topic : userTopic(this.peer); // where it is said
    this.wrong = new Notice();
    this.messages = new Messages({
      label: `Messages, ${name}`, me: this.me,
      older: () => this.loadOlder(), read: () => this.markRead(),
      retry: (entry) => this.send(entry), discard: (entry) => this.messages.remove(entry),
    });
    this.composer = new Composer({ word, name, target: this.target, session: context.session, send: (words) => this.say(words), typing: () => this.tellTyping(), around: (work) => this.messages.keep(work) });
    this.typists = new Map(); // sub → timer
    this.typing = h("p", { class: "talk-typing soft small", "aria-live": "off" });
    this.element = h("div", { class: "talk" }, this.wrong.element, this.messages.element, this.typing, this.composer.element);
    this.known = new Set(); // cursors
    this.pending = new Map(); // id → entry
    this.first = null; // the cursor before which older ones lie; null: there are none
    this.left = false;
    this.seen = () => !document.hidden && this.messages.stuck && this.markRead();
    document.addEventListener("visibilitychange", this.seen);
    this.begun = this.begin(); // kept once the latest messages are there, or could not be read
  }

  close() {
    this.left = true;
    this.context.talks.open = "";
    this.subscription?.close();
    this.messages.close();
    this.composer.close();
    document.removeEventListener("visibilitychange", this.seen);
    for (const timer of this.typists.values()) clearTimeout(timer);
  }

  // -- history -------------------------------------------------------------------------------------------------------

  async begin() {
    const upTo = this.context.talks.read[this.word]; // before it is marked read by being seen
    this.messages.say("Loading…");
    try {
      const page = await this.page(null);
      if (this.left) return;
      this.messages.marker = this.firstNew(page.events, upTo);
      for (const { id } of page.events) if (this.pending.has(id)) this.cameBack(id); // it was said before this page was read
      this.messages.prepend(page.events);
      this.messages.toEnd();
      this.context.talks.open = this.word;
      this.sayTop();
      this.subscription = this.context.connection.subscribe(this.topic, {
        since: page.cursor,
        onEvent: (event) => this.hear(event),
        onGap: (gap) => this.messages.append({ gap }),
        ...(this.peer === null && { onPresence: this.present }),
        onError: (problem) => this.failed(problem),
      });
      this.markRead();
      if (this.messages.atTop) this.loadOlder(); // all of it is in view
    } catch (problem) {
      this.messages.say("");
      this.failed(problem);
    }
  }

  cameBack(id) {
    this.messages.remove(this.pending.get(id));
    this.pending.delete(id);
  }

  /** The entry before which "new" stands: the first of another after what was read. */
  firstNew(events, upTo) {
    if (!upTo) return null;
    const index = this.peer === null
      ? events.findIndex((one) => one.cursor === upTo) + 1
      : events.findIndex((one) => one.time > upTo);
    return (index < 0 ? undefined : events.slice(index).find((one) => one.source !== this.me && isMessage(one))) ?? null;
  }

  /** A page of this talk before a cursor, the latest without; it may have to look through others' messages for it. */
  async page(before) {
    const found = [];
    let place = before;
    let cursor = null;
    for (let look = 0; look < LOOKS && found.length < PAGE / 2; look += 1) {
      const page = await get(`/api/topics/${this.topic}/events?${new URLSearchParams({ limit: String(PAGE), ...(place && { before: place }) })}`);
      cursor ??= page.cursor;
      found.unshift(...page.events.filter((one) => this.concerns(one) && this.isNew(one)));
      place = page.more ? page.events[0]?.cursor ?? null : null;
      if (!place) break;
    }
    this.first = place;
    return { events: found, cursor };
  }

  async loadOlder() {
    if (this.messages.trimmed) {
      this.messages.trimmed = false;
      this.first = this.messages.entries.find((one) => one.cursor)?.cursor ?? null;
      this.known = new Set(this.messages.entries.map((one) => one.cursor));
    }
    if (!this.first || this.loading || this.left) return;
    this.loading = true;
    this.messages.say("Loading…");
    try {
      const page = await this.page(this.first);
      if (this.left) return;
      this.messages.prepend(page.events);
      this.sayTop();
      this.loading = false;
      if (this.messages.atTop) this.loadOlder(); // that was little
    } catch (problem) {
      this.loading = false;
      this.messages.say("Older messages could not be loaded. ", "Try again");
      if (isStranger(problem)) this.context.signedOut();
    }
  }

  sayTop() {
    const nothing = this.peer === null ? "Nothing has been said yet." : `Nothing has been said between you and ${this.peer} yet.`;
    if (this.first) this.messages.say("", "Earlier messages");
    else this.messages.say(this.messages.entries.length ? "The beginning" : nothing);
  }

  // -- what comes ----------------------------------------------------------------------------------------------------

  concerns(event) {
    return this.peer === null ? event.type !== "typing" : isMessage(event) && peerOf(event, this.me) === this.peer;
  }

  isNew(event) {
    if (this.known.has(event.cursor)) return false;
    this.known.add(event.cursor);
    return true;
  }

  hear(event) {
    if (event.type === "typing") return this.hearTyping(event);
    if (!event.cursor || !this.concerns(event) || !this.isNew(event)) return;
    this.showTyping(event.source, false);
    const mine = event.source === this.me ? this.pending.get(event.id) : undefined;
    if (mine) {
      this.pending.delete(event.id);
      this.messages.replace(mine, event);
    } else {
      this.messages.append(event);
      if (isOfRoom(event)) this.changed();
      if (event.source !== this.me && isMessage(event)) announce(`${event.source}: ${event.data.text.slice(0, 200)}`);
    }
    this.sayTop();
    if (this.messages.stuck && !document.hidden) this.markRead();
    else if (event.source !== this.me) this.context.talks.add(this.word, 1);
  }

  markRead() {
    if (document.hidden || this.left) return;
    const last = this.messages.entries.findLast((one) => one.cursor);
    if (last) this.context.talks.mark(this.word, this.peer === null ? last.cursor : last.time);
  }

  failed(problem) {
    if (this.left) return;
    if (isStranger(problem)) this.context.signedOut();
    else this.wrong.show(problem, isForbidden(problem) ? `subscribe:${this.topic}` : "");
  }

  // -- what one says -------------------------------------------------------------------------------------------------

  say(words) {
    const entry = { id: crypto.randomUUID(), topic: this.target, type: "message", source: this.me, time: new Date().toISOString(), data: { text: words }, seq: null, cursor: null };
    this.pending.set(entry.id, entry);
    this.messages.stuck = true;
    entry.pending = "sending";
    this.messages.append(entry);
    this.send(entry);
  }

  /** By the connection's outbox: it waits out the network and the server, and sends under the same id until it is said. */
  async send(entry) {
    entry.pending = "sending";
    this.messages.replace(entry);
    try {
      const { id, topic, type, data } = entry;
      await this.context.connection.publish(topic, type, data, { id });
      if (this.peer !== null && this.target !== this.topic) await this.keepCopy(entry);
      if (!this.pending.has(id)) return; // it has come back already
      entry.pending = "sent";
    } catch (problem) {
      entry.pending = "failed";
      const missing = isForbidden(problem) && !may(this.context.session, "publish", this.target);
      entry.why = missing ? `Your token lacks the right publish:${this.target}.` : explain(problem).message;
    }
    if (!this.left) this.messages.replace(entry);
  }

  /** On one's own topic, so that one's other browsers know what one said. */
  async keepCopy({ id, data }) {
    try {
      await this.context.connection.publish(this.topic, "message", { ...data, to: this.peer }, { id });
    } catch (problem) {
      if (problem.code !== "forbidden") throw problem; // it is said all the same
    }
  }

  // -- who types -----------------------------------------------------------------------------------------------------

  tellTyping() {
    const now = Date.now();
    if (this.peer !== null || now - (this.toldTyping ?? 0) < MY_TYPING_MS) return;
    this.toldTyping = now;
    this.context.connection.typing(this.topic).catch(() => {}); // nobody misses it
  }

  hearTyping(event) {
    if (this.peer === null && event.source !== this.me) this.showTyping(event.source, true);
  }

  showTyping(sub, on) {
    clearTimeout(this.typists.get(sub));
    this.typists.delete(sub);
    if (on) this.typists.set(sub, setTimeout(() => this.showTyping(sub, false), TYPING_MS));
    const names = [...this.typists.keys()];
    if (!names.length) text(this.typing, "");
    else if (names.length > 3) text(this.typing, `${names.length} people are typing…`);
    else fill(this.typing, ...names.flatMap((name, index) => [index ? ", " : null, h("bdi", {}, name)]), document.createTextNode(names.length > 1 ? " are typing…" : " is typing…"));
  }
}
