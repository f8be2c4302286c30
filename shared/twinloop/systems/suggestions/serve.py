"""From a loaded release to upcoming events for somebody, somewhere, at a moment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.artefacts import Case
from twinloop.contracts.endpoint import Question
from twinloop.contracts.signature import FEATURES as FEATURES_TENSOR
from twinloop.contracts.signature import RANKING, SCORES
from twinloop.contracts.system import Knowledge, Model, Reason
from twinloop.errors import BadInputError, IntegrityError
from twinloop.features import geography as geo
from twinloop.features.knowledge import NoItems, UserKnowledge
from twinloop.systems.suggestions import catalogue, explain, policy, tastes
from twinloop.systems.suggestions.columns import DAY_MS, FEATURES, HOUR_MS, facts_of, matrix, shared
from twinloop.systems.suggestions.features import COUNTING, HOME, MOST_FRIENDS, PERSONAL, STATE, UNKNOWN, plans_told
from twinloop.systems.suggestions.presets import DEFAULT, PRESETS, Preset

BASELINE_FILE = "baseline.json"  # what the fallback needs
CANDIDATES = 300  # events that are asked about at once, the nearest and best liked of those that come up
_ROUNDS = 4  # how often the next ones are asked about, where too many turn out to be full or off
_NUMBERS = ("lat", "lon", "starts_ms", "offset_min", "published_ms", "price", "capacity")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Suggested(NamedTuple):
    """One event of an answer."""

    item_id: str
    title: str
    score: float
    starts_ms: int
    local_start: str | None
    distance_km: float | None
    travel_min: float | None
    propensity: float | None
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Found:
    """What a release makes of a question.

    Attributes:
        events: Best first.
        placed: Whether it is known where the user is.
        full: Events left out since no place was left, or nobody knew. off: Since they were called off. past: Since they
            had begun, or could not be reached in time. All of those that were looked at.
        degraded: The store did not answer.
    """

    events: tuple[Suggested, ...]
    placed: bool
    full: int = 0
    off: int = 0
    past: int = 0
    degraded: bool = False


class Person(NamedTuple):
    """Who asks: where they are (NaN: nobody knows), what they like, whom they know."""

    lat: float
    lon: float
    topics: frozenset[str]
    friends: tuple[str, ...]


class Asking(NamedTuple):
    """A question with what was made of it: who asks, what the store says, when, and how policy is set."""

    request: Any
    person: Person
    known: UserKnowledge
    at_ms: int
    preset: Preset

    @property
    def friends(self) -> tuple[str, ...]:
        """Those whose plans may have a part in the answer, whose scores and order show what the model is told.

        Nobody where it would show who it is, or when they said so: who knows few people, or chooses the moment.
        """
        return () if self.request.time_ms is not None else plans_told(self.person.friends)


class SuggestionsPredictor:
    """One release of suggestions.

    Args:
        models: `ranking`, with `catalogue.json.gz`, `tastes.json.gz` and `baseline.json` ({"distance_weight": number})
            beside it.

    Raises:
        IntegrityError: There is no such component, or it was learnt from other columns than these.
    """

    asks_known = True  # what is full or called off is in the store, whatever the model takes

    def __init__(self, models: Mapping[str, Model]) -> None:
        if RANKING not in models:
            raise IntegrityError(f"a suggestions release needs the component {RANKING!r}")
        self.model = models[RANKING]
        if self.model.manifest.feature_names != tuple(FEATURES):
            raise IntegrityError("the release was learnt from other columns than this code makes; learn anew")

    @cached_property
    def catalogue(self) -> catalogue.Catalogue:
        """The events; raises NotFoundError, IntegrityError."""
        return catalogue.unpack(self.model.asset(catalogue.FILE))

    @cached_property
    def tastes(self) -> tastes.Tastes:
        """Which topics go together; raises NotFoundError, IntegrityError."""
        return tastes.unpack(self.model.asset(tastes.FILE))

    @cached_property
    def distance_weight(self) -> float:
        """Of the trivial baseline; raises NotFoundError, IntegrityError."""
        try:
            weight = float(json.loads(self.model.asset(BASELINE_FILE))["distance_weight"])
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{BASELINE_FILE} of the release has no distance_weight: {error!r}") from error
        if not np.isfinite(weight):
            raise IntegrityError(f"{BASELINE_FILE} of the release has a distance_weight that is no number")
        return weight

    def scores(self, facts: Mapping[str, Floats]) -> Floats:
        """Return what the model says of events, float64[events]; raises IntegrityError where that is no number."""
        columns = matrix(facts)
        said = self.model.run({FEATURES_TENSOR: columns})[SCORES]
        if said.shape != (len(columns),) or not np.isfinite(said).all():
            raise IntegrityError(f"{RANKING} returned what are no scores, one an event")
        return said.astype(np.float64)

    def answer(self, question: Question) -> Found:
        """Return the events of a request, as policy has them.

        Raises:
            IntegrityError: The model cannot be asked, its answer is none, or the catalogue cannot be read.
            BadInputError: There is no such preset, or the request says what cannot be.
        """
        return self._found(question, _preset(question.preset), model=True)

    def order(self, body: Mapping[str, Any], known: Knowledge | None = None) -> list[str]:
        """Return the events of a request's body, which names its moment, best first; raises BadInputError."""
        from twinloop.systems.suggestions.endpoint import SuggestionsRequest  # noqa: PLC0415 - to evaluate alone

        try:
            request = SuggestionsRequest.model_validate_json(json.dumps(body))
        except ValueError as error:
            raise BadInputError(f"no request can be made of {sorted(body)}: {error}") from error
        question = Question(request, (), known, int(request.time_ms or 0), None, "")
        return [event.item_id for event in self.answer(question).events]

    def base(self, question: Question) -> Found:
        """Return the trivial baseline: distance and popularity. It runs no model; what may be suggested is the same."""
        return self._found(question, PRESETS[DEFAULT], model=False)

    def _found(self, question: Question, preset: Preset, *, model: bool) -> Found:
        request, events = question.request, self.catalogue
        known = question.known if isinstance(question.known, UserKnowledge) else UserKnowledge(COUNTING, None, None)
        person = _person(request, known, question.at_ms)
        here = geo.points(person.lat, person.lon)
        days = preset.days if request.days is None else request.days
        rows = np.arange(len(events))[events.upcoming(question.at_ms, question.at_ms + days * DAY_MS)]
        rows = rows[~(events.numbers["published_ms"][rows] > question.at_ms)]  # what nobody dated is out
        if request.items is not None:
            rows = rows[events.among(request.items)[rows]]
        km = geo.kilometres(events.points[rows], here)
        radius = preset.radius_km if request.radius_km is None else request.radius_km
        gone = events.among([*(entry.item_id for entry in question.history), *request.exclude])
        wanted = ~(km > radius) & ~gone[rows]  # what has no place, or whom nobody places, is not too far
        rows, km = rows[wanted], km[wanted]
        liked = events.shared(person.topics)[rows]
        first = policy.best(liked + policy.distance_popularity(np.zeros(len(km)), km, 1.0), CANDIDATES * _ROUNDS)
        asking = Asking(request, person, known, question.at_ms, preset)
        chosen, facts, left_out = self._open(rows[first], asking)
        scores = self.scores(facts) if model else self._baseline(facts)
        until = (facts["starts_ms"] - question.at_ms) / HOUR_MS
        far = geo.distance_km(facts["place_lat"], facts["place_lon"], facts["lat"], facts["lon"])
        explore = preset.explore and bool(question.seed) and model
        order = policy.ranked(
            policy.adjusted(scores, far, until, preset) if model else scores,
            [events.organizer[row] for row in chosen.tolist()],
            limit=request.limit,
            preset=preset,
            random=_random(question.seed) if explore else None,
        )
        why = "reasons" in request.include and not question.unseen
        return Found(
            events=self._told(chosen, facts, scores, order, asking, why=why),
            placed=bool(np.isfinite(person.lat)),
            full=left_out[0],
            off=left_out[1],
            past=left_out[2],
            degraded=known.degraded or known.user is None,
        )

    def _baseline(self, facts: Mapping[str, Floats]) -> Floats:
        km = geo.distance_km(facts["place_lat"], facts["place_lon"], facts["lat"], facts["lon"])
        return policy.distance_popularity(_going(facts), km, self.distance_weight)

    def _open(self, rows: Ints, asking: Asking) -> tuple[Ints, dict[str, Floats], tuple[int, int, int]]:
        """Return the rows that may be suggested, with their facts, and how many were full, off and past.

        The first candidates are enough, unless too few of them may be suggested.
        """
        kept: list[tuple[Ints, dict[str, Floats]]] = [(rows[:0], facts_of(()))]
        full = off = past = found = 0
        for begin in range(0, len(rows), CANDIDATES):
            part = rows[begin : begin + CANDIDATES]
            facts, off_now, knows = self._facts(part, asking)
            columns = matrix(facts)
            names = list(FEATURES)
            may = policy.allowed(
                columns[:, names.index("hours_until")].astype(np.float64),
                columns[:, names.index("travel_min")].astype(np.float64),
                _going(facts),
                facts["capacity"],
                off_now,
                known=knows,
                preset=asking.preset,
            )
            off += int(may.off.sum())
            past += int((may.past & ~may.off).sum())
            full += int((may.full & ~may.off & ~may.past).sum())
            kept.append((part[may.fine], {name: values[may.fine] for name, values in facts.items()}))
            found += int(may.fine.sum())
            if found >= asking.request.limit:
                break
        chosen = np.concatenate([part for part, _ in kept])
        return chosen, {n: np.concatenate([f[n] for _, f in kept]) for n in kept[0][1]}, (full, off, past)

    def _facts(self, rows: Ints, asking: Asking) -> tuple[dict[str, Floats], NDArray[np.bool_], bool]:
        """Return the facts of events, which of them were called off, and whether the store said so."""
        events, person, known, at_ms = self.catalogue, asking.person, asking.known, asking.at_ms
        ids = [events.ids[row] for row in rows.tolist()]
        asked = UserKnowledge(COUNTING, known.user, known.items, users=known.users)
        values = asked.tensor((*STATE, *PERSONAL), ids, at_ms).astype(np.float64)
        knows = known.items is not None and not asked.degraded
        stored = dict(zip((*STATE, *PERSONAL), values.T, strict=True))
        friends = asked.others_doing(asking.friends, ids, at_ms, of="rsvps", against="withdrawals")
        known.degraded |= asked.degraded
        records = np.array([self._record(events.organizer[row]) for row in rows.tolist()], np.float64)
        records = records.reshape(-1, len(catalogue.RECORD))
        topics = [events.topics[row] for row in rows.tolist()]
        facts: dict[str, Floats] = {name: events.numbers[name][rows] for name in _NUMBERS}
        count = len(rows)
        facts |= {
            "place_lat": np.full(count, person.lat),
            "place_lon": np.full(count, person.lon),
            "time_ms": np.full(count, float(at_ms)),
            "rsvps": stored["item_rsvps"],
            "withdrawals": stored["item_withdrawals"],
            "topics": np.array([len(set(of)) for of in topics], np.float64),
            "user_topics": np.full(count, float(len(person.topics))),
            "topics_shared": np.array([shared(of, person.topics) for of in topics], np.float64),
            "friends": np.full(count, float(len(person.friends))),
            "friends_going": friends.astype(np.float64),
            "user_rsvps": stored["user_rsvps"],
            "topic_rsvps": stored["user_topic_rsvps"],
            "organizer_rsvps": stored["user_organizer_rsvps"],
            "organizer_declines": stored["user_organizer_declines"],
            **dict(zip(catalogue.RECORD, records.T, strict=True)),
            "taste": self.tastes.of(person.topics, topics),
            "organizer_effect": self.tastes.effects([events.organizer[row] for row in rows.tolist()]),
        }
        off = policy.called_off(
            cancel_days=stored["item_cancel_days"],
            restore_days=stored["item_restore_days"],
            more_cancels=stored["item_cancels"] > stored["item_restores"],
            by_row=stored["item_cancelled"] == 1,
        )
        return facts, off, knows

    def _record(self, organizer: str | None) -> tuple[float, ...]:
        return self.catalogue.records.get(organizer or "", (0.0,) * len(catalogue.RECORD))

    def _told(
        self,
        chosen: Ints,
        facts: Mapping[str, Floats],
        scores: Floats,
        order: policy.Ranking,
        asking: Asking,
        *,
        why: bool,
    ) -> tuple[Suggested, ...]:
        """Return what is shown of events: only of those that are in the answer, nothing is computed of the others."""
        events, places = self.catalogue, order.places
        shown = {name: values[places] for name, values in facts.items()}
        columns = matrix(shown)
        km, minutes = (columns[:, list(FEATURES).index(name)].tolist() for name in ("distance_km", "travel_min"))
        told = []
        for rank, place in enumerate(places.tolist()):
            row = int(chosen[place])
            one = {name: float(values[rank]) for name, values in shown.items()}
            starts, topics = int(one["starts_ms"]), events.topics[row]
            told.append(
                Suggested(
                    item_id=events.ids[row],
                    title=events.titles[row],
                    score=float(scores[place]),
                    starts_ms=starts,
                    local_start=explain.clock(starts, _offset(asking.request, one["offset_min"], starts)),
                    distance_km=_known(km[rank]),
                    travel_min=_known(minutes[rank]),
                    propensity=None if order.propensities is None else float(order.propensities[rank]),
                    reasons=explain.reasons(one, topics, asking.person.topics, km[rank]) if why else (),
                )
            )
        return tuple(told)


