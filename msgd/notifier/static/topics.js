/** The page of topics: watch any topic or pattern, look back in its history, publish to it. */

import { get } from "/static/api.js";
import { fill, h, text } from "/static/dom.js";
import { count, moment } from "/static/format.js";
import { Grid } from "/static/grid.js";
import { compact, gapWords, openEvent } from "/static/notice.js";
import { isPattern, isTopicOrPattern } from "/static/patterns.js";
import { Notice, isForbidden, isStranger } from "/static/problem.js";
import { curlBox, publishBox } from "/static/topic_tools.js";

const MOST = 100_000; // beyond this a browser's memory suffers
const PAGE = 200;
const FROM = { now: "from now on", 0: "from the first kept", cursor: "after a cursor" };

const clockTime = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" });

const COLUMNS = [
  { title: "seq", width: "5.5rem", class: "cell-number", cell: (row) => (row.seq === null ? "–" : count(row.seq)) },
  { title: "Time", width: "6.5rem", class: "soft number", cell: (row) => h("time", { datetime: row.time, title: moment(row.time) }, clockTime.format(new Date(row.time))) },
  { title: "Topic", width: "minmax(8rem, 1fr)", class: "soft", cell: (row) => h("span", { title: row.topic }, row.topic) },
  { title: "Type", width: "minmax(5rem, 0.6fr)", cell: (row) => row.type, class: "soft" },
  { title: "From", width: "minmax(4rem, 0.5fr)", cell: (row) => row.source, class: "soft cell-extra" },
  { title: "Data", width: "minmax(10rem, 2.4fr)", class: "cell-value", cell: (row) => compact(row.data) },
  // Of a cursor the end tells one event from the next; the detail has all of it.
  { title: "Cursor", width: "6.5rem", class: "soft cell-extra", cell: (row) => (row.cursor ? h("span", { class: "mono", title: row.cursor }, `…${row.cursor.slice(-8)}`) : "not kept") },
];

