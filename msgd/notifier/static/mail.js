/** Mail: what is written and previewed, who gets it; the mails there were; who wants none. */

import { Problem, get, post } from "/static/api.js";
import { fill, h, text } from "/static/dom.js";
import { openDialog } from "/static/dialog.js";
import { Faults } from "/static/faults.js";
import { count } from "/static/format.js";
import { jobList } from "/static/jobs.js";
import { Preview } from "/static/mail_preview_frame.js";
import { Notice } from "/static/problem.js";
import { suppressionList } from "/static/suppressions.js";

const RECENT = 10;
const DRAFT = "msgd.mail";
const STILL_MS = 500; // after the last key, before a preview is asked for

/** `Anna <anna@example.com>` or an address alone, one a line. */
function recipients(value) {
  return value.split(/\n|[,;](?=[^<>]*@)/).map((line) => line.trim()).filter(Boolean).map((line) => {
    const named = /^(.*)<([^<>]+)>$/.exec(line);
    const name = named?.[1].trim().replace(/^"(.*)"$/, "$1");
    return { email: (named ? named[2] : line).trim(), ...(name && { name }) };
  });
}

export function mailPage({ main, go, signedOut }) {
  document.title = "Mail · msgd";
  let key = crypto.randomUUID(); // one job, however often the button is pressed
  let left = false;
  let timer = 0;
  let uploaded = null; // the CSV: {id, name}
  const field = (id, label, control, hint = "") => h("div", { class: "field" },
    h("label", { for: id }, label), control, hint && h("p", { class: "hint", id: `${id}-hint` }, hint));
  const input = (id, more = {}) => h("input", { id, name: id, autocomplete: "off", ...more });
  const area = (id, rows, more = {}) => h("textarea", { id, name: id, rows, ...more });

  const to = area("to", 4, { placeholder: "Anna Bell <anna@example.com>\nben@example.org", spellcheck: "false", autocapitalize: "off" });
  const file = h("input", { id: "file", type: "file", accept: ".csv,text/csv", "aria-describedby": "file-hint" });
  const fileName = h("p", { class: "soft small", role: "status" });
  const subject = input("subject", { required: true, maxlength: 1000 });
  const from = input("from", { placeholder: "as configured" });
  const body = area("text", 9, { placeholder: "Hello {{ name }}," });
  const source = area("html", 9, { class: "mono", spellcheck: "false", placeholder: "<p>Hello {{ name }},</p>" });
  const unsubscribe = h("input", { id: "unsubscribe", type: "checkbox", checked: true });
  const wrong = new Notice();
  const preview = new Preview();
  const button = h("button", { class: "button main", type: "submit" }, "Send…");
  const form = h("form", { class: "panel stack", novalidate: true },
    field("to", "To", to, "One address a line."),
    h("div", { class: "field" },
      h("label", { for: "file" }, "Or a list in a file"), file, fileName,
      h("p", { class: "hint", id: "file-hint" }, "CSV with a column email, perhaps name, and a column for each variable.")),
    field("subject", "Subject", subject, "Here and below, {{ name }} stands for the recipient's name, {{ city }} for a column of that name."),
    field("text", "Text", body),
    h("details", {}, h("summary", {}, "HTML, sender"),
      h("div", { class: "stack" },
        field("html", "HTML", source, "Beside the text, or in its place. Styles are put where mail programs look for them."),
        field("from", "From", from),
        h("label", { class: "check", for: "unsubscribe" }, unsubscribe, "With a link to unsubscribe"))),
    wrong.element,
    h("div", { class: "cluster" }, button, h("span", { class: "soft small" }, "You are asked once more. It goes on when you close this page.")));

  const faults = new Faults({ to, email: to, name: to, subject, text: body, html: source, from }, wrong, {
    subject: "Give the mail a subject.",
  });

  function content() {
    const wanted = { subject: subject.value };
    for (const [name, control] of [["text", body], ["html", source], ["from", from]]) {
      if (control.value.trim()) wanted[name] = control.value;
    }
    if (!unsubscribe.checked) wanted.unsubscribe = false;
    return wanted;
  }

  function complain(problem) {
    if (left) return;
    if (problem.status === 401) {
      signedOut();
      return;
    }
    faults.show(problem, problem.status === 403 ? "submit:mail" : "");
  }

  async function show() {
    const [first = { email: "anna@example.com", name: "Anna" }] = recipients(to.value);
    if (!subject.value.trim() || !(body.value.trim() || source.value.trim())) {
      preview.empty();
      return;
    }
    try {
      const made = await post("/api/mail/preview", { ...content(), recipient: first });
      if (!left) preview.show(made);
    } catch (problem) {
      if (!left) preview.fail(problem);
    }
  }

  form.addEventListener("input", () => {
    key = crypto.randomUUID(); // another mail, another job
    const values = Object.fromEntries([to, subject, from, body, source].map((one) => [one.name, one.value]));
    sessionStorage.setItem(DRAFT, JSON.stringify(values));
    clearTimeout(timer);
    timer = setTimeout(show, STILL_MS);
  });

  file.addEventListener("change", async () => {
    uploaded = null;
    const [chosen] = file.files;
    text(fileName, chosen ? `Uploading ${chosen.name}…` : "");
    if (!chosen) return;
    faults.clear(); // of the addresses too, in whose place it counts
    try {
      const response = await fetch(`/api/uploads?name=${encodeURIComponent(chosen.name)}`, {
        method: "POST", credentials: "same-origin", headers: { "Content-Type": "application/octet-stream" }, body: chosen,
      });
      const answer = await response.json();
      if (!response.ok) throw new Problem(response.status, answer);
      const { id } = answer.uploads?.[0] ?? answer;
      uploaded = { id, name: chosen.name };
      text(fileName, `${chosen.name}, ${count(chosen.size)} bytes, is there. It counts in place of the addresses above.`);
    } catch (problem) {
      text(fileName, "");
      file.value = "";
      complain(problem);
    }
  });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    faults.clear();
    const list = recipients(to.value);
    if (!uploaded && !list.length) {
      faults.tell("to", "Give an address, or choose a list.");
      return;
    }
    const whom = uploaded ? `everybody in ${uploaded.name}` : list.length === 1 ? list[0].email : `${count(list.length)} recipients`;
    const send = h("button", { class: "button main", type: "button" }, "Send it");
    const dialog = openDialog("Send this mail?", h("div", { class: "dialog-body" },
      h("p", {}, h("strong", {}, subject.value), ", to ", h("strong", {}, whom), "."),
      h("p", { class: "soft" }, "What was sent cannot be taken back. What was not can be paused and cancelled."),
      h("div", { class: "cluster" }, send, h("button", { class: "button", type: "button", onclick: () => dialog.close() }, "Not yet"))));
    dialog.classList.add("slim");
    send.focus();
    send.addEventListener("click", async () => {
      send.disabled = true;
      try {
        const params = { ...content(), to: uploaded ? { upload: uploaded.id } : list };
        const job = await post("/api/jobs", { type: "mail", params, key });
        sessionStorage.removeItem(DRAFT);
        dialog.close();
        go(`/mail/${job.id}`);
      } catch (problem) {
        dialog.close();
        complain(problem);
      }
    });
  });

  for (const [name, value] of Object.entries(JSON.parse(sessionStorage.getItem(DRAFT) ?? "{}"))) {
    const control = form.elements.namedItem(name);
    if (control) control.value = value;
  }
  if (source.value || from.value) source.closest("details").open = true;

  const recent = h("section", { class: "stack tight", "aria-label": "Mails" });
  get(`/api/jobs?mine=1&type=mail&parent=none&limit=${RECENT}`).then(({ jobs }) => {
    const whole = jobs.map((job) => ({ ...job, path: `/mail/${job.id}` }));
    if (left || !whole.length) return;
    fill(recent, h("h2", {}, "Your latest mails"), h("div", { class: "panel flush" }, jobList(whole)));
  }).catch((problem) => problem.status === 401 && signedOut());

  const suppressed = suppressionList();
  fill(main,
    h("div", {},
      h("h1", {}, "Mail"),
      h("p", { class: "lead" }, "One notification, or a newsletter to thousands: each recipient gets it once, and you see who has it.")),
    h("div", { class: "mail-desk" }, form, preview.element),
    recent,
    suppressed.element);
  show();
  suppressed.load();
  return () => {
    left = true;
    clearTimeout(timer);
  };
}
