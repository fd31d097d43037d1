/** Beside a watched topic: publish to it, and do the same from a shell. */

import { post } from "/static/api.js";
import { announce } from "/static/announce.js";
import { fill, h, text } from "/static/dom.js";
import { Notice } from "/static/problem.js";

/** A form that publishes an event. */
export function publishBox({ topic, signedOut }) {
  const field = (id, label, attributes, tag = "input") => {
    const input = h(tag, { id, class: "mono", autocomplete: "off", autocapitalize: "off", spellcheck: "false", ...attributes });
    return { input, element: h("div", { class: "field" }, h("label", { for: id }, label), input) };
  };
  const to = field("publish-topic", "Topic", { placeholder: "app.invoice.created", required: true });
  const type = field("publish-type", "Type", { placeholder: "created", required: true });
  const data = field("publish-data", "Data (JSON)", { rows: 4, "aria-describedby": "publish-hint publish-wrong" }, "textarea");
  const dataWrong = h("p", { class: "wrong", id: "publish-wrong", role: "alert", hidden: true });
  const wrong = new Notice();
  const done = h("p", { class: "soft small", role: "status" });
  const button = h("button", { class: "button", type: "submit" }, "Publish");
  to.input.value = topic;
  type.input.value = "test";
  data.input.value = '{"title": "A test", "text": "Published from the dashboard"}';
  let id = crypto.randomUUID(); // one event, however often the button is pressed until it worked

  async function publish(event) {
    event.preventDefault();
    wrong.clear();
    dataWrong.hidden = true;
    let value;
    try {
      value = JSON.parse(data.input.value.trim() || "null");
    } catch (problem) {
      dataWrong.hidden = false;
      text(dataWrong, `No JSON: ${problem.message}`);
      data.input.focus();
      return;
    }
    button.disabled = true;
    try {
      await post("/api/events", { topic: to.input.value.trim(), type: type.input.value.trim(), data: value, id });
      const there = to.input.value.trim();
      fill(done, "Published: ", h("a", { href: `/topics?${new URLSearchParams({ topic: there, since: "0" })}`, "data-nav": true }, `see ${there}`));
      id = crypto.randomUUID();
    } catch (problem) {
      if (problem.status === 401) signedOut();
      else wrong.show(problem, problem.status === 403 ? `publish:${to.input.value.trim()}` : "");
    } finally {
      button.disabled = false;
    }
  }

  return h("section", { class: "panel", "aria-labelledby": "publish-title" },
    h("h2", { id: "publish-title" }, "Publish an event"),
    h("form", { class: "stack tight", novalidate: true, onsubmit: publish, oninput: () => { id = crypto.randomUUID(); } },
      h("div", { class: "fields" }, to.element, type.element),
      data.element,
      h("p", { class: "hint", id: "publish-hint" }, "title, text and url are what notifications show."),
      dataWrong,
      wrong.element,
      h("div", { class: "cluster" }, button, done)));
}

/** A command for a shell, quoted for it. */
const quoted = (value) => `'${value.replace(/'/g, "'\\''")}'`;

/** The same from a shell. */
export function curlBox({ topic, since }) {
  const query = new URLSearchParams({ topics: topic, since: since === "now" ? "0" : since });
  const commands = [
    ["Read the history", `curl -H "Authorization: Bearer $TOKEN" ${quoted(`${location.origin}/api/events?${query}`)}`],
    ["Follow it live", `curl -N -H "Authorization: Bearer $TOKEN" -H 'Accept: text/event-stream' ${quoted(`${location.origin}/api/events?${query}`)}`],
    ["Publish", `curl -H "Authorization: Bearer $TOKEN" --json ${quoted(JSON.stringify({ topic: /[*#]/.test(topic) ? "app.test" : topic, type: "test", data: { title: "A test" } }))} ${quoted(`${location.origin}/api/events`)}`],
  ];
  return h("section", { class: "panel stack tight", "aria-labelledby": "curl-title" },
    h("h2", { id: "curl-title" }, "From a shell"),
    ...commands.map(([label, command]) => {
      const code = h("code", { class: "command", tabindex: "0" }, command);
      const copy = h("button", { class: "button small", type: "button", "aria-label": `Copy: ${label}`, onclick: async () => {
        try {
          await navigator.clipboard.writeText(command);
          text(copy, "Copied");
          announce("Copied");
        } catch { // not allowed, or no https: select it, so that one key copies it
          getSelection().selectAllChildren(code);
          text(copy, "Press Ctrl+C");
        }
        setTimeout(() => text(copy, "Copy"), 2000);
      } }, "Copy");
      return h("div", {}, h("div", { class: "cluster spread" }, h("h3", { class: "small" }, label), copy), code);
    }));
}
