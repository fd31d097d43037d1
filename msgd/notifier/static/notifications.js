/** The page of notifications: a list with filters, what is unread, and which show as toasts. */

import { fill, h, text } from "/static/dom.js";
import { ago, moment } from "/static/format.js";
import { compact, gapWords, noticeOf } from "/static/notice.js";
import { isTopicOrPattern, matches } from "/static/patterns.js";
import { Notice } from "/static/problem.js";

const SHOWN = 200; // rows at once in the document

export function notificationsPage({ main, notices, signedOut }) {
  const given = new URLSearchParams(location.search);
  let most = SHOWN;
  const filter = (name, label, placeholder) => {
    const field = h("input", { id: `filter-${name}`, type: "search", placeholder, autocomplete: "off", spellcheck: "false", class: name === "text" ? "" : "mono" });
    field.value = given.get(name) ?? "";
    field.addEventListener("input", filtered);
    return { field, element: h("div", { class: "field" }, h("label", { for: field.id }, label), field) };
  };
  const filters = {
    topic: filter("topic", "Topic or pattern", "app.invoice.*"),
    type: filter("type", "Type", "created"),
    text: filter("text", "Text", "words in it"),
  };
  const unreadOnly = h("input", { id: "unread-only", type: "checkbox", onchange: filtered });
  unreadOnly.checked = given.has("unread");
  const topicWrong = h("p", { class: "wrong", role: "alert", hidden: true }, "No topic or pattern: words joined by dots, * for one word, # for any.");
  filters.topic.element.append(topicWrong);
  const list = h("ul", { class: "list panel flush", "aria-label": "Notifications" });
  const empty = h("div", { class: "panel empty" });
  const older = h("button", { class: "button", type: "button", hidden: true, onclick: loadOlder }, "Show older ones");
  const read = h("button", { class: "button small", type: "button", id: "mark-read", onclick: () => notices.markRead() }, "Mark all read");
  const unreadCount = h("p", { class: "soft", id: "unread" });
  const wrong = new Notice();

  // -- the list ------------------------------------------------------------------------------------------------------

  function row(event, isUnread) {
    const { title, text: words } = noticeOf(event);
    return h("li", {},
      h("button", { class: "notice-row", type: "button", dataset: isUnread ? { unread: "" } : {}, onclick: () => notices.open(event) },
        h("span", { class: "notice-mark" }, isUnread && h("span", { class: "hidden-label" }, "Unread: ")),
        h("span", { class: "notice-title" }, h("bdi", {}, title)),
        h("time", { class: "list-end", datetime: event.time, title: moment(event.time) }, ago(event.time)),
        words && h("span", { class: "notice-text" }, h("bdi", {}, words)),
        h("span", { class: "notice-about" }, `${event.topic} · ${event.type}`, event.source && ` · ${event.source}`)));
  }

  function wanted(event, values, unread) {
    if (values.topic && !matches(values.topic, event.topic)) return false;
    if (values.type && !event.type.toLowerCase().includes(values.type)) return false;
    if (values.text) {
      const { title, text: words } = noticeOf(event);
      if (!`${title}\n${words}\n${event.source}\n${compact(event.data)}`.toLowerCase().includes(values.text)) return false;
    }
    return !unreadOnly.checked || unread.has(event);
  }

  function show() {
    const values = Object.fromEntries(Object.entries(filters).map(([name, { field }]) => [name, field.value.trim()]));
    values.type = values.type.toLowerCase();
    values.text = values.text.toLowerCase();
    const bad = values.topic !== "" && !isTopicOrPattern(values.topic);
    topicWrong.hidden = !bad;
    if (bad) values.topic = "";
    const { unread } = notices;
    const any = Object.values(values).some(Boolean) || unreadOnly.checked;
    const found = notices.entries.filter((one) => (one.gap ? !any : wanted(one, values, unread)));
    const shown = found.slice(-most).reverse();
    const place = focusPlace();
    fill(list, ...shown.map((one) => (one.gap ? h("li", { class: "torn torn-row" }, gapWords(one.gap)) : row(one, unread.has(one)))));
    place();
    list.hidden = shown.length === 0;
    empty.hidden = shown.length > 0;
    if (!empty.hidden) sayEmpty(any);
    read.disabled = unread.size === 0;
    text(unreadCount, !notices.loaded ? "" : unread.size ? `${unread.size} unread` : "All read");
    older.hidden = found.length <= most && !notices.older;
    if (notices.problem?.status === 401) signedOut();
    else if (notices.problem) wrong.show(notices.problem, notices.patterns.map((one) => `subscribe:${one}`).join(" "));
    else wrong.clear();
  }

  /** Rows are made anew: the focus goes to the same one. */
  function focusPlace() {
    const rows = [...list.querySelectorAll("button")];
    const index = rows.indexOf(document.activeElement);
    if (index < 0) return () => {};
    const fromEnd = rows.length - index;
    return () => [...list.querySelectorAll("button")].at(-fromEnd)?.focus({ preventScroll: true });
  }

  function sayEmpty(any) {
    if (!notices.loaded) fill(empty, h("p", {}, "Loading…"));
    else if (any) {
      fill(empty, h("h2", {}, "Nothing matches"), h("p", {}, "Among what is loaded. Take a filter away, or show older ones."));
    } else {
      fill(empty, h("h2", {}, "No notifications yet"),
        h("p", {}, "What applications publish to ", h("code", {}, "app.#"), " and what is sent to you appears here and as a toast."),
        h("p", {}, h("a", { href: "/topics", "data-nav": true }, "Publish one to try it")));
    }
  }

  function filtered() {
    const query = new URLSearchParams();
    for (const [name, { field }] of Object.entries(filters)) if (field.value.trim()) query.set(name, field.value.trim());
    if (unreadOnly.checked) query.set("unread", "1");
    history.replaceState(null, "", query.size ? `/notifications?${query}` : "/notifications");
    show();
  }

  async function loadOlder() {
    most += SHOWN;
    older.disabled = true;
    try {
      if (notices.older) await notices.loadOlder();
      show();
    } catch (problem) {
      if (problem.status === 401) signedOut();
      else wrong.show(problem);
    } finally {
      older.disabled = false;
    }
  }

  // -- settings ------------------------------------------------------------------------------------------------------

  function settings() {
    const field = h("textarea", { id: "toast-patterns", class: "mono", rows: 3, spellcheck: "false", "aria-describedby": "toast-hint toast-wrong" });
    const fault = h("p", { class: "wrong", id: "toast-wrong", role: "alert", hidden: true });
    field.value = notices.toastPatterns.join("\n");
    field.addEventListener("input", () => {
      const patterns = field.value.split("\n").map((line) => line.trim()).filter(Boolean);
      const bad = patterns.find((one) => !isTopicOrPattern(one));
      fault.hidden = bad === undefined;
      text(fault, bad === undefined ? "" : `“${bad}” is no topic or pattern.`);
      if (bad === undefined) notices.toastPatterns = patterns;
    });
    return h("details", { class: "panel" },
      h("summary", {}, "Which show as toasts"),
      h("div", { class: "field" },
        h("label", { for: "toast-patterns" }, "Topics and patterns, one a line"),
        field,
        h("p", { class: "hint", id: "toast-hint" }, "# is all of them; nothing is none. Kept in this browser as you type."),
        fault));
  }

  notices.addEventListener("change", show);
  fill(main,
    h("div", { class: "cluster spread" },
      h("h1", {}, "Notifications"),
      h("div", { class: "cluster" }, unreadCount, read)),
    h("div", { class: "fields filters", role: "search", "aria-label": "Filter notifications" },
      ...Object.values(filters).map(({ element }) => element),
      h("label", { class: "check" }, unreadOnly, "Unread only")),
    wrong.element, list, empty,
    h("div", {}, older),
    settings());
  show();
  return () => notices.removeEventListener("change", show);
}
