/** Types of /msgd.js, the browser's client of msgd. docs/javascript.rst tells how to use it. */

/** Something that happened on a topic. */
export interface MsgdEvent<Data = any> {
  topic: string;
  /** Its number in its topic, from 1, without holes; null: transient, that is shown and not kept. */
  seq: number | null;
  /** The place behind it; null: transient. */
  cursor: string | null;
  id: string;
  type: string;
  /** Who published it: the `sub` of a token, or the type of a job. */
  source: string;
  /** RFC 3339, in UTC. */
  time: string;
  data: Data;
  /** Of events of jobs: which run of the job. */
  run?: number;
  /** The pattern that it came by, where that is not its topic. */
  subscription?: string;
}

/** Events that are lost for good: they are not kept any more. */
export interface Gap {
  topic: string;
  /** The cursor that was asked for. */
  requested: string;
  /** The `seq` of the first event that there is. */
  first: number | null;
  /** How many are lost, where that is known. */
  lost: number | null;
  /** `epoch` and `rewound`: the journal begins anew, and so should what was made of it. */
  reason: "trimmed" | "erased" | "epoch" | "rewound";
  subscription?: string;
}

/** A job, as `GET /api/jobs/{id}` shows it. */
export interface Job {
  id: string;
  topic: string;
  state: "queued" | "running" | "waiting" | "done" | "failed" | "cancelled";
  type: string;
  run: number;
  params: any;
  owner: string;
  progress: any;
  result: any;
  error: { code: string; message: string } | null;
  [more: string]: any;
}

export interface JobBrief {
  id: string;
  topic: string;
  state: Job["state"];
}

/** Who reads a topic now; `members` are the first thousand, `count` is of all. */
export interface Presence {
  topic: string;
  members: string[];
  count: number;
}

export interface History<Data = any> {
  events: MsgdEvent<Data>[];
  /** Where the page ends. */
  cursor: string;
  /** Whether there is more in this direction. */
  more: boolean;
  gaps?: Gap[];
}

export type TransportKind = "websocket" | "sse" | "longpoll";

export interface ConnectionOptions {
  /** Where msgd is; without it, where this module came from. */
  url?: string;
  /** A token, or what gets one; without it the page's cookie counts. */
  token?: string | (() => string | Promise<string>);
  /** Which transports, the best first. All three in this order, if it is not given. */
  transports?: TransportKind[];
  /** Share one connection with the other tabs of this browser: of the same server, principal and rights. */
  share?: boolean;
  /** A name under which cursors are kept over reloads. Put the user's name into it. */
  keep?: string;
  /** Where they are kept: `sessionStorage`, of this tab, if it is not given. */
  storage?: Pick<Storage, "getItem" | "setItem" | "removeItem" | "key" | "length">;
  /** What waits to be sent: at most 1000 operations, a million characters; `keep` them over reloads too? */
  outbox?: { count?: number; bytes?: number; keep?: boolean };
  /** Milliseconds until a better transport than the one in use is tried again: 30 seconds. */
  upgradeAfter?: number;
  /** 0 to 1: the jitter. */
  random?: () => number;
}

export interface SubscribeOptions<Data = any> {
  /** Absent: from now on; `"0"`: from the first kept; a cursor: after it. A kept cursor comes first. */
  since?: string;
  /** Without it, events wait for `for await`. */
  onEvent?: (event: MsgdEvent<Data>) => void;
  /** Of a job's topic: the job, when the subscription begins and after each reconnect. */
  onState?: (job: Job) => void;
  onGap?: (gap: Gap) => void;
  /** The server has granted it, at first and after each reconnect. */
  onReady?: (cursor: string) => void;
  /** The server has refused it, and it is over. */
  onError?: (error: MsgdError) => void;
  /** Who is there, at first and whenever that changes. */
  onPresence?: (presence: Presence) => void;
}

export type Status = "connecting" | "online" | "waiting" | "refused" | "closed";

