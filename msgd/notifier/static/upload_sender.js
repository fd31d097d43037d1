/** Files on their way to the server: a few at a time, each with its progress. */

import { Problem } from "/static/api.js";

const AT_ONCE = 3; // more do not make it faster, and each waits longer

export class Sender {
  constructor() {
    this.waiting = [];
    this.running = 0;
  }

  /**
   * @param {File} file
   * @param {(share: number) => void} progress 0 to 1
   * @returns {{done: Promise<any>, cancel: () => void}} what the server answers, or a Problem
   */
  send(file, progress) {
    const one = { file, progress, request: new XMLHttpRequest() };
    const done = new Promise((resolve, reject) => Object.assign(one, { resolve, reject }));
    this.waiting.push(one);
    this.next();
    return {
      done,
      cancel: () => {
        this.waiting = this.waiting.filter((other) => other !== one);
        one.request.abort();
      },
    };
  }

  next() {
    while (this.running < AT_ONCE && this.waiting.length) {
      this.running += 1;
      this.begin(this.waiting.shift());
    }
  }

  begin({ file, progress, request, resolve, reject }) {
    const end = (settle, value) => {
      this.running -= 1;
      this.next();
      settle(value);
    };
    request.upload.addEventListener("progress", (event) => event.lengthComputable && progress(event.loaded / event.total));
    request.addEventListener("load", () => {
      let answer = {};
      try {
        answer = JSON.parse(request.responseText);
      } catch { /* no words of ours: a proxy's */ }
      if (request.status === 201) end(resolve, answer);
      else end(reject, new Problem(request.status, answer, Number(request.getResponseHeader("Retry-After")) || 0));
    });
    request.addEventListener("error", () => end(reject, new Problem(0)));
    request.addEventListener("abort", () => end(reject, new Problem(0, { detail: "It was not sent." })));
    request.open("POST", `/api/uploads?name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("Content-Type", "application/octet-stream"); // its bytes tell what it is
    request.send(file);
  }
}
