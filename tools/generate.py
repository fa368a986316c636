"""Writes every generated file, or with --check says which are out of date.

python tools/generate.py [--check]
"""

from __future__ import annotations

import generate_queries
import generate_schema
import generate_tables


def main() -> int:
    return max([generate_queries.main(), generate_schema.main(), generate_tables.main()])


if __name__ == "__main__":
    raise SystemExit(main())
