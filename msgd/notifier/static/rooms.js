/** The page of rooms: the list on one side, the talk that is chosen on the other; on phones one of the two. */

import { openDialog } from "/static/dialog.js";
import { fill, h, renew, text } from "/static/dom.js";
import { Notice } from "/static/problem.js";
import { openRoomForm } from "/static/room_form.js";
import { RoomHead } from "/static/room_head.js";
import { Talk } from "/static/talk.js";

const MOST = 99;

export const talkPath = (word) => `/rooms/${encodeURIComponent(word)}`;

export function roomsPage(context, word) {
  const { main, talks, session, go, signedOut } = context;
  const wrong = new Notice();
  const rooms = h("ul", { class: "list", "aria-label": "Rooms" });
  const people = h("ul", { class: "list", "aria-label": "Direct messages" });
  const search = h("input", { type: "search", class: "small", placeholder: "Find a room", "aria-label": "Find a room or a person", autocomplete: "off", oninput: () => showList() });
  const side = h("section", { class: "panel flush talks", "aria-label": "Rooms and people" },
    h("div", { class: "talks-bar" },
      search,
      h("button", { class: "button small", type: "button", id: "new-room", onclick: () => openRoomForm({ context, done: (room) => opened(room.name) }) }, "New room")),
    wrong.element,
    rooms,
    h("div", { class: "talks-bar talks-people" },
      h("h2", {}, "Direct messages"),
      h("button", { class: "button small", type: "button", id: "new-message", onclick: () => askWhom(session, (sub) => go(talkPath(`@${sub}`))) }, "Write to")),
    people);
  const place = h("section", { class: "panel flush talk-place", "aria-label": "Talk" });
  let talk = null;
  let head = null;
  let left = false;

  // -- the list ------------------------------------------------------------------------------------------------------

  function item(one) {
    const unread = talks.unread.get(one.word) ?? 0;
    return h("li", {},
      h("a", { class: "talks-row", href: talkPath(one.word), "data-nav": true, ...(one.word === word && { "aria-current": "page" }) },
        h("span", { class: "cut", title: one.title }, h("bdi", {}, one.title)),
        one.note && h("span", { class: "soft small talks-note" }, one.note),
        unread > 0 && h("span", { class: "badge" }, unread > MOST ? `${MOST}+` : unread, h("span", { class: "hidden-label" }, " unread"))));
  }

  function showList() {
    const wanted = search.value.trim().toLowerCase();
    const focused = document.activeElement?.closest?.(".talks-row")?.getAttribute("href");
    const all = [...talks.rooms.values()].filter((room) => `${room.title}\n${room.name}`.toLowerCase().includes(wanted));
    all.sort((one, other) => Number(other.member) - Number(one.member) || (one.title || one.name).localeCompare(other.title || other.name));
    const list = all.map((room) => item({
      word: room.name,
      title: room.title || room.name,
      note: [room.private ? "private" : room.member ? "" : "not joined", room.present ? `${room.present} here` : ""].filter(Boolean).join(" · "),
    }));
    if (list.length) renew(rooms, ...list);
    else if (talks.loaded) renew(rooms, h("li", { class: "talks-none soft" }, wanted ? "No such room." : "No rooms yet. Make the first one."));
    else renew(rooms, h("li", { class: "talks-none soft" }, talks.problem ? "" : "Loading…"));
    const known = [...new Set([...talks.peers, ...(word.startsWith("@") ? [word.slice(1)] : [])])].sort((one, other) => one.localeCompare(other));
    const shown = known.filter((sub) => sub.toLowerCase().includes(wanted)).map((sub) => item({ word: `@${sub}`, title: sub }));
    if (shown.length) renew(people, ...shown);
    else renew(people, h("li", { class: "talks-none soft" }, "Nobody has written yet."));
    if (focused && !side.contains(document.activeElement)) side.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
    if (talks.problem?.status === 401) signedOut();
    else if (talks.problem) wrong.show(talks.problem);
    else wrong.clear();
  }

  function opened(name) {
    talks.load().catch(() => {});
    go(talkPath(name));
  }

  // -- the talk ------------------------------------------------------------------------------------------------------

  function showTalk() {
    const isRoom = !word.startsWith("@");
    const name = isRoom ? talks.rooms.get(word)?.title || word : word.slice(1);
    document.title = `${name} · msgd`;
    head = new RoomHead({ context, word, changed: () => talks.load().catch(() => {}), gone: () => go("/rooms"), missing });
    talk = new Talk({ context, word, name, present: (presence) => head.showPresent(presence), changed: () => head.begin() });
    fill(place, head.element, talk.element);
    if (matchMedia("(min-width: 52.01rem)").matches) talk.composer.field.focus({ preventScroll: true });
  }

  /** No such room: only where something was said on its topic all the same is there a talk to show. */
  async function missing() {
    await talk.begun;
    const shown = talk?.messages.entries.length || !talk?.wrong.element.hidden;
    if (left || shown) return;
    talk.close();
    head.close();
    talk = head = null;
    document.title = "Rooms · msgd";
    fill(place, h("div", { class: "empty stack" },
      h("div", {}, h("h2", {}, "There is no such room"), "It was deleted, or it is not yours to see."),
      h("div", {}, h("a", { class: "button main", href: "/rooms", "data-nav": true }, "All rooms"))));
  }

  main.classList.add("filled");
  main.dataset.talk = word ? "open" : "";
  const heading = h("h1", {}, "Rooms");
  fill(main, heading, h("div", { class: "talk-page" }, side, place));
  if (word) showTalk();
  else {
    fill(place, h("div", { class: "empty" },
      h("h2", {}, "Choose a room"),
      h("p", {}, "Or write to somebody. What is said is kept: who comes later reads it all.")));
  }
  talks.addEventListener("change", showList);
  showList();
  talks.load().catch(() => {});
  return () => {
    left = true;
    main.classList.remove("filled");
    delete main.dataset.talk;
    talks.removeEventListener("change", showList);
    talk?.close();
    head?.close();
  };
}

/** Ask whom a direct message goes to. */
function askWhom(session, chosen) {
  const field = h("input", { id: "whom", autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: 60, required: true, "aria-describedby": "whom-wrong" });
  const fault = h("p", { class: "wrong", id: "whom-wrong", role: "alert", hidden: true });
  const dialog = openDialog("Write to somebody",
    h("form", {
      class: "dialog-body", novalidate: true,
      onsubmit: (event) => {
        event.preventDefault();
        const sub = field.value.trim();
        fault.hidden = Boolean(sub) && sub !== session.sub;
        text(fault, sub ? "That is you." : "Whom? The name in their token.");
        if (!fault.hidden) return;
        dialog.close();
        chosen(sub);
      },
    },
    h("div", { class: "field" }, h("label", { for: "whom" }, "Name"), field, fault),
    h("div", { class: "cluster" }, h("button", { class: "button main", type: "submit" }, "Write"))));
  dialog.classList.add("slim");
  field.focus();
}
