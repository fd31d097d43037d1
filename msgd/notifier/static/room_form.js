/** Making a room, or changing one, in a dialog. */

import { post, put } from "/static/api.js";
import { openDialog } from "/static/dialog.js";
import { h, text } from "/static/dom.js";
import { Faults } from "/static/faults.js";
import { Notice } from "/static/problem.js";

/** A name that can stand in a topic, from a title in any language. */
function nameOf(title) {
  const plain = title.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase();
  return plain.replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40).replace(/-+$/, "");
}

const namesIn = (value) => [...new Set(value.split(/[\n,]/).map((one) => one.trim()).filter(Boolean))];

/** @param {{context: any, room?: any, done: (room: any) => void}} options `room`: the one to change */
export function openRoomForm({ context, room = null, done }) {
  const wrong = new Notice();
  const title = h("input", { id: "room-title", maxlength: 200, autocomplete: "off", dir: "auto" });
  const name = h("input", { id: "room-name", class: "mono", maxlength: 80, autocomplete: "off", autocapitalize: "off", spellcheck: "false", "aria-describedby": "room-name-hint" });
  const topic = h("code", {}, "room.…");
  const description = h("textarea", { id: "room-description", rows: 2, dir: "auto" });
  const open = h("input", { type: "radio", name: "private", value: "" });
  const closed = h("input", { type: "radio", name: "private", value: "1" });
  const members = h("textarea", { id: "room-members", class: "mono", rows: 3, spellcheck: "false", autocapitalize: "off" });
  const button = h("button", { class: "button main", type: "submit" }, room ? "Save" : "Make the room");
  const faults = new Faults({ title, name, description, members }, wrong);
  let own = Boolean(room); // the name is no longer made from the title

  title.value = room?.title ?? "";
  name.value = room?.name ?? "";
  name.disabled = Boolean(room);
  description.value = room?.description ?? "";
  (room?.private ? closed : open).checked = true;
  members.value = (room?.members ?? []).join("\n");
  const showTopic = () => text(topic, `room.${name.value || "…"}`);
  title.addEventListener("input", () => {
    if (!own) name.value = nameOf(title.value);
    showTopic();
  });
  name.addEventListener("input", () => {
    own = name.value !== "";
    showTopic();
  });
  showTopic();

  async function save(event) {
    event.preventDefault();
    faults.clear();
    const wanted = { title: title.value.trim(), description: description.value.trim(), private: closed.checked };
    const asked = namesIn(members.value);
    // Members come and go while the form is open: they are only replaced where the list was changed here.
    if (!room || asked.join() !== (room.members ?? []).join()) wanted.members = asked;
    if (!room && !name.value.trim()) {
      faults.tell("name", "Give the room a name: letters, digits, _ and -.");
      return;
    }
    button.disabled = true;
    try {
      const made = room ? await put(`/api/rooms/${room.name}`, wanted) : await post("/api/rooms", { name: name.value.trim(), ...wanted });
      dialog.close();
      done(made);
    } catch (problem) {
      if (problem.status === 401) {
        dialog.close();
        context.signedOut();
      } else {
        faults.show(problem, problem.status === 403 ? `publish:room.${name.value.trim()}` : "");
      }
    } finally {
      button.disabled = false;
    }
  }

  const dialog = openDialog(room ? "Change the room" : "New room",
    h("form", { class: "dialog-body", novalidate: true, onsubmit: save },
      h("div", { class: "field" }, h("label", { for: "room-title" }, "Title"), title),
      h("div", { class: "field" },
        h("label", { for: "room-name" }, "Name"), name,
        h("p", { class: "hint", id: "room-name-hint" }, "Letters, digits, _ and -. Its topic is ", topic, ".")),
      h("div", { class: "field" }, h("label", { for: "room-description" }, "What it is for"), description),
      h("fieldset", {},
        h("label", { class: "check" }, open, "Public: who may read rooms may join"),
        h("label", { class: "check" }, closed, "Private: members only")),
      h("div", { class: "field" }, h("label", { for: "room-members" }, "Members, one a line"), members),
      wrong.element,
      h("div", { class: "cluster" }, button)));
  dialog.classList.add("slim");
  title.focus();
  return dialog;
}
