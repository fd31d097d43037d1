/** Making a notification rule, or changing one, in a dialog; and trying it out on the latest event. */

import { post, put } from "/static/api.js";
import { openDialog } from "/static/dialog.js";
import { fill, h, text } from "/static/dom.js";
import { Faults } from "/static/faults.js";
import { moment } from "/static/format.js";
import { Notice } from "/static/problem.js";

const TARGETS = {
  mail: { label: "To, one address a line", hint: "At most 20. One mail goes to all of them.", sample: "ann@example.com" },
  message: { label: "To, one XMPP address a line", hint: "A person or a room.", sample: "ann@chat.example" },
  webhook: { label: "Endpoint", hint: "The id of a webhook endpoint, whose requests are signed; or a URL.", sample: "https://example.com/hook" },
};
const DIGESTS = [[0, "At once"], [60, "Every minute"], [600, "Every 10 minutes"], [3600, "Every hour"], [86400, "Every day"]];

const lines = (value) => value.split(/[\n,]/).map((one) => one.trim()).filter(Boolean);

/** @param {{rule?: any, done: () => void, failed: (problem: any, right?: string) => void}} options `rule`: the one to change */
export function openRuleForm({ rule = null, done, failed }) {
  const wrong = new Notice();
  const code = { class: "mono", autocomplete: "off", autocapitalize: "off", spellcheck: "false" };
  const name = h("input", { id: "rule-name", maxlength: 100, autocomplete: "off", dir: "auto" });
  const topics = h("textarea", { id: "rule-topics", rows: 2, placeholder: "app.invoice.*", "aria-describedby": "rule-topics-hint", ...code });
  const types = h("input", { id: "rule-types", placeholder: "all", ...code });
  const condition = h("input", { id: "rule-condition", placeholder: "event.data.total > 100", ...code });
  const action = h("select", { id: "rule-action" }, ...Object.keys(TARGETS).map((one) => h("option", { value: one }, one[0].toUpperCase() + one.slice(1))));
  const to = h("textarea", { id: "rule-to", rows: 2, "aria-describedby": "rule-to-hint", ...code });
  const toLabel = h("label", { for: "rule-to" });
  const toHint = h("p", { class: "hint", id: "rule-to-hint" });
  const subject = h("input", { id: "rule-subject", dir: "auto", placeholder: "{{ event.data.title }}" });
  const body = h("textarea", { id: "rule-text", rows: 4, dir: "auto", placeholder: "{{ event.data.text }}", "aria-describedby": "rule-text-hint" });
  const digest = h("select", { id: "rule-digest" }, ...DIGESTS.map(([seconds, label]) => h("option", { value: seconds }, label)));
  const hourly = h("input", { id: "rule-hourly", type: "number", min: 1, max: 3600, step: 1 });
  const enabled = h("input", { type: "checkbox" });
  const trial = h("div", { class: "rule-trial", "aria-live": "polite", hidden: true });
  const save = h("button", { class: "button main", type: "submit" }, rule ? "Save" : "Make the rule");
  const tryOut = h("button", { class: "button", type: "button", id: "rule-try", onclick: look }, "Try it out");

  const given = rule ?? { topics: [], types: [], to: [], action: "mail", digest: 0, hourly: 60, enabled: true };
  name.value = given.name ?? "";
  topics.value = given.topics.join("\n");
  types.value = given.types.join(", ");
  condition.value = given.condition ?? "";
  action.value = given.action;
  to.value = given.to.join("\n");
  subject.value = given.subject ?? "";
  body.value = given.text ?? "";
  if (!DIGESTS.some(([seconds]) => seconds === given.digest)) digest.append(h("option", { value: given.digest }, `Every ${given.digest} s`));
  digest.value = String(given.digest);
  hourly.value = String(given.hourly);
  enabled.checked = given.enabled;
  const showTarget = () => {
    const { label, hint, sample } = TARGETS[action.value];
    text(toLabel, label);
    text(toHint, hint);
    to.placeholder = sample;
  };
  action.addEventListener("change", showTarget);
  showTarget();

  const faults = new Faults({ name, topics, types, condition, action, to, subject, text: body, digest, hourly }, wrong, {
    name: "Give the rule a name.",
    topics: "Give a topic or a pattern to follow, such as app.invoice.*",
    to: "Say to whom.",
  });

  const form = () => ({
    name: name.value.trim(), topics: lines(topics.value), types: lines(types.value), condition: condition.value.trim(),
    action: action.value, to: lines(to.value), subject: subject.value, text: body.value,
    digest: Number(digest.value), hourly: Number(hourly.value), enabled: enabled.checked,
  });

  /** Show what is wrong, and where. */
  function complain(problem) {
    if (problem.status === 401) {
      dialog.close();
      failed(problem);
      return;
    }
    faults.show(problem, problem.status === 403 ? /[a-z]+:\S+$/.exec(problem.message)?.[0] ?? "" : "");
  }

  async function look() {
    faults.clear();
    tryOut.disabled = true;
    try {
      showTrial(await post("/api/rules/test", form()));
    } catch (problem) {
      trial.hidden = true;
      complain(problem);
    } finally {
      tryOut.disabled = false;
    }
  }

  function showTrial({ event, subject: line, text: said, error }) {
    trial.hidden = false;
    if (!event) fill(trial, h("p", { class: "soft" }, "None of the last events on these topics is asked for. The rule is well-formed; it waits for the first."));
    else if (error) fill(trial, h("p", { class: "wrong" }, error), h("p", { class: "soft small" }, `With the event of ${moment(event.time)} on ${event.topic}.`));
    else {
      fill(trial,
        h("p", { class: "soft small" }, `This would be sent for the event of ${moment(event.time)} on `, h("code", {}, event.topic), "; nothing was sent."),
        h("p", {}, h("strong", { dir: "auto" }, line)),
        h("pre", { class: "rule-said", dir: "auto", tabindex: "0" }, said));
    }
    const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
    trial.scrollIntoView({ block: "nearest", behavior });
  }

  async function send(event) {
    event.preventDefault();
    faults.clear();
    save.disabled = true;
    try {
      await (rule ? put(`/api/rules/${encodeURIComponent(rule.id)}`, form()) : post("/api/rules", form()));
      dialog.close();
      done();
    } catch (problem) {
      complain(problem);
    } finally {
      save.disabled = false;
    }
  }

  const field = (label, input, ...more) => h("div", { class: "field" }, typeof label === "string" ? h("label", { for: input.id }, label) : label, input, ...more);
  const dialog = openDialog(rule ? "Change the rule" : "New rule",
    h("form", { class: "dialog-body", novalidate: true, onsubmit: send },
      field("Name", name),
      h("div", { class: "fields" },
        field("Topics, one a line", topics, h("p", { class: "hint", id: "rule-topics-hint" }, "In patterns * is one word, # any number.")),
        h("div", { class: "stack" }, field("Event types", types), field("Only if", condition))),
      h("div", { class: "fields" }, field("Send", action), field("How often", digest), field("At most, an hour", hourly)),
      field(toLabel, to, toHint),
      field("Subject", subject),
      field("Text", body, h("p", { class: "hint", id: "rule-text-hint" },
        "Templates: ", h("code", {}, "{{ event.topic }}"), ", ", h("code", {}, "{% if event.data.total > 9 %}…{% endif %}"), ". Left empty, the event's own title and text are sent.")),
      h("label", { class: "check" }, enabled, "On"),
      wrong.element,
      trial,
      h("div", { class: "cluster" }, save, tryOut)));
  name.focus();
  return dialog;
}
