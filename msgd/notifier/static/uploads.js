/** The page of uploads: files sent from here, and the pictures that are made of them, as they are made. */

import { get } from "/static/api.js";
import { fill, h } from "/static/dom.js";
import { bytes, count, counted } from "/static/format.js";
import { Notice } from "/static/problem.js";
import { Sender } from "/static/upload_sender.js";
import { UploadCard } from "/static/upload_card.js";

const PAGE = 50;

export function uploadsPage({ main, connection, signedOut }) {
  document.title = "Uploads · msgd";
  let left = false;
  let limits = null;
  let used = { bytes: 0, files: 0 };
  let before = null;
  const cards = new Map(); // by upload id
  const sender = new Sender();
  const wrong = new Notice();
  const list = h("ul", { class: "uploads", "aria-label": "Uploads" });
  const empty = h("div", { class: "panel empty", hidden: true },
    h("h2", {}, "Nothing here yet"), "Drop some pictures above: you see them here as soon as they are ready.");
  const older = h("button", { class: "button", type: "button", hidden: true, onclick: () => load() }, "Show older ones");
  const field = h("input", {
    type: "file", id: "files", multiple: true, hidden: true,
    onchange: () => {
      take(field.files);
      field.value = "";
    },
  });
  const choose = h("button", { class: "button main", type: "button", id: "choose", onclick: () => field.click() }, "Choose files");
  const hint = h("p", { class: "hint", id: "upload-hint" });
  const meter = h("meter", { min: 0, high: 0.9, max: 1, "aria-label": "Storage used", hidden: true });
  const storage = h("span", { id: "upload-storage" });
  const zone = h("section", { class: "panel dropzone", "aria-label": "Send files" },
    h("p", { class: "dropzone-words" }, h("strong", {}, "Drop files here"), ", paste a picture, or"), choose, field, hint, h("p", { class: "hint storage" }, meter, storage));

  const settings = {
    connection,
    signedOut,
    removed: (card) => {
      if (card.upload) use(card.upload, -1);
      cards.delete(card.upload?.id);
      card.element.remove();
      show();
    },
  };

  function show() {
    empty.hidden = list.children.length > 0 || !limits;
    older.hidden = !before;
    if (!limits) return;
    hint.textContent = `JPEG, PNG, WebP, GIF, AVIF and HEIC become pictures; other files are kept as they are. Up to ${bytes(limits.file_bytes)} each.`;
    const { quota_bytes: most, quota_files: many, days } = limits;
    const share = Math.max(most ? used.bytes / most : 0, many ? used.files / many : 0);
    meter.hidden = !most && !many;
    meter.value = Math.min(share, 1);
    storage.textContent = [
      most ? `${bytes(used.bytes)} of ${bytes(most)} used` : `${bytes(used.bytes)} used`,
      many ? `${count(used.files)} of ${counted(many, "files")}` : counted(used.files, "files"),
      ...(days ? [`kept for ${counted(days, "days")}`] : []),
    ].join(", ");
  }

  function use(upload, sign) {
    used = { bytes: used.bytes + sign * upload.size, files: used.files + sign };
    show();
  }

  /** What the server would refuse, without sending it first. */
  function refusal(file) {
    const { file_bytes: most, quota_bytes: quota, quota_files: many } = limits ?? {};
    if (!file.size) return { words: "It is empty: a file of 0 bytes.", mayPass: false };
    if (file.size > most) return { words: `It has ${bytes(file.size)}; the limit is ${bytes(most)}.`, mayPass: false };
    const full = quota && used.bytes + file.size > quota ? `${bytes(used.bytes)} of ${bytes(quota)}`
      : many && used.files >= many ? `${count(used.files)} of ${counted(many, "files")}` : "";
    return { words: full && `There is no room for it: you have used ${full}. Delete some that you need no more.`, mayPass: true };
  }

  function take(files) {
    for (const file of files) {
      const card = new UploadCard(settings);
      list.prepend(card.element);
      card.send(file, sender, refusal, (upload) => {
        cards.set(upload.id, card);
        use(upload, 1);
      });
    }
    show();
  }

  async function load() {
    older.disabled = true;
    try {
      const page = await get(`/api/uploads?limit=${PAGE}${before ? `&before=${encodeURIComponent(before)}` : ""}`);
      if (left) return;
      wrong.clear();
      ({ limits, before, used } = page);
      for (const upload of page.uploads) {
        if (cards.has(upload.id)) continue; // sent from here meanwhile
        const card = new UploadCard(settings);
        cards.set(upload.id, card);
        list.append(card.element);
        card.show(upload);
      }
      show();
    } catch (problem) {
      if (left) return;
      if (problem.status === 401) signedOut();
      else wrong.show(problem);
    } finally {
      older.disabled = false;
    }
  }

  // -- dropped and pasted ----------------------------------------------------------------------------------------------

  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  const over = (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault(); // else the browser opens the file in place of the page
    zone.dataset.over = "";
  };
  const out = (event) => {
    if (!event.relatedTarget) delete zone.dataset.over;
  };
  const drop = (event) => {
    delete zone.dataset.over;
    if (!hasFiles(event)) return;
    event.preventDefault();
    take(event.dataTransfer.files);
  };
  const paste = (event) => event.clipboardData?.files.length && take(event.clipboardData.files);
  const online = () => limits || load();
  document.addEventListener("dragover", over);
  document.addEventListener("dragleave", out);
  document.addEventListener("drop", drop);
  document.addEventListener("paste", paste);
  connection.addEventListener("status", online);

  fill(main, h("h1", {}, "Uploads"), zone, wrong.element, empty, list, h("div", {}, older));
  load();
  return () => {
    left = true;
    document.removeEventListener("dragover", over);
    document.removeEventListener("dragleave", out);
    document.removeEventListener("drop", drop);
    document.removeEventListener("paste", paste);
    connection.removeEventListener("status", online);
    for (const card of list.children) card.close();
  };
}
