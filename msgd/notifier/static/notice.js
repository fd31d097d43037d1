/** What an event says to people: its title, text and address, if its data has them, else the data itself. */

import { openDialog } from "/static/dialog.js";
import { h, outside } from "/static/dom.js";
import { moment } from "/static/format.js";

const MOST_CHARACTERS = 240; // of data in a list

const asText = (value) => (typeof value === "string" ? value : typeof value === "number" ? String(value) : "");

/** Data on one line, cut. */
export function compact(data) {
  const json = typeof data === "string" ? data : JSON.stringify(data) ?? "";
  const line = json.slice(0, MOST_CHARACTERS + 1).replace(/\s+/g, " ");
  return line.length > MOST_CHARACTERS ? `${line.slice(0, MOST_CHARACTERS)}…` : line;
}

/** @returns {{title: string, text: string, url: string}} */
export function noticeOf(event) {
  const data = event.data !== null && typeof event.data === "object" && !Array.isArray(event.data) ? event.data : {};
  const title = asText(data.title);
  const text = asText(data.text);
  if (event.type === "message" && text) return { title: title || event.source, text, url: asText(data.url) };
  return { title: title || text || `${event.type}`, text: title ? text : text ? "" : event.data === null ? "" : compact(event.data), url: asText(data.url) };
}

/** The address that data gives, if it leads to a page: of the web, or of this site (relative). */
export function linkOf(event) {
  const { url } = noticeOf(event);
  return url ? outside(url, location.origin) : null;
}

/** Everything there is about an event, in a dialog. */
export function openEvent(event) {
  const { title, text } = noticeOf(event);
  const link = linkOf(event);
  const fact = (name, value, kind = "") => value !== null && value !== undefined && value !== "" && h("div", {}, h("dt", {}, name), h("dd", { class: kind }, value));
  return openDialog(event.type === "message" ? `Message of ${event.source}` : title,
    h("dl", { class: "facts" },
      fact("Text", event.type === "message" || title !== text ? text : ""),
      fact("Address", link),
      fact("Data", h("pre", { class: "mono main facts-data", tabindex: "0" }, JSON.stringify(event.data, null, 2)))),
    h("dl", { class: "facts pairs" },
      fact("Topic", event.topic, "mono"),
      fact("Number in the topic", event.seq === null ? "not kept" : String(event.seq), "mono"),
      fact("Type", event.type, "mono"),
      fact("From", event.source),
      fact("Time", `${moment(event.time)} (${event.time})`),
      fact("Cursor", event.cursor, "mono"),
      fact("Id", event.id, "mono")));
}

/** What a gap says. */
export function gapWords({ lost, reason, topic }) {
  const what = lost === null || lost === undefined ? "Some events are" : lost === 1 ? "1 event is" : `${lost} events are`;
  const why = { trimmed: "they were too old", erased: "they were erased", epoch: "the journal was restored or begun anew", rewound: "the journal was set back" };
  return `${what} missing here${topic ? ` on ${topic}` : ""}: ${why[reason] ?? reason}.`;
}
