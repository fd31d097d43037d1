"""``/api/session``: the dashboard's cookie, and whose pages it counts for."""

from __future__ import annotations

from msgd.config.settings import Notifier as Settings
from tests.notifier.world import PAINTING, World, WorldCase, header, token


class SessionTest(WorldCase):
    """The dashboard's cookie."""

    async def login(self, world: World, **headers: str) -> str:
        status, view, response = await world.call(
            "POST", "/api/session", {"token": token("ann", "submit:paint")}, who=None, headers=headers
        )
        self.assertEqual((status, view["sub"], view["can"]), (201, "ann", ["submit:paint"]))
        return header(response, "set-cookie")

    async def test_cookie(self) -> None:
        """A token is traded for a cookie that scripts and other sites cannot use, and that lives as long."""
        world = await self.world()
        cookie = await self.login(world)
        for attribute in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="):
            self.assertIn(attribute, cookie)
        self.assertNotIn("Secure", cookie)
        given = {"Cookie": cookie.partition(";")[0]}
        _, view, _ = await world.call("GET", "/api/session", who=None, headers=given)
        self.assertEqual(view["sub"], "ann")
        status, _, response = await world.call(
            "DELETE", "/api/session", who=None, headers={**given, "Origin": world.url}
        )
        self.assertEqual(status, 204)
        self.assertIn("Max-Age=0", header(response, "set-cookie"))

    async def test_secure(self) -> None:
        """A page that came over TLS gets a cookie that only travels over TLS."""
        settings = Settings(origins=("https://dash.example.com",))
        world = await self.world(settings)
        self.assertIn("; Secure", await self.login(world, Origin="https://dash.example.com"))

    async def test_stranger(self) -> None:
        """Who has no token, or a spoilt one, is nobody; that is no error."""
        world = await self.world()
        for who in (None, "spoilt"):
            status, view, _ = await world.call("GET", "/api/session", who=who)
            self.assertEqual((status, view), (200, {"sub": None}))
        status, problem, _ = await world.call("POST", "/api/session", {"token": "spoilt"}, who=None)
        self.assertEqual((status, problem["code"]), (401, "unauthenticated"))

    async def test_foreign_pages(self) -> None:
        """A page of another site can neither write with the cookie nor log a user in."""
        world = await self.world()
        cookie = (await self.login(world)).partition(";")[0]
        own = f"http://127.0.0.1:{world.port}"
        for headers, status in (
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Origin": own}, 202),
            ({"Sec-Fetch-Site": "same-origin"}, 202),
            ({}, 403),
        ):
            got, _, _ = await world.call("POST", "/api/jobs", PAINTING, who=None, headers={"Cookie": cookie, **headers})
            self.assertEqual(got, status, str(headers))
        got, _, _ = await world.call(
            "POST", "/api/session", {"token": token()}, who=None, headers={"Origin": "https://evil.example"}
        )
        self.assertEqual(got, 403)
        # A token in a header is no cookie: the page has it, so it may use it.
        got, _, _ = await world.call("POST", "/api/jobs", PAINTING, headers={"Origin": "https://evil.example"})
        self.assertEqual(got, 202)

    async def test_cors(self) -> None:
        """Pages on the list may read answers and are told so before they ask; others are not."""
        world = await self.world(Settings(cors=("https://app.example.com",)))
        for origin, allowed in (("https://app.example.com", "https://app.example.com"), ("https://evil.example", "")):
            for method in ("GET", "OPTIONS"):
                _, _, response = await world.call(method, "/api/jobs", headers={"Origin": origin})
                self.assertEqual(header(response, "access-control-allow-origin"), allowed)
        self.assertEqual(header(response, "access-control-allow-methods"), "")