def judge(predictor: SuggestionsPredictor, case: Case) -> dict[str, float]:
    """Return the metrics of a list that was shown: NDCG@10 and MRR of what somebody said yes to, as a release ranks it.

    All of the list are one question to the model, with what was known at its moment. A case without facts, of
    `evaluate.cases`, is asked as a request is. Raises BadInputError where the case is no such list.
    """
    # Serving answers without metrics.
    from twinloop.evaluation.ranking import mrr, ndcg_at_k  # noqa: PLC0415
    from twinloop.systems.suggestions import evaluate  # noqa: PLC0415

    if "items" in case.request:
        return evaluate.judge_list(predictor, case)
    try:
        rows = [row | {"time_ms": case.request["time_ms"]} for row in case.request["events"]]
        ids, came = [row["item_id"] for row in rows], set(case.truth["came"])
        facts = facts_of(rows)
        facts["taste"] = predictor.tastes.of(case.request["liked"], [row["about"] for row in rows])
        facts["organizer_effect"] = predictor.tastes.effects([row.get("organizer_id") for row in rows])
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInputError(f"case {case.case_id!r} is no list of events: {error!r}") from error
    scores = predictor.scores(facts)
    ranked = [ids[place] for place in np.argsort(-scores, kind="stable").tolist()]
    return {"ndcg_at_10": ndcg_at_k(ranked, came, 10), "mrr": mrr(ranked, came)}


