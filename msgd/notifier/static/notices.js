/**
 * Notifications: what happened in applications (`app.#`, as far as one may read it) and what is addressed to oneself.
 * History first, then live; what is unread is counted by a marker that this browser keeps.
 *
 * Tells of `change` events. `entries` has events, the oldest first, and where some are lost `{gap}`.
 */

import { get } from "/static/api.js";
import { kept, keep, watchKept } from "/static/kept.js";
import { noticeOf } from "/static/notice.js";
import { matches, notificationPatterns } from "/static/patterns.js";
import { isForbidden, isStranger } from "/static/problem.js";

const PAGE = 100;
const MOST = 2000; // kept in the page; older ones are a page of history away
const AGAIN_MS = 3000;

export class Notices extends EventTarget {
  /**
   * @param {{session: any, connection: any, toasts: any, count: (unread: number) => void, isSeen: (event: any) => boolean,
   *   open: (event: any) => void}} options `isSeen`: whether an event is in view anyway; `open`: its toast was clicked
   */
  constructor({ session, connection, toasts, count, isSeen, open }) {
    super();
    this.isSeen = isSeen;
    this.open = open;
    this.session = session;
    this.connection = connection;
    this.toasts = toasts;
    this.count = count;
    this.patterns = notificationPatterns(session);
    this.entries = [];
    this.known = new Set(); // cursors: overlapping patterns bring an event twice
    this.older = false; // whether there are more before the first entry
    this.problem = null;
    this.loaded = false;
    this.subscriptions = [];
    this.keyRead = `${session.sub}.notices.read`;
    this.keyToasts = `${session.sub}.notices.toasts`;
    this.unwatch = watchKept(this.keyRead, () => this.changed());
    this.closed = false;
  }

  /** Load the latest ones, then go on live from there. */
  async begin() {
    try {
      const page = await get(this.address({}));
      if (this.closed) return;
      this.take(page);
      if (kept(this.keyRead, null) === null) this.markRead(); // a first visit: what was before it is no news
      for (const pattern of this.patterns) {
        this.subscriptions.push(this.connection.subscribe(pattern, {
          since: page.cursor,
          onEvent: (event) => this.heard(event),
          onGap: (gap) => this.add({ gap }),
          onError: (problem) => this.failed(problem),
        }));
      }
    } catch (problem) {
      if (this.closed) return;
      this.failed(problem);
      if (!isStranger(problem) && !isForbidden(problem)) this.timer = setTimeout(() => this.begin(), AGAIN_MS);
    }
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.unwatch();
    for (const one of this.subscriptions) one.close();
  }

  /** Load the page before the first entry. */
  async loadOlder() {
    const first = this.entries.find((one) => one.cursor);
    if (!first) return;
    const page = await get(this.address({ before: first.cursor }));
    const events = page.events.filter((one) => this.isNew(one));
    this.entries.unshift(...events);
    this.older = page.more;
    this.changed();
  }

  // -- what is read, and what is a toast -----------------------------------------------------------------------------

  get unread() {
    const marker = kept(this.keyRead, "");
    const index = this.entries.findLastIndex((one) => one.cursor === marker);
    const isNews = (one) => one.cursor && one.source !== this.session.sub && !this.isDirect(one); // Rooms counts talks
    return new Set(this.entries.slice(index + 1).filter(isNews));
  }

  markRead() {
    const last = this.entries.findLast((one) => one.cursor);
    keep(this.keyRead, last?.cursor ?? "");
    this.changed();
  }

  /** The patterns whose events show as toasts. */
  get toastPatterns() {
    return kept(this.keyToasts, ["#"]);
  }

  set toastPatterns(patterns) {
    keep(this.keyToasts, patterns);
  }

  // -- events --------------------------------------------------------------------------------------------------------

  address(more) {
    return `/api/events?${new URLSearchParams({ topics: this.patterns.join(","), limit: String(PAGE), ...more })}`;
  }

  take(page) {
    this.entries.push(...page.events.filter((one) => this.isNew(one)));
    this.older = page.more;
    this.problem = null;
    this.loaded = true;
    this.changed();
  }

  heard(event) {
    if (!event.cursor || !this.isNew(event)) return;
    this.add(event);
    if (event.source === this.session.sub || this.isSeen(event) || !this.toastPatterns.some((one) => matches(one, event.topic))) return;
    const { title, text } = noticeOf(event);
    this.toasts.show({
      key: event.cursor, title, text, note: `${event.topic} · ${event.type}`,
      open: () => this.open(event),
    });
  }

  add(entry) {
    this.entries.push(entry);
    if (this.entries.length > MOST) {
      for (const one of this.entries.splice(0, this.entries.length - MOST)) this.known.delete(one.cursor);
      this.older = true;
    }
    this.changed();
  }

  /** Whether it is a direct message. */
  isDirect(event) {
    return event.type === "message" && event.topic === this.session.topic;
  }

  /** Not what is known already, nor the copies of what one has said. */
  isNew(event) {
    if (this.isDirect(event) && event.source === this.session.sub) return false;
    if (this.known.has(event.cursor)) return false;
    this.known.add(event.cursor);
    return true;
  }

  failed(problem) {
    this.problem = problem;
    this.changed();
  }

  /** Once a frame, however many come. */
  changed() {
    if (this.scheduled) return;
    this.scheduled = true;
    setTimeout(() => {
      this.scheduled = false;
      if (this.closed) return;
      this.count(this.unread.size);
      this.dispatchEvent(new Event("change"));
    }, 16);
  }
}
