/** Numbers, times and names as people read them. */

const number = new Intl.NumberFormat();
const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

export const count = (value) => number.format(value ?? 0);

/** `1 page`, `1,000 pages`. @param {string} noun of many, that loses its last letter for one, or of both `one|many` */
export function counted(value, noun) {
  const [one, many] = noun.includes("|") ? noun.split("|") : [noun.slice(0, -1), noun];
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** `1.4 MB` */
export function bytes(value) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (value >= size) return `${(value / size).toLocaleString(undefined, { maximumFractionDigits: value >= 100 * size ? 0 : 1 })} ${unit}`;
  }
  return `${count(value)} bytes`;
}

export const moment = (value) => (value ? dateTime.format(new Date(value)) : "");

/** `3 minutes ago`, `in 2 hours`, `in 7 seconds`; days and more as a date. What was within a minute is `now`. */
export function ago(value, now = Date.now()) {
  const seconds = (new Date(value).getTime() - now) / 1000;
  const size = Math.abs(seconds);
  if (size < 45) return relative.format(Math.max(0, Math.ceil(seconds)), "second");
  if (size < 3600) return relative.format(Math.round(seconds / 60), "minute");
  if (size < 86400) return relative.format(Math.round(seconds / 3600), "hour");
  return moment(value);
}

/** `1:05`, `2:03:09` */
export function duration(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const two = (part) => String(part).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const rest = `${hours ? two(Math.floor((seconds % 3600) / 60)) : Math.floor(seconds / 60)}:${two(seconds % 60)}`;
  return hours ? `${hours}:${rest}` : rest;
}

/** A mail's subject, with the variables that are the same for all whom its params name. */
function subject({ subject, to }) {
  return subject.replace(/\{\{ *(\w+) *\}\}/g, (variable, name) => {
    const values = new Set(Array.isArray(to) ? to.map((one) => one.vars?.[name] ?? one[name]) : []);
    return values.size === 1 ? [...values][0] ?? variable : variable;
  });
}

/** What a job is about, in one line. */
export function title(job) {
  const params = job.params ?? {};
  const named = params.url || (params.subject && subject(params)) || params.to;
  if (job.type === "webhook" && params.event) return `${params.event} to ${params.url || `endpoint ${params.endpoint}`}`;
  if (job.type === "thumbnail" && params.upload) return `Pictures of ${params.name || `upload ${params.upload}`}`;
  return String(named || `${job.type} ${job.id}`);
}

/** The kinds of criteria. */
export const KINDS = { regex: "Pattern", css: "CSS selector", xpath: "XPath", text: "Text" };

export const STATES = {
  queued: "Queued",
  retrying: "Retrying",
  running: "Running",
  waiting: "Waiting",
  done: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
  cancelling: "Cancelling…",
};

/** The state to show: a job between two tries is queued for msgd only. */
export const shownState = (job) => (job.state === "queued" && job.attempt > 0 ? "retrying" : job.state);

/** `next try at 12:03:04`, of a job between two tries; on another day with its date. Empty when the time has come. */
export function nextTry(job, now = Date.now()) {
  const due = new Date(job.not_before ?? 0);
  if (shownState(job) !== "retrying" || due.getTime() <= now) return "";
  const today = due.toDateString() === new Date(now).toDateString();
  return `next try at ${today ? clock.format(due) : moment(due)}`;
}

export const isEnded = (state) => state === "done" || state === "failed" || state === "cancelled";
