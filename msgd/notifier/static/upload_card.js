/** One upload on its page: on its way, waiting for its pictures, shown, or what went wrong with it. */

import { announce } from "/static/announce.js";
import { get, Problem, remove } from "/static/api.js";
import { fill, h, text } from "/static/dom.js";
import { bytes } from "/static/format.js";
import { explain, isFull, sentence } from "/static/problem.js";

const POLL_MS = 2000; // where nothing is pushed
const SHOWN = 480; // pixels of the picture that is shown: the smallest that has as many
const SURE_MS = 5000; // in which a second click deletes

/** What stands where there is no picture: what the file calls itself, else what it is. */
const kindOf = ({ name, type }) => /\.([A-Za-z0-9]{1,5})$/.exec(name)?.[1] ?? type.split("/").pop();

export class UploadCard {
  /** @param {{connection: any, signedOut: () => void, removed: (card: UploadCard) => void}} settings */
  constructor(settings) {
    Object.assign(this, settings);
    this.upload = null;
    this.pictures = new Map(); // by name
    this.subscription = null;
    this.timer = 0;
    this.sending = null;
    this.closed = false;
    this.frame = h("div", { class: "upload-frame", dataset: { state: "sending" } });
    this.name = h("bdi", { class: "upload-name" });
    this.note = h("p", { class: "upload-note" });
    this.links = h("p", { class: "upload-links" });
    this.bar = h("progress", { max: 1, value: 0, hidden: true });
    this.wrong = h("p", { class: "wrong", role: "alert", hidden: true });
    this.again = h("button", { class: "button small", type: "button", hidden: true, onclick: () => this.retry() }, "Try again");
    this.drop = h("button", { class: "button quiet small", type: "button", onclick: () => this.delete() }, "Delete");
    this.element = h("li", { class: "upload panel flush" },
      this.frame,
      h("div", { class: "upload-about" },
        this.name, this.bar, this.note, this.wrong, this.links, h("div", { class: "cluster" }, this.again, this.drop)));
    this.element.close = () => this.close();
  }

  // -- on its way ------------------------------------------------------------------------------------------------------

  /**
   * @param {File} file @param {any} sender @param {(file: File) => {words: string, mayPass: boolean}} refusal why not even to try
   * @param {(upload: any) => void} taken
   */
  async send(file, sender, refusal, taken) {
    this.retry = () => this.send(file, sender, refusal, taken);
    this.named(file.name);
    this.complain("");
    this.state("sending");
    text(this.note, bytes(file.size));
    text(this.drop, "Cancel");
    const { words, mayPass } = refusal(file);
    if (words) return this.refuse(words, mayPass);
    this.bar.hidden = false;
    this.bar.removeAttribute("value"); // until it is its turn
    this.sending = sender.send(file, (share) => {
      this.bar.value = share;
      text(this.note, share < 1 ? `${bytes(file.size)}, ${Math.floor(share * 100)} %` : "Being stored…");
    });
    try {
      const upload = await this.sending.done;
      this.sending = null;
      taken(upload);
      if (!this.closed) this.show(upload);
    } catch (problem) {
      this.sending = null;
      if (this.closed) return undefined;
      if (problem.status === 401) return this.signedOut();
      const { message, advice } = explain(problem, problem.status === 403 ? "submit:thumbnail" : "");
      text(this.note, bytes(file.size));
      this.refuse([message, ...advice], problem.status === 0 || problem.status === 429 || problem.status >= 500 || isFull(problem));
    }
    return undefined;
  }

  refuse(words, mayTryAgain = false) {
    this.bar.hidden = true;
    this.state("failed");
    this.complain(words);
    this.again.hidden = !mayTryAgain;
    text(this.drop, "Remove");
  }

  // -- its pictures ----------------------------------------------------------------------------------------------------

  show(upload) {
    this.upload = upload;
    this.named(upload.name);
    this.bar.hidden = true;
    this.again.hidden = true;
    text(this.drop, "Delete");
    text(this.note, `${upload.type}, ${bytes(upload.size)}`);
    for (const picture of upload.pictures) this.pictures.set(picture.name, picture);
    if (!upload.job) {
      this.state("kept");
      fill(this.frame, h("span", { class: "upload-kind" }, kindOf(upload)));
      this.link();
    } else if (this.isWhole()) {
      this.picture();
    } else {
      this.state("waiting");
      text(this.note, "Pictures are being made…");
      this.follow();
    }
  }

  isWhole() {
    return Object.keys(this.upload.urls).every((name) => name === "original" || this.pictures.has(name));
  }

