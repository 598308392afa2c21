"""What a worker asks of SQLite before it folds: one question for a whole batch.

What is wanted goes in as one JSON array, which costs half of what a question for each would. Each
answers with the place in that array, then the facts.
"""

from __future__ import annotations

from typing import Final

from meterstream_aggregator.store import rows

KNOWN_KEYS: Final = """
    SELECT wanted.key, known.content, known.append_time
    FROM json_each(?1) AS wanted CROSS JOIN caller_key AS known
    WHERE known.partition = ?2
      AND known.tenant = wanted.value ->> 0 AND known.key = wanted.value ->> 1
"""
REFUSED_NUMBERS: Final = """
    SELECT wanted.key FROM json_each(?1) AS wanted CROSS JOIN refused_number AS known
    WHERE known.partition = wanted.value ->> 0 AND known.producer = wanted.value ->> 1
      AND known.lane = wanted.value ->> 2 AND known.sequence = wanted.value ->> 3
"""
KNOWN_SESSIONS: Final = f"""
    SELECT wanted.key, {rows.SESSION_FACTS}
    FROM json_each(?1) AS wanted CROSS JOIN session AS known
    WHERE known.partition = wanted.value ->> 0 AND known.tenant = wanted.value ->> 1
      AND known.type = wanted.value ->> 2 AND known.session = wanted.value ->> 3
"""  # noqa: S608 - column names of our own
