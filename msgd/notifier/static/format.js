/** Numbers, times and names as people read them. */

const number = new Intl.NumberFormat();
const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

export const count = (value) => number.format(value ?? 0);
export const moment = (value) => (value ? dateTime.format(new Date(value)) : "");

/** `3 minutes ago`, `in 2 hours`; days and more as a date. */
export function ago(value, now = Date.now()) {
  const seconds = (new Date(value).getTime() - now) / 1000;
  const size = Math.abs(seconds);
  if (size < 45) return relative.format(0, "second");
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

/** What a job is about, in one line. */
export function title(job) {
  const params = job.params ?? {};
  return String(params.url || params.subject || params.to || `${job.type} ${job.id}`);
}

/** The kinds of criteria. */
export const KINDS = { regex: "Pattern", css: "CSS selector", xpath: "XPath", text: "Text" };

export const STATES = {
  queued: "Queued",
  running: "Running",
  waiting: "Waiting",
  done: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
  cancelling: "Cancelling…",
};

export const isEnded = (state) => state === "done" || state === "failed" || state === "cancelled";
