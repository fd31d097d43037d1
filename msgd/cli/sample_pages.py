"""The pages of the sample site: a small fictitious shop and its magazine, the same at every run.

Every price and every e-mail address on a page is in :class:`Page` as well, so that a crawl can be held against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from msgspec import Struct

NAME: Final = "Fernhill Supply"
DOMAIN: Final = "fernhill.example"

CATEGORIES: Final = {
    "kitchen": ("Kitchen", ("kettle", "bread board", "pepper mill", "tea strainer", "pie dish", "egg timer", "ladle")),
    "garden": ("Garden", ("trowel", "watering can", "seed tray", "bird feeder", "plant label", "secateurs", "dibber")),
    "desk": ("Desk", ("notebook", "pen tray", "letter opener", "desk lamp", "ink bottle", "bookend", "ruler")),
    "wool": ("Wool", ("scarf", "blanket", "pair of socks", "tea cosy", "cushion", "hat", "pair of mittens")),
    "light": ("Light", ("lantern", "candlestick", "reading lamp", "match holder", "night light", "sconce", "taper")),
    "repair": ("Repair", ("darning kit", "tin of glue", "screwdriver", "oil can", "sewing box", "hand plane", "clamp")),
    "travel": ("Travel", ("flask", "satchel", "map case", "folding cup", "luggage tag", "compass", "rain hat")),
    "play": ("Play", ("spinning top", "kite", "chess set", "jigsaw", "yo-yo", "wooden train", "pack of cards")),
}
FINISHES: Final = (
    ("Plain", "as it left the workshop"),
    ("Oiled", "rubbed with linseed oil"),
    ("Painted", "in the green of our door"),
    ("Second-hand", "mended by us, and better for it"),
)
PER_LISTING: Final = 12

MAKERS: Final = (
    "Ada Thorne", "Bram Vos", "Clara Weiss", "Dov Adler", "Elin Dahl", "Fergus Kerr", "Greta Holm", "Hugo Lind",
    "Ines Prado", "Jonas Beck", "Karin Aalto", "Leo Marsh", "Mina Sato", "Nils Berg", "Olga Petrenko", "Piet Kuiper",
    "Quinn Hale", "Rosa Neri", "Sven Krol", "Tilda Frost",
)  # fmt: skip

SUBJECTS: Final = (
    "a kettle that outlived three kitchens", "the right knot for every parcel", "rain, and what to wear in it",
    "how a drawer comes to stick", "the last ironmonger of Mill Lane", "seven ways with stale bread",
    "a clock that is allowed to be late", "why we weigh our letters", "mending in company",
    "the garden in the month of doing nothing", "an inventory of one shelf", "lamps to read by",
    "a short history of the tea towel", "what the postman knows", "paper that takes ink well",
    "the quietest hinge in the house",
)  # fmt: skip

OLD_NUMBERS: Final = 5
"""Pages that no link leads to: only the sitemap names them."""


class Language(Struct, frozen=True):
    """A part of the magazine in another language and encoding, and how a browser is told which."""

    code: str
    name: str
    encoding: str
    in_header: bool  # else in the page itself
    titles: tuple[str, ...]
    text: str


LANGUAGES: Final = (
    Language("fr", "En français", "iso-8859-1", True,
             ("Été à l'atelier", "Le café du marché", "Où dort la théière", "Une clé oubliée", "La boîte à façons",
              "Noël chez l'ébéniste"),
             "À l'atelier, on répare d'abord ce qui grince, puis ce qui brûle ; le thé attend. Prix de l'objet : "),
    Language("ru", "По-русски", "windows-1251", False,
             ("Чайник и терпение", "Письмо из мастерской", "Осенняя ярмарка", "Старый фонарь", "Шерсть и дождь",
              "Полка у окна"),
             "В мастерской сначала чинят то, что скрипит, а чай подождёт. Цена этой вещи: "),
    Language("ja", "日本語", "shift_jis", False,
             ("急須の手入れ", "雨の日の道具", "灯りと本", "小さな箱", "冬の毛糸", "引き出しの音"),
             "工房では、まず音のするものから直します。お茶はそのあとで。値段は "),
)  # fmt: skip


class Page(Struct, frozen=True):
    """One page of HTML, and what is to be found on it."""

    path: str
    body: bytes
    content_type: str
    prices: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    listed: bool = False  # in the sitemap
    slow: bool = False


def _slug(text: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())


def _email(name: str) -> str:
    return f"{name.lower().replace(' ', '.')}@{DOMAIN}"


def _link(path: str, text: str) -> str:
    return f'<a href="{escape(path)}">{escape(text)}</a>'


def _items(links: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{link}</li>" for link in links) + "</ul>"


class _Html(Struct, frozen=True):
    """Writes pages in one language and encoding."""

    code: str = "en"
    encoding: str = "utf-8"
    in_header: bool = True

    def page(
        self,
        path: str,
        title: str,
        content: str,
        *,
        prices: Sequence[str] = (),
        emails: Sequence[str] = (),
        listed: bool = False,
        slow: bool = False,
    ) -> Page:
        declared = "" if self.in_header else f'<meta charset="{self.encoding}">'
        text = (
            f'<!doctype html><html lang="{self.code}"><head>{declared}<title>{escape(title)} – {NAME}</title>'
            f'<link rel="stylesheet" href="/style.css"></head><body><header>{_link("/", NAME)} '
            f"<nav>{_link('/shop/', 'Shop')} {_link('/magazine/', 'Magazine')} {_link('/makers/', 'Makers')} "
            f"{_link('/about', 'About')}</nav></header><main><h1>{escape(title)}</h1>{content}</main></body></html>"
        )
        # What an encoding lacks, such as the euro sign in Latin-1, is written as a character reference.
        body = text.encode(self.encoding, "xmlcharrefreplace")
        header = f"text/html; charset={self.encoding}" if self.in_header else "text/html"
        return Page(path, body, header, tuple(prices), tuple(emails), listed, slow)


_english: Final = _Html()


def _price(number: int) -> str:
    return f"€{4 + number * 37 % 90}.{(number * 53) % 20 * 5:02d}"


class _Product(Struct, frozen=True):
    path: str
    title: str
    price: str
    maker: str
    finish: str


def _products(category: str) -> list[_Product]:
    things = CATEGORIES[category][1]
    first = list(CATEGORIES).index(category) * len(things) * len(FINISHES)
    made = []
    for number, (thing, (finish, said)) in enumerate((thing, finish) for thing in things for finish in FINISHES):
        title = f"{finish} {thing}"
        made.append(
            _Product(
                f"/shop/{category}/{_slug(title)}", title, _price(first + number), MAKERS[number % len(MAKERS)], said
            )
        )
    return made


def _shop() -> Iterator[Page]:
    links = [_link(f"/shop/{category}/", name) for category, (name, _) in CATEGORIES.items()]
    yield _english.page("/shop/", "Shop", "<p>Things that last, from people we know.</p>" + _items(links), listed=True)
    for category, (name, _) in CATEGORIES.items():
        products = _products(category)
        pages = [products[start : start + PER_LISTING] for start in range(0, len(products), PER_LISTING)]
        for number, shown in enumerate(pages, 1):
            path = f"/shop/{category}/" + (f"?page={number}" if number > 1 else "")
            items = [f"{_link(one.path, one.title)} <b>{one.price}</b>" for one in shown]
            more = f'<p><a href="?page={number + 1}#top">More</a></p>' if number < len(pages) else ""
            yield _english.page(
                path, name, _items(items) + more, prices=[one.price for one in shown], listed=number == 1
            )
        for number, one in enumerate(products):
            after = products[(number + 1) % len(products)]
            email = _email(one.maker)
            yield _english.page(
                one.path,
                one.title,
                f"<p>{escape(one.title)}, {escape(one.finish)}. Made by "
                f"{_link(f'/makers/{_slug(one.maker)}', one.maker)}. "
                f'Price: <b>{one.price}</b>, post included.</p><p>Questions? <a href="mailto:{email}">{email}</a></p>'
                f"<p>Also: {_link(after.path.rpartition('/')[2], after.title)} · "
                f"{_link(f'/old/{number}', 'an older one')}</p>",
                prices=[one.price],
                emails=[email],
            )


def _makers() -> Iterator[Page]:
    links = [_link(f"/makers/{_slug(name)}", name) for name in MAKERS]
    yield _english.page("/makers/", "Makers", _items(links), listed=True)
    for number, name in enumerate(MAKERS):
        category = list(CATEGORIES)[number % len(CATEGORIES)]
        yield _english.page(
            f"/makers/{_slug(name)}",
            name,
            f"<p>{name} has worked for {3 + number} years, mostly for {_link(f'/shop/{category}/', category)}. "
            f"Write to {_email(name)}, and expect an answer by post.</p>",
            emails=[_email(name)],
        )


def _magazine() -> Iterator[Page]:
    links = [_link(f"/magazine/{_slug(subject)}", subject.capitalize()) for subject in SUBJECTS]
    others = [_link(f"/magazine/{language.code}/", language.name) for language in LANGUAGES]
    yield _english.page("/magazine/", "Magazine", _items(links) + _items(others), listed=True)
    for number, subject in enumerate(SUBJECTS):
        author = MAKERS[number]
        after = SUBJECTS[(number + 1) % len(SUBJECTS)]
        yield _english.page(
            f"/magazine/{_slug(subject)}",
            subject.capitalize(),
            f"<p>By {author}, {_email(author)}</p><p>We had meant to write about {escape(after)}, but then it rained, "
            f"and the talk turned to {escape(subject)}. Nobody took notes; this is what we remember.</p>"
            f"<p>Next: {_link(f'/magazine/{_slug(after)}', after)}</p>",
            emails=[_email(author)],
        )
    for language in LANGUAGES:
        html = _Html(language.code, language.encoding, language.in_header)
        folder = f"/magazine/{language.code}/"
        links = [_link(f"{folder}{number}", title) for number, title in enumerate(language.titles, 1)]
        yield html.page(folder, language.name, _items(links), listed=True)
        for number, title in enumerate(language.titles, 1):
            price = _price(number * 7)
            yield html.page(f"{folder}{number}", title, f"<p>{language.text}{price}</p>", prices=[price])


def _others() -> Iterator[Page]:
    contact = f"post@{DOMAIN}"
    yield _english.page(
        "/",
        NAME,
        "<p>A shop for things that last, and a magazine for people who wait for kettles.</p>"
        + _items(
            [
                _link("/shop/", "Shop"),
                _link("/magazine/", "Magazine"),
                _link("/slowly", "Our slowest page"),
                _link("/go/catalogue", "The catalogue, to download"),
                _link("/round/and", "Round and round"),
                _link("/gone", "A page that we lost"),
                _link("/private/ledger", "The ledger, not for robots"),
                '<a href="http://other.example/">Friends, elsewhere</a>',
                '<a href="/shop/../about#contact">How to find us</a>',
            ]
        ),
        listed=True,
    )
    yield _english.page(
        "/about", "About", f"<p>Mill Lane 3, Fernhill. Write to {contact} or knock.</p>", emails=[contact]
    )
    yield _english.page("/slowly", "Slowly", "<p>Worth the wait: the waiting list is <b>€0.00</b>.</p>",
                        prices=["€0.00"], slow=True)  # fmt: skip
    for number in range(1, OLD_NUMBERS + 1):
        yield _english.page(f"/magazine/old/{number}", f"Old number {number}",
                            f"<p>From the time when this magazine cost {_price(number)}.</p>",
                            prices=[_price(number)], listed=True)  # fmt: skip


def make_pages() -> dict[str, Page]:
    """Every page that a correct crawl sees, by path and query."""
    return {page.path: page for part in (_others(), _shop(), _makers(), _magazine()) for page in part}


def make_redirects() -> dict[str, str]:
    """Paths that lead elsewhere: moved products, and two that lead to each other for ever."""
    moved = {f"/old/{number}": one.path for number, one in enumerate(_products("kitchen"))}
    return {**moved, "/go/catalogue": "/files/catalogue", "/round/and": "/round/round", "/round/round": "/round/and"}
