"""The queries of `sql/queries`, read once for all tests."""

from __future__ import annotations

from pathlib import Path

from query_files import read_queries

QUERIES_DIR = Path(__file__).parents[1] / "sql/queries"
QUERIES = [query for path in sorted(QUERIES_DIR.glob("*.sql")) for query in read_queries(path)]
