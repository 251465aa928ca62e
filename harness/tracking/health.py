"""Whether a SQLite store is sound, asked of SQLite itself."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def sound(database: Path) -> str:
    """What is wrong with the file, in SQLite's words; "" if nothing is."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=20)) as opened:
            found = [str(line) for (line,) in opened.execute("PRAGMA quick_check(3)")]
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if found == ["ok"] else "; ".join(found)
