/** The connection's state, always in view: live and over what, or when it is tried again. */

import { Connection } from "/msgd.js";
import { announce } from "/static/announce.js";
import { text } from "/static/dom.js";

const WORDS = { connecting: "Connecting…", online: "Live", closed: "Not connected", refused: "Signed out" };
const TRANSPORTS = { websocket: "WebSocket", sse: "Event stream", longpoll: "Long-poll" };

/**
 * A connection whose state is shown.
 * @param {{refused: () => void, expiring: () => void}} options
 */
export function shownConnection({ refused, expiring }) {
  const box = document.getElementById("line-box");
  const connection = new Connection();
  let ticking = 0;
  let was = "";
  const tell = () => {
    clearTimeout(ticking);
    const { status } = connection;
    box.dataset.status = status === "waiting" ? "offline" : status;
    const seconds = Math.ceil((connection.retryAt - Date.now()) / 1000);
    const by = TRANSPORTS[connection.transport] ?? "";
    text(document.getElementById("line-by"), status === "online" ? by : "");
    if (status === "waiting") {
      text(document.getElementById("line"), seconds > 1 ? `Retrying in ${seconds} s` : "Reconnecting…");
      ticking = setTimeout(tell, 1000);
      if (was === "online") announce("The connection is lost; it is tried again.");
    } else {
      text(document.getElementById("line"), WORDS[status] ?? status);
      if (status === "online" && was === "waiting") announce("Live again.");
    }
    if (status !== "connecting") was = status;
    if (status === "refused") refused();
  };
  connection.addEventListener("status", tell);
  connection.addEventListener("expiring", () => expiring());
  tell();
  return connection;
}