export function topicsPage({ main, session, connection, go, signedOut }) {
  const given = new URLSearchParams(location.search);
  const topic = given.get("topic") ?? "";
  const since = given.get("since") ?? "now";
  const wrong = new Notice();
  const ends = [];

  // -- what to watch -------------------------------------------------------------------------------------------------

  const field = h("input", {
    id: "topic", class: "mono", autocomplete: "off", autocapitalize: "off", spellcheck: "false", required: true,
    placeholder: "app.invoice.*", "aria-describedby": "topic-hint topic-wrong",
  });
  field.value = topic;
  const fieldWrong = h("p", { class: "wrong", id: "topic-wrong", role: "alert", hidden: true }, "Words of letters, digits, _ and -, joined by dots; * for one word, # for any.");
  const from = h("select", { id: "from" }, ...Object.entries(FROM).map(([value, label]) => h("option", { value }, label)));
  from.value = since in FROM ? since : "cursor";
  const cursor = h("input", { id: "cursor", class: "mono", autocomplete: "off", spellcheck: "false", placeholder: "an event's cursor" });
  if (from.value === "cursor") cursor.value = since === "cursor" ? "" : since;
  const cursorField = h("div", { class: "field" }, h("label", { for: "cursor" }, "Cursor"), cursor);
  const showCursor = () => { cursorField.hidden = from.value !== "cursor"; };
  from.addEventListener("change", showCursor);
  showCursor();
  const form = h("form", {
    class: "panel watch-form", novalidate: true, role: "search", "aria-label": "What to watch",
    onsubmit: (event) => {
      event.preventDefault();
      const wanted = field.value.trim();
      const bad = !isTopicOrPattern(wanted);
      fieldWrong.hidden = !bad;
      if (bad) {
        field.setAttribute("aria-invalid", "true");
        field.focus();
        return;
      }
      const query = new URLSearchParams({ topic: wanted, since: from.value === "cursor" ? cursor.value.trim() || "now" : from.value });
      go(`/topics?${query}`);
    },
  },
  h("div", { class: "field watch-topic" }, h("label", { for: "topic" }, "Topic or pattern"), field),
  h("div", { class: "field" }, h("label", { for: "from" }, "Show events"), from),
  cursorField,
  h("button", { class: "button main", type: "submit", id: "watch" }, "Watch"),
  h("p", { class: "hint wide", id: "topic-hint" }, "For example ", ...["job.#", "app.#", session.topic].flatMap((one, index) => [
    index ? ", " : "", h("a", { href: `/topics?${new URLSearchParams({ topic: one, since: "now" })}`, "data-nav": true, class: "mono" }, one)])),
  fieldWrong);

  // -- what happens --------------------------------------------------------------------------------------------------

  const torn = (row) => (row.gap ? gapWords(isPattern(topic) ? row.gap : { ...row.gap, topic: "" }) : "");

  function watch() {
    const grid = new Grid({ label: `Events of ${topic}`, columns: COLUMNS, open: openEvent, torn });
    const waiting = [];
    let scheduled = false;
    let start = null; // the cursor from which on it is watched
    const earlier = h("button", { class: "button small", type: "button", hidden: since === "0", onclick: lookBack }, "Earlier events");
    const follow = h("button", { class: "chip", type: "button", "aria-pressed": "false", title: "Keep the newest event in view", onclick: () => following(!grid.follow) }, "Follow");
    const pause = h("button", { class: "chip", type: "button", "aria-pressed": "false", onclick: () => pausing(!paused) }, "Pause");
    const status = h("p", { class: "soft small", id: "watched", role: "status" }, "Connecting…");
    const cap = h("p", { class: "notice wait", hidden: true }, `Only ${count(MOST)} events are kept in this page. Watch again after the last cursor to go on.`);
    let paused = false;
    grid.setEmpty(since === "now" ? "Nothing has happened since. New events appear here; what happened before is one click away." : "Nothing has happened yet.");

    function flush() {
      scheduled = false;
      if (paused || !waiting.length) return;
      const room = MOST - grid.rows.length;
      grid.append(waiting.splice(0, Math.max(0, room)));
      if (waiting.length) {
        cap.hidden = false;
        waiting.length = 0;
      }
      text(shown, count(grid.rows.length));
    }

    function add(row) {
      waiting.push(row);
      if (waiting.length > MOST) waiting.shift();
      if (!scheduled && !paused) {
        scheduled = true;
        requestAnimationFrame(flush);
      }
      if (paused) text(pause, `Paused: ${count(waiting.length)} new`);
    }

    function following(on) {
      grid.follow = on;
      follow.setAttribute("aria-pressed", String(on));
      grid.schedule();
    }

    function pausing(on) {
      paused = on;
      pause.setAttribute("aria-pressed", String(on));
      text(pause, "Pause");
      if (!on) flush();
    }

    async function lookBack() {
      earlier.disabled = true;
      try {
        const first = grid.rows.find((one) => one.cursor) ?? waiting.find((one) => one.cursor);
        const from_ = first?.cursor ?? start;
        const query = new URLSearchParams({ topics: topic, limit: String(PAGE), ...(from_ && { before: from_ }) });
        const page = await get(`/api/events?${query}`);
        const known = new Set(grid.rows.map((one) => one.cursor));
        grid.prepend(page.events.filter((one) => !known.has(one.cursor)));
        text(shown, count(grid.rows.length));
        if (!page.more) {
          earlier.hidden = true;
          grid.setEmpty("There is nothing, neither before nor since.");
          grid.update();
        }
      } catch (problem) {
        if (isStranger(problem)) signedOut();
        else wrong.show(problem, isForbidden(problem) ? `subscribe:${topic}` : "");
      } finally {
        earlier.disabled = false;
      }
    }

    const shown = h("span", { class: "number" }, "0");
    const told = () => {
      if (connection.status === "waiting") text(status, "The connection is lost; it goes on where it was.");
    };
    connection.addEventListener("status", told);
    const subscription = connection.subscribe(topic, {
      ...(since !== "now" && { since }),
      onEvent: add,
      onGap: (gap) => add({ gap, cursor: null }),
      onReady: (at) => {
        start ??= at;
        text(status, `Watching ${topic} · cursor ${at}`);
      },
      onError: (problem) => {
        text(status, "Not watched.");
        grid.setEmpty("Not watched.");
        wrong.show(problem, isForbidden(problem) ? `subscribe:${topic}` : "");
      },
    });
    ends.push(() => subscription.close(), () => connection.removeEventListener("status", told), () => grid.close());
    return h("section", { class: "panel flush watched", "aria-label": "Events" },
      h("div", { class: "rows-bar" },
        h("div", { class: "cluster watched-what" }, earlier, h("span", { class: "soft small" }, shown, " shown")),
        h("div", { class: "cluster" }, pause, follow)),
      cap,
      grid.element,
      h("div", { class: "watched-foot" }, status));
  }

  fill(main,
    h("h1", {}, "Topics"),
    form,
    wrong.element,
    topic && isTopicOrPattern(topic) ? watch() : h("div", { class: "panel empty" },
      h("h2", {}, "Watch what happens"),
      h("p", {}, "Every job, room, user and application speaks on a topic. Give one, or a pattern, and see its events: numbered, in order, with whatever is missing said.")),
    h("div", { class: "two" },
      publishBox({ topic: isPattern(topic) ? "" : topic, signedOut }),
      curlBox({ topic: isTopicOrPattern(topic) ? topic : "app.#", since })));
  if (!topic) field.focus({ preventScroll: true });
  return () => ends.forEach((end) => end());
}
