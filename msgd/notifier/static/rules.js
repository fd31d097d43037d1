/** Notification rules: which there are, what became of them, switching them on and off; the form is `rule_form.js`. */

import { get, put, remove } from "/static/api.js";
import { openDialog } from "/static/dialog.js";
import { fill, h } from "/static/dom.js";
import { ago, count, moment } from "/static/format.js";
import { Notice } from "/static/problem.js";
import { openRuleForm } from "/static/rule_form.js";

const AGAIN_MS = 5000;
const ACTIONS = { mail: "mail", message: "message", webhook: "webhook" };

export const rulePath = (id) => `/api/rules/${encodeURIComponent(id)}`;

/** What a rule does, in a line. */
function sentence(rule) {
  const when = rule.types.length ? ` (${rule.types.join(", ")})` : "";
  const to = rule.to.length > 2 ? `${rule.to.slice(0, 2).join(", ")} and ${rule.to.length - 2} more` : rule.to.join(", ");
  return [h("code", {}, rule.topics.join(", ")), `${when} → ${ACTIONS[rule.action] ?? rule.action} to `, h("bdi", {}, to)];
}

/** What became of it. */
function fate(rule) {
  const parts = [rule.last_fired ? `sent ${count(rule.fired)}, last ${ago(rule.last_fired)}` : "nothing sent yet"];
  if (rule.collected) parts.push(`${count(rule.collected)} collected, to be sent ${ago(rule.digest_due)}`);
  if (rule.held_back) parts.push(`${count(rule.held_back)} held back: over ${count(rule.hourly)} an hour`);
  return parts.join(" · ");
}

export function rulesPage({ main, session, signedOut }) {
  document.title = "Rules · msgd";
  const wrong = new Notice();
  const list = h("div", { class: "panel flush", "aria-busy": "true" }, h("p", { class: "empty" }, "Loading…"));
  let shown = "";
  let timer = 0;
  let left = false;

  function failed(problem, right = "") {
    if (left) return;
    if (problem.status === 401) signedOut();
    else wrong.show(problem, right);
  }

  async function change(call) {
    wrong.clear();
    try {
      await call();
    } catch (problem) {
      failed(problem);
    }
    await load();
  }

  function switchOf(rule) {
    const mine = rule.owner === session.sub;
    const box = h("input", {
      type: "checkbox", role: "switch", "aria-label": `${rule.name} is on`, disabled: !mine && !rule.enabled,
      onchange: () => change(() => put(rulePath(rule.id), { enabled: box.checked })),
    });
    box.checked = rule.enabled;
    return h("label", { class: "check rule-switch" }, box, rule.enabled ? "On" : "Off");
  }

  function item(rule) {
    const mine = rule.owner === session.sub;
    return h("li", { class: "rule", dataset: { rule: rule.id, ...(!rule.enabled && { off: "1" }) } },
      switchOf(rule),
      h("div", { class: "rule-what" },
        h("h2", {}, h("bdi", {}, rule.name), !mine && h("span", { class: "soft small" }, ` of ${rule.owner}`)),
        h("p", { class: "rule-line" }, ...sentence(rule)),
        h("p", { class: "soft small", title: moment(rule.last_fired) }, fate(rule)),
        rule.reason && h("p", { class: "wrong" }, `Off: ${rule.reason}.`),
        rule.last_error && h("p", { class: "wrong" }, `${ago(rule.last_error_at)}: ${rule.last_error}`)),
      h("div", { class: "cluster rule-do" },
        mine && h("button", { class: "button small", type: "button", onclick: () => openRuleForm({ rule, done: load, failed }) }, "Edit"),
        h("button", { class: "button small quiet", type: "button", "aria-label": `Delete ${rule.name}`, onclick: () => askAway(rule) }, "Delete")));
  }

  function askAway(rule) {
    const dialog = openDialog("Delete the rule?",
      h("div", { class: "dialog-body" },
        h("p", {}, h("strong", {}, rule.name), " sends nothing more. What it has collected is thrown away."),
        h("div", { class: "cluster" },
          h("button", { class: "button danger", type: "button", onclick: () => { dialog.close(); change(() => remove(rulePath(rule.id))); } }, "Delete it"))));
    dialog.classList.add("slim");
  }

  const empty = () => h("div", { class: "empty stack" },
    h("div", {}, h("h2", {}, "No rules yet"), "A rule tells somebody by mail, message or webhook when something happens on a topic."),
    h("div", { class: "cluster" }, h("button", { class: "button main", type: "button", onclick: () => openRuleForm({ done: load, failed }) }, "Make the first rule")));

  async function load() {
    clearTimeout(timer);
    try {
      const { rules } = await get("/api/rules?limit=1000");
      if (left) return;
      list.removeAttribute("aria-busy");
      const now = JSON.stringify(rules);
      if (now !== shown) {
        const focused = document.activeElement?.closest?.(".rule")?.dataset.rule;
        fill(list, rules.length ? h("ul", { class: "list" }, ...rules.map(item)) : empty());
        if (focused) list.querySelector(`[data-rule="${CSS.escape(focused)}"] input`)?.focus();
        shown = now;
      }
    } catch (problem) {
      failed(problem);
    }
    clearTimeout(timer); // of another reading meanwhile
    if (!left) timer = setTimeout(load, AGAIN_MS);
  }

  fill(main,
    h("div", { class: "cluster spread" },
      h("h1", {}, "Rules"),
      h("button", { class: "button main", type: "button", id: "new-rule", onclick: () => openRuleForm({ done: load, failed }) }, "New rule")),
    wrong.element,
    list);
  load();
  return () => {
    left = true;
    clearTimeout(timer);
  };
}
