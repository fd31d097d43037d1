/**
 * What a recipient will see. The HTML of a mail is shown by `/static/mail_preview.html`, in a frame with an origin and a
 * policy of its own (sandbox): it has styles, and can neither run a script nor reach this page or its cookie.
 */

import { fill, h, text } from "/static/dom.js";
import { explain } from "/static/problem.js";

export class Preview {
  constructor() {
    this.frame = null;
    this.html = "";
    this.ready = false;
    this.note = h("p", { class: "soft small", role: "status" });
    this.head = h("dl", { class: "mail-head" });
    this.plain = h("pre", { class: "mail-text" });
    this.stage = h("div", { class: "mail-stage" });
    this.element = h("section", { class: "panel stack tight mail-preview", "aria-label": "Preview" },
      h("h2", {}, "Preview"), this.note, this.head, this.stage, this.plain);
    window.addEventListener("message", (event) => {
      if (this.frame && event.source === this.frame.contentWindow && event.data === "ready") {
        this.ready = true;
        this.send();
      }
    });
    this.empty();
  }

  empty() {
    text(this.note, "Give a subject and a text, and the first recipient's mail appears here.");
    fill(this.head);
    this.only("");
    text(this.plain, "");
    this.plain.hidden = true;
  }

  fail(problem) {
    const { message } = explain(problem);
    text(this.note, `No preview: ${message}`);
  }

  /** @param {{subject: string, text: string, html: string, headers: string[][], bytes: number}} made */
  show(made) {
    text(this.note, "");
    const shown = made.headers.filter(([name]) => ["from", "to", "subject", "list-unsubscribe"].includes(name.toLowerCase()));
    fill(this.head, ...shown.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
    this.only(made.html);
    text(this.plain, made.text);
    this.plain.hidden = Boolean(made.html);
  }

  only(html) {
    this.html = html;
    if (!html) {
      this.frame = null;
      this.ready = false;
      fill(this.stage);
    } else if (!this.frame) {
      this.frame = h("iframe", { class: "mail-frame", title: "The mail", src: "/static/mail_preview.html", sandbox: "allow-scripts", referrerpolicy: "no-referrer" });
      fill(this.stage, this.frame);
    } else {
      this.send();
    }
  }

  send() {
    // Its origin is opaque, so that there is no name by which to address it.
    if (this.ready) this.frame.contentWindow.postMessage({ html: this.html }, "*");
  }
}