  /** Hear of the pictures as they are made; where nothing is pushed, ask until they are there. */
  follow() {
    this.subscription = this.connection.subscribe(this.upload.topic, {
      since: "0",
      onState: (job) => this.ended(job),
      onEvent: (event) => {
        if (event.type === "thumbnail") {
          this.pictures.set(event.data.name, event.data);
          if (this.isWhole()) this.made();
        } else if (event.type === "failed") {
          this.failed(event.data.message);
        } else if (event.type === "cancelled") {
          this.failed("It was cancelled.");
        } else if (event.type === "done") {
          this.made();
        }
      },
      onError: () => this.poll(), // too many at once, perhaps
    });
    this.timer = setTimeout(() => this.look(), POLL_MS);
  }

  ended(job) {
    if (job.state === "failed") this.failed(job.error?.message ?? "The pictures could not be made.");
    else if (job.state === "cancelled") this.failed("It was cancelled.");
  }

  look() {
    const { status, transport } = this.connection;
    if (status === "online" && transport !== "longpoll") this.timer = setTimeout(() => this.look(), POLL_MS);
    else this.poll();
  }

  /** 404 until it is there. */
  async poll() {
    clearTimeout(this.timer);
    if (this.closed || !this.isPending()) return;
    let again = POLL_MS;
    try {
      const response = await fetch(this.upload.urls[Object.keys(this.upload.urls)[0]], { credentials: "same-origin" });
      if (response.ok) {
        const upload = await get(`/api/uploads/${encodeURIComponent(this.upload.id)}`);
        for (const picture of upload.pictures) this.pictures.set(picture.name, picture);
        if (!this.closed) this.made();
        return;
      }
      if (response.status === 401) return this.signedOut();
      const document = await response.json().catch(() => ({}));
      if (response.status === 410) return this.failed(document.detail);
      if (response.status === 404 && document.code !== "not-ready") return this.failed("It has been deleted.");
      again = (Number(response.headers.get("Retry-After")) || 0) * 1000 || POLL_MS;
    } catch { /* the server is away: it is asked again */ }
    if (!this.closed) this.timer = setTimeout(() => this.look(), again);
    return undefined;
  }

  isPending() {
    return this.frame.dataset.state === "waiting";
  }

  made() {
    if (!this.isPending()) return;
    this.rest();
    this.picture();
    announce(`${this.upload.name}: its pictures are there`);
  }

  picture() {
    const by = [...this.pictures.values()].sort((one, other) => one.width * one.height - other.width * other.height);
    const shown = by.find((one) => Math.max(one.width, one.height) >= SHOWN) ?? by.at(-1);
    if (!shown) return this.failed("There are no pictures of it.");
    this.state("shown");
    const image = h("img", { src: shown.url, width: shown.width, height: shown.height, alt: this.upload.name, decoding: "async" });
    fill(this.frame, image);
    text(this.note, `${this.upload.type}, ${bytes(this.upload.size)}`);
    this.link();
    return undefined;
  }

  link() {
    const names = Object.entries(this.upload.urls).filter(([name]) => name === "original" || this.pictures.has(name));
    fill(this.links, ...names.map(([name, url]) => {
      const picture = this.pictures.get(name);
      const title = picture ? `${picture.width} × ${picture.height}, ${bytes(picture.bytes)}` : bytes(this.upload.size);
      return h("a", { href: url, target: "_blank", rel: "noopener", title }, name);
    }));
  }

  failed(message) {
    if (!this.isPending()) return;
    this.rest();
    this.state("failed");
    text(this.note, `${this.upload.type}, ${bytes(this.upload.size)}`);
    const prefix = `${this.upload.name}: `; // it stands above
    this.complain(sentence(message.replace(prefix, "")));
    this.link();
  }

  // -- what all of it takes --------------------------------------------------------------------------------------------

  named(name) {
    text(this.name, name);
    this.name.title = name;
  }

  state(state) {
    this.frame.dataset.state = state;
    if (state !== "shown" && state !== "kept") fill(this.frame);
  }

  complain(words) {
    this.wrong.hidden = !words.length;
    fill(this.wrong, ...(Array.isArray(words) ? words.flatMap((one, at) => (at ? [" ", one] : [one])) : [words]));
  }

  async delete() {
    if (!this.upload) {
      this.sending?.cancel();
      return this.gone();
    }
    if (!this.drop.dataset.sure) {
      this.drop.dataset.sure = "1";
      text(this.drop, "Really delete?");
      setTimeout(() => {
        delete this.drop.dataset.sure;
        text(this.drop, "Delete");
      }, SURE_MS);
      return undefined;
    }
    this.drop.disabled = true;
    try {
      await remove(`/api/uploads/${encodeURIComponent(this.upload.id)}`);
    } catch (problem) {
      if (problem.status === 401) return this.signedOut();
      if (!(problem instanceof Problem) || problem.status !== 404) {
        this.drop.disabled = false;
        return this.complain(problem.message);
      }
    }
    return this.gone();
  }

  gone() {
    this.close();
    this.removed(this);
  }

  /** Nothing more is waited for. */
  rest() {
    clearTimeout(this.timer);
    this.subscription?.close();
    this.subscription = null;
  }

  close() {
    this.closed = true;
    this.rest();
  }
}
