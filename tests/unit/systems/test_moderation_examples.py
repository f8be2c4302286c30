"""What is learnt of people's words: labels with the texts that were read."""

import duckdb

from twinloop.systems.moderation.features import EXAMPLES_SQL


def test_what_is_learnt_is_the_share_of_reviewers_unless_an_appeal_was_decided() -> None:
    connection = duckdb.connect()
    connection.execute("""
        CREATE TABLE items AS SELECT 't' || n AS item_id, ' Same Text' AS text, 'a' AS author_id FROM range(3) AS r(n);
        CREATE TABLE labels (item_id VARCHAR, label VARCHAR, value BIGINT, source VARCHAR, time_ms BIGINT,
            reviewer_id VARCHAR, text VARCHAR);
        INSERT INTO labels VALUES
            ('t0', 'spam', 1, 'reviewer', 1, 'ann', NULL), ('t0', 'spam', 0, 'reviewer', 2, 'ben', ' Same Text'),
            ('t0', 'spam', 0, 'reviewer', 3, 'ann', NULL), ('t0', 'scam', 1, 'import', 1, NULL, NULL),
            ('t1', 'spam', 1, 'reviewer', 1, 'ann', NULL), ('t1', 'spam', 0, 'appeal', 2, 'ben', NULL)""")
    rows = connection.execute(f"SELECT * FROM ({EXAMPLES_SQL}) ORDER BY example_id").fetchall()  # noqa: S608 - our own
    found = {row[0]: dict(zip(row[5], row[6], strict=True)) for row in rows}
    assert found == {"t0": {"scam": 1.0, "spam": 0.0}, "t1": {"spam": 0.0}}
    assert rows[0][1] == rows[1][1]  # the same text is one group
    connection.close()


def test_a_label_is_learnt_with_the_text_that_was_read() -> None:
    """Of an item that is not loaded, of one that was changed since, and of one longer than the log has it."""
    connection = duckdb.connect()
    connection.execute("""
        CREATE TABLE items AS SELECT * FROM (VALUES
            ('changed', 'good now', 'a'), ('longer', repeat('word ', 3000), 'a')) AS r(item_id, text, author_id);
        CREATE TABLE labels AS SELECT *, 'spam' AS label, 1::BIGINT AS value, 'reviewer' AS source, 'ann' AS reviewer_id
        FROM (VALUES ('gone', 'a deal', 1), ('changed', 'good', 1), ('changed', 'good now', 2),
            ('longer', left(repeat('word ', 3000), 10000), 1), ('nobody knows', NULL, 1)) AS r(item_id, text, time_ms)
    """)
    found = connection.execute(f"SELECT example_id, text FROM ({EXAMPLES_SQL})").fetchall()  # noqa: S608 - our own
    texts = {example_id.partition("-")[0] + ": " + text for example_id, text in found}
    assert texts == {"gone: a deal", "changed: good", "changed: good now", f"longer: {'word ' * 3000}"}
    assert {"changed", "longer"} < {example_id for example_id, _ in found}
    connection.close()
