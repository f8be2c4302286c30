"""Moves of aliases: one at a time, never lost, always told."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.errors import BadInputError, ConflictError, IntegrityError, NotFoundError, UnavailableError
from twinloop.ports import MemoryObjectStore
from twinloop.registry.aliases import Aliases
from twinloop.registry.registry import Registry

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make(store, count=3):
    """A registry with `count` releases."""
    registry = Registry(store, "video", clock=lambda: NOW)
    versions = []
    for number in range(count):
        component = registry.register_component("retrieval", {"model.onnx": b"%d" % number})
        draft = registry.draft_release(
            rung="ease", snapshot_id="s", schema_hash="h", components={"retrieval": component}
        )
        versions.append(registry.register_release(draft, {}))
    return registry, versions


def points(registry, name):
    state = registry.alias(name)
    return state.version if state else None


def test_nothing_points_anywhere_at_first():
    registry, _ = make(MemoryObjectStore())
    assert [registry.alias(name) for name in ("champion", "challenger", "shadow", "previous")] == [None] * 4
    assert registry.history() == []


def test_promotion_moves_champion_and_previous_and_says_why():
    registry, (a, b, _) = make(MemoryObjectStore())
    registry.promote(a, why="the first", by="gate")
    assert points(registry, "previous") is None
    registry.promote(b, why="better by .02", by="ann")
    state = registry.alias("champion")
    assert (state.version, state.by, state.why, state.moved_at) == (b, "ann", "better by .02", NOW)
    assert points(registry, "previous") == a
    assert [(m.alias, m.came_from, m.version, m.by) for m in registry.history()] == [
        ("champion", None, a, "gate"),
        ("champion", a, b, "ann"),
    ]


def test_promoting_the_champion_again_changes_nothing_and_keeps_previous():
    registry, (a, b, _) = make(MemoryObjectStore())
    registry.promote(a, why="1", by="x")
    made = registry.promote(b, why="2", by="x")
    assert registry.promote(b, why="again", by="retry") == made
    assert points(registry, "previous") == a
    assert len(registry.history()) == 2


def test_rollback_of_a_rollback_is_back():
    registry, (a, b, _) = make(MemoryObjectStore())
    registry.promote(a, why="1", by="x")
    registry.promote(b, why="2", by="x")
    registry.rollback(why="complaints", by="ann")
    assert (points(registry, "champion"), points(registry, "previous")) == (a, b)
    registry.rollback(why="false alarm", by="ann")
    assert (points(registry, "champion"), points(registry, "previous")) == (b, a)


def test_rollback_needs_somewhere_to_go():
    registry, (a, *_) = make(MemoryObjectStore())
    with pytest.raises(NotFoundError, match="no champion yet"):
        registry.rollback(why="w", by="b")
    registry.promote(a, why="1", by="x")
    with pytest.raises(NotFoundError, match="first champion"):
        registry.rollback(why="w", by="b")


def test_rollback_to_a_spoilt_release_is_refused():
    store = MemoryObjectStore()
    registry, (a, b, _) = make(store)
    registry.promote(a, why="1", by="x")
    registry.promote(b, why="2", by="x")
    component = registry.release(a).components["retrieval"]
    store.write(f"registry/video/retrieval/versions/{component}/model.onnx", b"spoilt")
    with pytest.raises(IntegrityError):
        registry.rollback(why="w", by="b")
    assert points(registry, "champion") == b


def test_challenger_and_shadow_come_and_go_and_the_champion_stays():
    registry, (a, b, _) = make(MemoryObjectStore())
    registry.promote(a, why="1", by="x")
    registry.move_alias("challenger", b, why="canary", by="x")
    registry.move_alias("challenger", None, why="canary done", by="x")
    assert registry.alias("challenger") is None
    registry.move_alias("challenger", b, why="again", by="x", expected=None)
    assert points(registry, "challenger") == b
    with pytest.raises(BadInputError, match="cannot be taken away"):
        registry.move_alias("champion", None, why="w", by="x")
    with pytest.raises(NotFoundError):
        registry.move_alias("shadow", None, why="w", by="x")


@pytest.mark.parametrize("name", ["previous", "best", "../champion", ""])
def test_other_aliases_are_not_moved(name):
    registry, (a, *_) = make(MemoryObjectStore())
    with pytest.raises(BadInputError):
        registry.move_alias(name, a, why="w", by="x")


@pytest.mark.parametrize(("why", "by"), [("", "x"), ("  ", "x"), ("w", ""), ("w", "x" * 300), ("w" * 9000, "x")])
def test_a_move_has_a_mover_and_a_reason(why, by):
    registry, (a, *_) = make(MemoryObjectStore())
    with pytest.raises(BadInputError, match="somebody for a reason"):
        registry.promote(a, why=why, by=by)
    assert registry.alias("champion") is None


def test_a_move_from_where_the_alias_no_longer_is_is_refused():
    registry, (a, b, c) = make(MemoryObjectStore())
    registry.promote(a, why="1", by="x", expected=None)
    registry.promote(b, why="hotfix", by="ann", expected=a)
    with pytest.raises(ConflictError, match=rf"was moved to {b} by ann at 2026-03-01 12:00:00 UTC: hotfix"):
        registry.promote(c, why="judged against a", by="gate", expected=a)
    with pytest.raises(ConflictError):
        registry.promote(c, why="first", by="gate", expected=None)
    assert points(registry, "champion") == b


class Overtaking(MemoryObjectStore):
    """Lets `overtake` happen just before the next write of an alias."""

    overtake = None

    def _before(self, key):
        if self.overtake and "/aliases/" in key:
            run, self.overtake = self.overtake, None
            run()

    def replace(self, key, body, **options):
        self._before(key)
        return super().replace(key, body, **options)

    def write_new(self, key, body, **options):
        self._before(key)
        return super().write_new(key, body, **options)


@pytest.mark.parametrize("start", [False, True])
def test_who_is_overtaken_is_told_by_whom(start):
    store = Overtaking()
    registry, (a, b, c) = make(store)
    if start:
        registry.promote(a, why="1", by="x")
    store.overtake = lambda: Registry(store, "video").promote(b, why="mine is better", by="bob")
    with pytest.raises(ConflictError, match=f"was moved to {b} by bob .* mine is better"):
        registry.promote(c, why="no, mine", by="ann")
    assert points(registry, "champion") == b


def test_two_rollbacks_at_once_do_not_cancel_each_other():
    store = Overtaking()
    registry, (a, b, _) = make(store)
    registry.promote(a, why="1", by="x")
    registry.promote(b, why="2", by="x")
    store.overtake = lambda: Registry(store, "video").rollback(why="bad", by="bob")
    with pytest.raises(ConflictError, match="by bob"):
        registry.rollback(why="bad", by="ann")
    assert points(registry, "champion") == a


class Answerless(MemoryObjectStore):
    """Makes the write and refuses it all the same, as a client does whose first try landed without an answer."""

    def replace(self, key, body, *, etag, **options):
        super().replace(key, body, etag=etag, **options)
        raise ConflictError("412")


def test_a_mover_that_is_refused_by_its_own_first_try_has_won():
    store = Answerless()
    registry, (a, b, _) = make(store)
    registry.promote(a, why="1", by="x")
    assert registry.promote(b, why="2", by="x").version == b
    assert len(registry.history()) == 2


class Overlapping(MemoryObjectStore):
    """Refuses the first `times` conditional writes of an alias though nothing has changed, as S3 may."""

    times = 0

    def replace(self, key, body, **options):
        if self.times:
            self.times -= 1
            raise ConflictError("409")
        return super().replace(key, body, **options)


@pytest.mark.parametrize(("times", "wins"), [(3, True), (99, False)])
def test_a_refusal_without_a_winner_is_tried_again_a_few_times(times, wins):
    store = Overlapping()
    registry, (a, b, _) = make(store)
    registry.promote(a, why="1", by="x")
    store.times = times
    if wins:
        assert registry.promote(b, why="2", by="x").version == b
    else:
        with pytest.raises(UnavailableError):
            registry.promote(b, why="2", by="x")


class Forgetful(MemoryObjectStore):
    """Loses writes of the history while `down`."""

    down = False

    def write_new(self, key, body, **options):
        if self.down and "/history/" in key and key not in self.keys(key):
            raise UnavailableError("gone")
        return super().write_new(key, body, **options)


def test_history_that_could_not_be_written_is_mended_by_the_next_move():
    store = Forgetful()
    registry, (a, b, c) = make(store)
    registry.promote(a, why="1", by="x")
    store.down = True
    registry.promote(b, why="2", by="x")
    assert [m.version for m in registry.history()] == [a, b]
    store.down = False
    registry.promote(c, why="3", by="x")
    assert len(list(store.keys("registry/video/release/history/"))) == 3
    assert [m.version for m in registry.history()] == [a, b, c]
    assert [m.version for m in registry.history(2)] == [b, c]


def test_no_move_is_made_over_one_whose_history_cannot_be_written():
    store = Forgetful()
    registry, (a, b, c) = make(store)
    registry.promote(a, why="1", by="x")
    store.down = True
    registry.promote(b, why="2", by="x")
    with pytest.raises(UnavailableError):
        registry.promote(c, why="3", by="x")
    assert points(registry, "champion") == b


def test_time_never_runs_backwards_in_the_history():
    store = MemoryObjectStore()
    registry, (a, b, _) = make(store)
    registry.promote(a, why="1", by="x")
    late = Registry(store, "video", clock=lambda: NOW - timedelta(hours=1))
    late.promote(b, why="2", by="a machine whose clock is slow")
    assert [m.version for m in registry.history()] == [a, b]


@pytest.mark.parametrize("body", [b"", b"{}", b"not json"])
def test_a_spoilt_alias_is_told_not_overwritten(body):
    store = MemoryObjectStore()
    registry, (a, *_) = make(store)
    store.write("registry/video/release/aliases/champion.json", body)
    with pytest.raises(IntegrityError, match="restore it"):
        registry.alias("champion")
    with pytest.raises(IntegrityError):
        registry.promote(a, why="1", by="x")


steps = st.lists(st.one_of(st.integers(0, 3), st.just("rollback"), st.sampled_from("0123")), max_size=25)


@settings(max_examples=80)
@given(steps)
def test_any_sequence_of_moves_agrees_with_a_pair_of_variables(moves):
    registry, versions = make(MemoryObjectStore(), 4)
    champion = previous = None
    made = 0
    for move in moves:
        if move == "rollback":
            if previous is None:
                with pytest.raises(NotFoundError):
                    registry.rollback(why="r", by="x")
                continue
            registry.rollback(why="r", by="x")
            champion, previous = previous, champion
            made += 1
        else:  # a text is a release of the champion's models
            to = versions[int(move)]
            registry.move_alias("champion", to, why="p", by="x", keep_previous=isinstance(move, str))
            if to != champion:
                keeps = isinstance(move, str) and previous not in (None, to)
                champion, previous = to, previous if keeps else champion
                made += 1
        assert (points(registry, "champion"), points(registry, "previous")) == (champion, previous)
    assert len(registry.history()) == made


def test_previous_moves_alone_and_the_champion_stays():
    registry, (a, b, c) = make(MemoryObjectStore())
    for version in (a, b):
        registry.promote(version, why="p", by="gate")
    registry.move_previous(c, why="other items", by="refresh", expected=a)
    assert (points(registry, "champion"), points(registry, "previous")) == (b, c)
    assert registry.move_previous(c, why="again", by="refresh", expected=c).why == "other items"
    assert registry.alias("previous").why == "other items"
    assert {a, b, c} <= registry_names(registry)
    assert [(move.version, move.before) for move in registry.history()] == [(a, None), (b, a), (b, c)]
    for champion, previous in ((c, b), (b, c)):
        registry.rollback(why="bad", by="x")
        assert (points(registry, "champion"), points(registry, "previous")) == (champion, previous)


def registry_names(registry):
    return Aliases(registry._store, "video", lambda: NOW, str).named_since(NOW - timedelta(days=1))


def test_previous_does_not_move_from_where_it_is_not_nor_to_the_champion():
    registry, (a, b, c) = make(MemoryObjectStore())
    with pytest.raises(ConflictError, match="champion points nowhere"):
        registry.move_previous(b, why="w", by="x", expected=a)
    registry.promote(a, why="p", by="gate")
    with pytest.raises(ConflictError, match=f"previous was expected at {b}. champion was moved to {a} by gate"):
        registry.move_previous(c, why="w", by="x", expected=b)
    registry.promote(b, why="p", by="gate")
    with pytest.raises(BadInputError, match="is the champion"):
        registry.move_previous(b, why="w", by="x", expected=a)
    with pytest.raises(NotFoundError):
        registry.move_previous("20260301T120000-00000000", why="w", by="x", expected=a)
    assert (points(registry, "champion"), points(registry, "previous")) == (b, a)


@settings(max_examples=15)
@given(st.integers(2, 10), st.integers(1, 5))
def test_racing_movers_form_one_chain_in_which_no_move_is_lost(movers, rounds):
    store = MemoryObjectStore()
    _, versions = make(store, movers)
    won, lost = [], []
    gate = threading.Barrier(movers)

    def race(mine):
        registry = Registry(store, "video")
        gate.wait()
        for _ in range(rounds):
            try:
                move = registry.promote(mine, why="race", by=mine)
            except ConflictError as error:
                lost.append(str(error))
            else:
                if move.by == mine:
                    won.append(move.move_id)

    threads = [threading.Thread(target=race, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    registry = Registry(store, "video")
    history = registry.history()
    assert [move.sequence for move in history] == list(range(1, len(history) + 1))
    assert [move.came_from for move in history] == [None, *(move.version for move in history[:-1])]
    assert {move.move_id for move in history} == set(won)
    assert points(registry, "champion") == history[-1].version
    assert points(registry, "previous") == history[-1].came_from
    assert all("by 2" in told for told in lost)
