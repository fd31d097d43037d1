/** Topics and patterns, as msgd.messages.topics has them: `*` is one word, `#` any number of words. */

const PATTERN = /^(?:[A-Za-z0-9_-]+|\*|#)(?:\.(?:[A-Za-z0-9_-]+|\*|#))*$/;

export const isPattern = (text) => /[*#]/.test(text);
export const isTopicOrPattern = (text) => text.length <= 200 && PATTERN.test(text);

/** Whether `pattern` matches `topic`; of a pattern as `topic`: whether it covers it. */
export function matches(pattern, topic) {
  const wanted = pattern.split(".");
  const words = topic.split(".");
  // Which places of the pattern can be reached after each word: no backtracking, however many # there are.
  let places = reach(wanted, new Set([0]));
  for (const word of words) {
    const next = new Set();
    for (const place of places) {
      if (wanted[place] === "#") next.add(place);
      else if (wanted[place] === word || (wanted[place] === "*" && word !== "#")) next.add(place + 1);
    }
    places = reach(wanted, next);
  }
  return places.has(wanted.length);
}

function reach(wanted, places) {
  for (const place of places) if (wanted[place] === "#") places.add(place + 1);
  return places;
}

/** Whether one of a token's rights covers `pattern` for `action`. */
export function may(session, action, pattern) {
  return session.can.some((right) => {
    const [given, covered] = right.split(":");
    return (given === action || given === "admin") && matches(covered, pattern);
  });
}

/** The part of `app.#` that a session may read, and what is addressed to its user: as few patterns as possible. */
export function notificationPatterns(session) {
  const found = new Set([`${session.topic}.#`]);
  for (const right of session.can) {
    const [action, pattern] = right.split(":");
    if (action !== "subscribe" && action !== "admin") continue;
    const [first, ...rest] = pattern.split(".");
    if (matches(pattern, "app.#")) found.add("app.#");
    else if (first === "app" || first === "*") found.add(["app", ...rest].join("."));
    else if (first === "#") found.add(["app", "#", ...rest].join("."));
  }
  const all = [...found];
  return all.filter((one) => !all.some((other) => other !== one && matches(other, one)));
}

/** The topic of a user, whose name may hold any characters: what a word cannot hold becomes `_xx` in hex. */
export function userTopic(sub) {
  const bytes = new TextEncoder().encode(sub);
  const escaped = Array.from(bytes, (byte) => {
    const character = String.fromCharCode(byte);
    return /[A-Za-z0-9-]/.test(character) ? character : `_${byte.toString(16).padStart(2, "0")}`;
  });
  return `user.${escaped.join("")}`;
}
