"""``/api/session``: the dashboard trades its token for a cookie that no script can read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from msgd.errors import Unauthenticated
from msgd.messages.topics import user_topic
from msgd.messages.wire import format_time
from msgd.notifier.auth.entry import Entry
from msgd.notifier.calls import COOKIE
from msgd.notifier.interface import Answer, Call, Principal, Route, answer
from msgd.notifier.origins import Origins


class Login(Struct):
    """Who logs in."""

    token: str


class SessionApi:
    """Log in, log out, who am I."""

    def __init__(self, entry: Entry, origins: Origins, now_s: Callable[[], float]) -> None:
        self._entry = entry
        self._origins = origins
        self._now_s = now_s

    def routes(self) -> Sequence[Route]:
        return (
            Route(method="POST", path="/api/session", endpoint=self.open, open=True),
            Route(method="GET", path="/api/session", endpoint=self.show, open=True),
            Route(method="DELETE", path="/api/session", endpoint=self.close, open=True),
        )

    async def open(self, call: Call) -> Answer:
        """The cookie lives as long as the token in it. Foreign pages may not log a user in as somebody else."""
        self._origins.check_login(call.header("origin"), call.asked, call.header("sec-fetch-site"))
        login = call.json(Login)
        principal = await self._entry.principal(login.token, call.asked.address)
        seconds = max(0, int(principal.expires_s - self._now_s()))
        return _shown(
            principal, status=201, cookie=f"{COOKIE}={login.token}; Max-Age={seconds}{self._attributes(call)}"
        )

    async def show(self, call: Call) -> Answer:
        """Who one is, and what one may; ``sub`` is null for a stranger, which is an answer and no error."""
        try:
            return _shown(call.principal, status=200)
        except Unauthenticated:
            return answer({"sub": None})

    async def close(self, call: Call) -> Answer:
        """Forget the cookie."""
        self._origins.check_login(call.header("origin"), call.asked, call.header("sec-fetch-site"))
        return Answer(status=204, content_type="", cookies=(f"{COOKIE}=; Max-Age=0{self._attributes(call)}",))

    def _attributes(self, call: Call) -> str:
        # Where no proxy tells us, the browser does: its page's origin says whether it speaks TLS.
        secure = "; Secure" if call.asked.secure or call.header("origin").startswith("https:") else ""
        return f"; Path=/; HttpOnly; SameSite=Strict{secure}"


def _shown(principal: Principal, *, status: int, cookie: str = "") -> Answer:
    view = {
        "sub": principal.sub,
        "expires": format_time(int(principal.expires_s * 1000)),
        "topic": user_topic(principal.sub),
        "can": [str(grant) for grant in principal.grants],
    }
    shown = answer(view, status=status)
    return Answer(status=status, body=shown.body, cookies=(cookie,) if cookie else ())
