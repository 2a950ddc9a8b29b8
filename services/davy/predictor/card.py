"""The model card of a package: ``GET /v2/models/NAME/card``.

Belongs here: which form of the card a client is given, and with which headers.
Not here: what a card says (`davy.packaging.card`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from davy.packaging.manifest import CARD_PAGE, CARD_TEXT
from davy.packaging.package import Package

Headers = tuple[tuple[bytes, bytes], ...]

HTML = "text/html"
MARKDOWN = "text/markdown"
# The page is whole in itself: it may style itself and show its own plots, and nothing else.
_SAFE: Headers = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"vary", b"accept"),
)


@dataclass(frozen=True, slots=True)
class Card:
    """A card as it is sent."""

    body: bytes
    headers: Headers


def form(accept: str) -> str:
    """Return the media type to answer with: HTML unless Markdown is liked better.

    Examples
    --------
    >>> form("text/markdown"), form("text/markdown;q=0.5, text/html"), form("*/*"), form("")
    ('text/markdown', 'text/html', 'text/html', 'text/html')
    """
    return MARKDOWN if _liking(accept, MARKDOWN) > _liking(accept, HTML) else HTML


async def card(package: Package, accept: str) -> Card:
    """Return the package's card in the form that the client likes.

    Raises
    ------
    NotFoundError
        The package holds no card.
    IntegrityError
        The card changed since the package was verified.
    """
    media_type = form(accept)
    name = CARD_PAGE if media_type == HTML else CARD_TEXT
    body = await asyncio.to_thread(package.content, name)
    return Card(body, ((b"content-type", f"{media_type}; charset=utf-8".encode()), *_SAFE))


def _liking(accept: str, media_type: str) -> float:
    """Return the quality that an Accept header gives a media type; the closest match counts."""
    best = (-1, 0.0)
    for item in accept.lower().split(","):
        pattern, *parameters = [part.strip() for part in item.split(";")]
        ranks = {media_type: 2, "text/*": 1, "*/*": 0}
        if pattern in ranks:
            best = max(best, (ranks[pattern], _quality(parameters)))
    return best[1]


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