def _person(request: Any, known: UserKnowledge, at_ms: int) -> Person:
    """Return who asks: as the request says, and where it says nothing, as the store does."""
    geo.check_place(request.lat, request.lon)
    lat, lon = request.lat, request.lon
    if lat is None:
        home = [UNKNOWN, UNKNOWN]
        if known.user is not None:  # of the user alone: no item is read for it
            home = UserKnowledge(COUNTING, known.user, NoItems(COUNTING)).tensor(HOME, ["-"], at_ms)[0].tolist()
        lat, lon = (float("nan"), float("nan")) if UNKNOWN in home else home
    topics, friends = _listed(known, "topics"), _listed(known, "friends")
    if request.topics is not None:
        topics = list(request.topics)
    return Person(lat, lon, frozenset(topics), tuple(dict.fromkeys(friends))[:MOST_FRIENDS])


def _listed(known: UserKnowledge, attribute: str) -> list[str]:
    """Return a list that the store keeps as JSON text; nothing where it is none."""
    value = {} if known.user is None else known.user.attributes
    text = value.get(attribute)
    try:
        found = json.loads(text) if isinstance(text, str) else []
    except (ValueError, RecursionError):
        return []
    return [entry for entry in found if isinstance(entry, str)] if isinstance(found, list) else []


def _going(facts: Mapping[str, Floats]) -> Floats:
    return np.maximum(facts["rsvps"] - facts["withdrawals"], 0)


def _offset(request: Any, of_event: float, starts_ms: int) -> float:
    """Return by how much the clocks are ahead of UTC that an event's start is told by.

    Those where it takes place; of an event without a place, those of who asks.
    """
    if np.isfinite(of_event):
        return of_event
    if request.time_zone is not None:
        return geo.offset_minutes(request.time_zone, starts_ms)
    return float("nan") if request.utc_offset_min is None else float(request.utc_offset_min)


def _known(value: float) -> float | None:
    return round(value, 3) if np.isfinite(value) else None


def _random(seed: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}\0order".encode("utf-8", errors="surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:16]))


def _preset(name: str | None) -> Preset:
    try:
        return PRESETS[name or DEFAULT]
    except KeyError:
        raise BadInputError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}") from None


__all__: Sequence[str] = ("BASELINE_FILE", "Found", "Person", "Suggested", "SuggestionsPredictor", "judge")
