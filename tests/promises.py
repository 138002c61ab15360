"""promises.toml for the tests; ``python tests/promises.py`` writes its table into README.md, beside it."""

import re
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = FOLDER / "README.md"
PROMISES = tomllib.loads((FOLDER / "promises.toml").read_text(encoding="utf-8"))


def table():
    """The promises in Markdown, between the marks that show where they stand."""
    rows = [("promise", "figure", "held by"), ("---", "---", "---")]
    for row in PROMISES.values():
        rows.append((row["promise"], row["figure"].format_map(row), ", ".join(f"`{name}`" for name in row["held_by"])))
    return "\n".join(["<!-- promises -->", *(f"| {' | '.join(row)} |" for row in rows), "<!-- /promises -->"])


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    marked = re.compile("<!-- promises -->.*<!-- /promises -->", re.DOTALL)
    PAGE.write_text(marked.sub(lambda _: table(), page), encoding="utf-8")