/** The detail of a `status` event. */
export interface StatusDetail {
  status: Status;
  /** While `online`. */
  transport?: TransportKind;
  /** While `online`: whose token it is. */
  sub?: string;
  /** While `online`, through another tab. */
  shared?: boolean;
  /** While `waiting`: milliseconds since 1970. */
  retryAt?: number;
  /** Of `waiting` and `refused`: the WebSocket's close code, or one that means the same. */
  code?: number;
  reason?: string;
}

/** The detail of an `outbox` event: something was answered; refused, if there is an `error`. */
export interface OutboxDetail {
  pending: number;
  error?: MsgdError;
  operation?: { op: "publish" | "submit"; [field: string]: any };
}

/** What the server refuses, or what could not be done. */
export class MsgdError extends Error {
  constructor(fields?: { code?: string; message?: string; where?: string; retry_after?: number; status?: number });
  /** `forbidden`, `not-found`, `invalid-params`, …; `unavailable`: no connection now; `closed`: by `close()`. */
  readonly code: string;
  /** The field at fault. */
  readonly where: string;
  /** Seconds after which a repeat makes sense. */
  readonly retryAfter?: number;
  /** The HTTP status, where it was a request. */
  readonly status: number;
  /** Whether the same may be granted later. */
  get retryable(): boolean;
}

/** Made by {@link Connection.subscribe}. */
export class Subscription<Data = any> implements AsyncIterable<MsgdEvent<Data>> {
  private constructor(...made: never);
  readonly topic: string;
  readonly options: SubscribeOptions<Data>;
  /** The place behind the last event handled: with it as `since`, another subscription goes on there. */
  get cursor(): string | undefined;
  /** Resolves to the first cursor when the server has granted it; rejects with its refusal. */
  get ready(): Promise<string>;
  /** End it. */
  close(): void;
  [Symbol.asyncIterator](): AsyncIterator<MsgdEvent<Data>>;
}

interface ConnectionEvents {
  status: CustomEvent<StatusDetail>;
  outbox: CustomEvent<OutboxDetail>;
  /** The token nears its end, and there is no function to get a new one. */
  expiring: Event;
}

/** A connection to msgd that mends itself. */
export class Connection extends EventTarget {
  constructor(options?: ConnectionOptions);
  readonly url: string;
  get status(): Status;
  /** The transport, while online. */
  get transport(): TransportKind | undefined;
  /** When it will be tried again (milliseconds since 1970), while `waiting`. */
  get retryAt(): number;
  /** How many operations wait in the outbox for their answer. */
  get pending(): number;

  /** Watch a topic or pattern: each kept event once and in order, whatever reconnects. */
  subscribe<Data = any>(topic: string, options?: SubscribeOptions<Data>): Subscription<Data>;
  /** Publish an event: it arrives once, also if it has to be sent again. Resolves when it is safe. */
  publish(topic: string, type: string, data?: unknown, options?: { id?: string }): Promise<{ id: string }>;
  /** Submit a job: there is one, also if this has to be sent again. `delay` is in seconds. */
  submit(
    type: string,
    params?: object,
    options?: { key?: string; delay?: number; priority?: "normal" | "high" },
  ): Promise<JobBrief>;
  cancel(job: string): Promise<JobBrief>;
  /** Who reads a topic now. */
  presence(topic: string): Promise<Presence>;
  /** Tell a topic's readers that one is typing. */
  typing(topic: string): Promise<unknown>;
  /** A page of history: without `before` and `since` the latest. */
  history<Data = any>(
    topic: string,
    options?: { before?: string; since?: string; limit?: number },
  ): Promise<History<Data>>;
  /** Any operation of `msgd.v1`, now; rejects with the code `unavailable` while there is no connection. */
  ask(operation: { op: string; [field: string]: any }): Promise<any>;
  /** Try now, also after `refused`; `token`: another one, from now on. */
  reconnect(token?: ConnectionOptions["token"]): void;
  /** Close for good. */
  close(): void;

  addEventListener<Kind extends keyof ConnectionEvents>(
    type: Kind,
    listener: (this: Connection, event: ConnectionEvents[Kind]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}
