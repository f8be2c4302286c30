"""What is learnt of people's words: labels with the texts that were read."""

import duckdb

from twinloop.systems.moderation.features import EXAMPLES_SQL, case


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


def test_of_several_appeals_the_latest_is_learnt() -> None:
    connection = duckdb.connect()
    connection.execute("""
        CREATE TABLE items AS SELECT 't' AS item_id, 'a text' AS text, 'a' AS author_id;
        CREATE TABLE labels AS SELECT 't' AS item_id, 'spam' AS label, NULL::VARCHAR AS text, *
        FROM (VALUES (1::BIGINT, 'reviewer', 1, 'ann'), (1, 'appeal', 2, 'ben'), (0, 'appeal', 4, 'cem'),
            (1, 'reviewer', 5, 'dan')) AS r(value, source, time_ms, reviewer_id)
    """)
    [(values,)] = connection.execute(f'SELECT "values" FROM ({EXAMPLES_SQL})').fetchall()  # noqa: S608 - our own
    assert values == [0.0]
    connection.close()


def test_a_long_text_and_what_was_read_of_it_are_learnt_or_judged_by_together() -> None:
    connection = duckdb.connect()
    connection.execute("""
        CREATE TABLE items AS SELECT 't' AS item_id, repeat('word ', 3000) AS text, 'a' AS author_id;
        CREATE TABLE labels AS SELECT 't' AS item_id, 1::BIGINT AS time_ms, 'ann' AS reviewer_id, 1::BIGINT AS value, *
        FROM (VALUES ('spam', NULL, 'import'), ('scam', repeat('word ', 2000) || '[…]', 'reviewer'))
            AS r(label, text, source)
    """)
    table = connection.execute(f"SELECT * FROM ({EXAMPLES_SQL}) ORDER BY length(text)")  # noqa: S608 - our own
    names = [column[0] for column in table.description]
    read, whole = (dict(zip(names, row, strict=True)) for row in table.fetchall())
    assert read["group_id"] == whole["group_id"]
    assert case([read, whole]).truth == {"labels": {"scam": 1.0}}
    assert case([whole, read]).truth == {"labels": {"spam": 1.0}}
    connection.close()


def test_a_label_is_learnt_with_the_text_that_was_read() -> None:
    """Of an item that is not loaded, of one that was changed since, and of one of which the log has less."""
    connection = duckdb.connect()
    connection.execute("""
        CREATE TABLE items AS SELECT * FROM (VALUES
            ('changed', 'good now', 'a'), ('longer', repeat('word ', 3000), 'a')) AS r(item_id, text, author_id);
        CREATE TABLE labels AS SELECT *, 'spam' AS label, 1::BIGINT AS value, 'reviewer' AS source, 'ann' AS reviewer_id
        FROM (VALUES ('gone', 'a deal', 1), ('changed', 'good', 1), ('changed', 'good now', 2),
            ('longer', left(repeat('word ', 3000), 10000), 1), ('nobody knows', NULL, 1))
            AS r(item_id, text, time_ms)
    """)
    found = connection.execute(f"SELECT example_id, text FROM ({EXAMPLES_SQL})").fetchall()  # noqa: S608 - our own
    texts = {example_id.partition("-")[0] + ": " + text for example_id, text in found}
    assert texts == {"gone: a deal", "changed: good", "changed: good now", f"longer: {'word ' * 2000}"}
    assert "changed" in {example_id for example_id, _ in found}
    connection.close()
