/** What stands above a talk: which room it is, who is there, joining and leaving. */

import { call, get, remove } from "/static/api.js";
import { openDialog } from "/static/dialog.js";
import { fill, h, text } from "/static/dom.js";
import { count } from "/static/format.js";
import { Notice } from "/static/problem.js";
import { openRoomForm } from "/static/room_form.js";

const NAMES = 5; // shown beside the title; all are in the dialog

export class RoomHead {
  /**
   * @param {{context: any, word: string, changed: () => void, gone: () => void, missing: () => void}} options
   *   `missing`: there is no such room, though its topic may be talked on
   */
  constructor({ context, word, changed, gone, missing }) {
    this.context = context;
    this.word = word;
    this.changed = changed;
    this.gone = gone;
    this.missing = missing;
    this.room = null;
    this.here = [];
    this.left = false;
    this.isRoom = !word.startsWith("@");
    this.title = h("bdi", {}, this.isRoom ? context.talks.rooms.get(word)?.title || word : word.slice(1));
    this.about = h("p", { class: "soft small cut", dir: "auto" }, this.isRoom ? "" : "Direct messages: the two of you");
    this.present = h("button", { class: "button quiet small talk-present", type: "button", hidden: true, onclick: () => this.openPeople() });
    this.join = h("button", { class: "button small", type: "button", hidden: true, onclick: () => this.member(true) }, "Join");
    this.edit = h("button", { class: "button small", type: "button", hidden: true, onclick: () => this.change() }, "Change");
    this.leave = h("button", { class: "button quiet small", type: "button", hidden: true, onclick: () => this.member(false) }, "Leave");
    this.wrong = new Notice();
    this.element = h("header", { class: "talk-bar" },
      h("a", { class: "button quiet small talk-back", href: "/rooms", "data-nav": true, "aria-label": "All rooms" }, "←"),
      h("div", { class: "talk-name" }, h("h2", { class: "cut" }, this.title), this.about),
      h("div", { class: "cluster" }, this.present, this.join, this.edit, this.leave),
      this.wrong.element);
    if (this.isRoom) this.begin();
  }

  close() {
    this.left = true;
  }

  async begin() {
    try {
      this.show(await get(this.path()));
    } catch (problem) {
      // A topic may be talked on without a room; what else is wrong the talk itself says.
      if (problem.status === 401) this.context.signedOut();
      else if (problem.status === 404 && !this.left) {
        text(this.about, "A topic without a room: its rights alone say who may read.");
        this.missing();
      }
    }
  }

  path(more = "") {
    return `/api/rooms/${encodeURIComponent(this.word)}${more}`;
  }

  show(room) {
    if (this.left) return;
    this.room = room;
    const me = this.context.session.sub;
    const member = room.member ?? room.members?.includes(me);
    text(this.title, room.title || room.name);
    text(this.about, [room.private ? "Private" : "Public", room.description].filter(Boolean).join(" · "));
    this.about.title = room.description ?? "";
    this.join.hidden = member || room.private;
    this.leave.hidden = !member || room.owner === me;
    this.edit.hidden = room.owner !== me;
  }

  /** @param {{members: string[], count: number}} presence */
  showPresent({ members, count: number }) {
    this.here = members;
    this.present.hidden = number === 0;
    const names = members.slice(0, NAMES);
    fill(this.present, h("span", { class: "talk-dot" }), h("span", { class: "cut" },
      h("span", { class: "talk-names" }, ...names.flatMap((name, index) => [index ? ", " : "", h("bdi", {}, name)]), number > names.length ? ` and ${count(number - names.length)}` : "", " · "),
      `${count(number)} here`));
  }

  openPeople() {
    const list = (title, names) => names.length > 0 && h("div", {},
      h("h3", { class: "small soft" }, title),
      h("ul", { class: "people" }, ...names.map((name) => h("li", {}, h("bdi", { class: "cut" }, name),
        name !== this.context.session.sub && h("button", { class: "button quiet small", type: "button", "aria-label": `Write to ${name}`, onclick: () => {
          dialog.close();
          this.context.go(`/rooms/${encodeURIComponent(`@${name}`)}`);
        } }, "Write")))));
    const dialog = openDialog("Who is here", h("div", { class: "dialog-body" },
      list("Here now", this.here),
      list("Members", this.room?.members ?? [])));
    dialog.classList.add("slim");
  }

  // -- what one does -------------------------------------------------------------------------------------------------

  async member(on) {
    this.wrong.clear();
    this.join.disabled = this.leave.disabled = true;
    try {
      await call(on ? "PUT" : "DELETE", this.path(`/members/${encodeURIComponent(this.context.session.sub)}`));
      this.changed();
      if (!on && this.room?.private) return this.gone();
      this.show(await get(this.path()));
    } catch (problem) {
      if (problem.status === 401) this.context.signedOut();
      else this.wrong.show(problem, problem.status === 403 ? `subscribe:room.${this.word}` : "");
    } finally {
      this.join.disabled = this.leave.disabled = false;
    }
    return undefined;
  }

  change() {
    const form = openRoomForm({ context: this.context, room: this.room, done: async (room) => {
      this.show({ ...this.room, ...room });
      this.changed();
    } });
    form.querySelector(".dialog-body > .cluster").append(
      h("button", { class: "button danger push", type: "button", onclick: () => this.askDelete(form) }, "Delete the room"));
  }

  askDelete(form) {
    const wrong = new Notice();
    const dialog = openDialog("Delete the room?", h("div", { class: "dialog-body" },
      h("p", {}, "The room and all that was said in it go, for everybody."),
      wrong.element,
      h("div", { class: "cluster" },
        h("button", { class: "button danger", type: "button", onclick: async () => {
          try {
            await remove(this.path());
            dialog.close();
            form.close();
            this.changed();
            this.gone();
          } catch (problem) {
            wrong.show(problem);
          }
        } }, "Delete it"),
        h("button", { class: "button", type: "button", onclick: () => dialog.close() }, "Keep it"))));
    dialog.classList.add("slim");
  }
}
