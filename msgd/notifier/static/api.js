/** Calls to the HTTP API. Errors are Problems, made from the server's problem documents (RFC 9457). */

export class Problem extends Error {
  /** @param {number} status 0: the server could not be reached @param {number} retryAfter seconds, if the server says */
  constructor(status, document = {}, retryAfter = 0) {
    super(document.detail || document.title || "The server could not be reached. Try again in a moment.");
    this.status = status;
    this.code = document.code || "";
    this.where = document.where || "";
    this.retryAfter = retryAfter;
  }
}

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body] sent as JSON
 * @returns {Promise<any>}
 */
export async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      credentials: "same-origin",
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Problem(0);
  }
  if (response.status === 204) return null;
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, content, Number(response.headers.get("Retry-After")) || 0);
  return content;
}

export const get = (path) => call("GET", path);
export const post = (path, body) => call("POST", path, body);
export const put = (path, body) => call("PUT", path, body);
export const remove = (path) => call("DELETE", path);
export const jobPath = (id, more = "") => `/api/jobs/${encodeURIComponent(id)}${more}`;
