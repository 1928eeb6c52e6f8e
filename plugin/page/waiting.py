"""The page that stands in a report's place: it is withheld for now, or was taken back."""

from __future__ import annotations

from plugin.page.release import Withheld
from plugin.page.texts import Texts, texts_in
from plugin.page.view import SERVED_POLICY, Links, template


def withheld_page(found: Withheld | None, *, links: Links, texts: Texts | None = None) -> str:
    """That the report is withheld, and until when; *found* None: that it was taken back."""
    t = texts or texts_in()
    words = t["withheld"]
    until = found.until.strftime("%Y-%m-%d %H:%M UTC") if found and found.until else ""
    return template("withheld.html").render(
        t=t,
        links=links,
        policy=SERVED_POLICY,
        title=words["title"] if found else words["gone"],
        why=words[found.why].format(time=until) if found else words["gone_text"],
        ask=words["ask"],
    )
