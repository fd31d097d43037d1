"""Every limit at the door, with its reason (DESIGN §4.8)."""

from __future__ import annotations

from typing import Final

from msgd.messages.limits import BODY_BYTES

# -- HTTP -------------------------------------------------------------------------------------------------------------

REQUEST_BYTES: Final = BODY_BYTES + 64 * 1024
"""A request's body: one value of the largest size, and room for what is around it."""

BATCH_BYTES: Final = 4 * 1024 * 1024
"""A list of events in one request: some large ones, or thousands of small ones."""

BATCH_EVENTS: Final = 1000
"""Events in one request: each is one message to be confirmed before the answer."""

SWALLOW_BYTES: Final = 16 * 1024 * 1024
"""What is read and thrown away of a body over its limit, so that a client that writes before it reads sees the 413;
beyond this the connection is cut."""

IDLE_S: Final = 60
"""A connection without a request, or a request that does not get on, is closed."""

PACE_BYTES: Final = 60 * 1024
"""A request gets on if it is whole, or so much more of it has come, within :data:`IDLE_S`: the slowest mobile network
does that. Its head, of 16 KiB at most, so has one period, however it is dripped."""

STALL_S: Final = 60.0
"""A client that takes nothing of a streamed answer for so long is cut off."""

PAGE_DEFAULT: Final = 100
"""Events or rooms in one answer, where none says how many: a screen and what one scrolls to at once."""

LIST_DEFAULT: Final = 50
"""Jobs or dead letters, each of which may hold its whole params or the beginning of a body."""

PAGE_MOST: Final = 1000
"""Events, jobs, rooms or letters in one answer, whatever is asked for."""

WAIT_MOST_S: Final = 60.0
"""A long-poll: proxies give up on silent answers after a minute."""

QUERY_TOPICS: Final = 32
"""Topics and patterns in one request for history."""

# -- WebSocket --------------------------------------------------------------------------------------------------------

FRAME_BYTES: Final = 64 * 1024
"""A frame or message from a browser: larger things are uploads or HTTP requests."""

SUBSCRIPTIONS: Final = 128
"""Subscriptions of one connection."""

OPERATIONS: Final = 32
"""Operations of one connection under way at once; beyond this its socket is not read."""

BUFFER_BYTES: Final = 1024 * 1024
"""What may wait for one connection's socket; a reader that falls behind further becomes a cursor."""

HEARTBEAT_S: Final = 25
"""Between pings: below the 30 s after which the meanest proxies forget an idle connection."""

PONG_S: Final = 10
"""A peer that does not answer a ping for so long is gone."""

HELLO_S: Final = 10.0
"""How long a connection may stay without a token."""

EXPIRING_S: Final = 60.0
"""How long before its token's end a client is told to renew it."""

RETRY_MS: Final = 1000
"""What an event stream's client waits before it connects anew, at least; at most twice as long."""

HERD_SPREAD_S: Final = 10.0
"""Who could not be let in is told to come again within so long: thousands of clients, at the pace of the setting
``handshakes``. That is 500 a second by default, as an opening takes 0.5 ms of a processor, so that three quarters of it
are left for those who are in."""

DRAIN_SPREAD_S: Final = 5.0
"""On stop, clients are told to come back at moments spread over so long: no herd at the next notifier."""

# -- the feed ---------------------------------------------------------------------------------------------------------

HELD_EVENTS: Final = 20_000
"""Live events waiting for the head that completes them; more are dropped and read from the journal."""

JOIN_EVENTS: Final = 1000
"""Live events kept for one reader while it reads the last of the history."""

PAGE_EVENTS: Final = 500
"""Events of history read at once."""

PAGE_BYTES: Final = 256 * 1024
"""About how much history is read at once for one reader: what a drained socket takes in one go."""

PAGE_READS: Final = 8
"""History reads under way at once, over all readers: it bounds memory, and leaves the database to others."""

LINGER_S: Final = 60.0
"""How long a bucket without readers stays bound: reloads and reconnects find it as they left it."""

BIND_S: Final = 0.5
"""How long an answer to ``subscribe`` waits for the broker, which takes milliseconds if it is there."""

POLL_S: Final = 2.0
"""While the broker cannot be reached, readers look into the journal so often."""

FILL_PATTERNS: Final = 200
"""With more topics in use than this, what was missed is read from the whole journal: one query that long is slower."""
