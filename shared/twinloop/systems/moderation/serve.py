"""From a loaded release to probabilities of labels of texts, and from there, through policy, to decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from twinloop.contracts.artefacts import Case
from twinloop.contracts.endpoint import Question
from twinloop.contracts.signature import IDS
from twinloop.contracts.system import Knowledge, Model
from twinloop.contracts.text import NORMALISATION
from twinloop.contracts.thresholds import LABELS, TEXT_FILE, VOCABULARY_FILE, TextTold
from twinloop.errors import BadInputError, IntegrityError, NotFoundError
from twinloop.serving.loading import can_run
from twinloop.systems.moderation import policy as rules
from twinloop.systems.moderation.features import REPORTS, RESTORATIONS, VIOLATIONS
from twinloop.systems.moderation.policy import Decision, Hashes, Policy
from twinloop.systems.moderation.spec import MEDIA_FILE, POLICY_FILE
from twinloop.text.disguises import read, windows
from twinloop.text.ngrams import counted, padded
from twinloop.text.normalised_wordpiece import NormalisedWordPiece, padded_pieces

if TYPE_CHECKING:
    from twinloop.systems.moderation.endpoint import AskedText

COMPONENT, COUNTS, PIECES = "text", "counts", "pieces"
_TOGETHER = 32  # windows that are run at once: what more are costs memory, and gains no time
_MOST_ENCODED = 12  # windows, and rows of pieces, of a text that an encoder reads: some 5 ms each
_MOST_ENCODED_TOGETHER = 300  # of all texts of a request: a second and a half
_LEAST_ENCODED = 3  # the first, the last, and the worst one
_HALF = 0.5

Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]
_ALLOWED = Decision("allow", ())


class DecidedText(NamedTuple):
    """What is done about a text, and the probabilities that the model told; none where it was not asked.

    `worst`: the windows, as the model read them, in which the labels that ask for the action are likeliest.
    """

    decision: Decision
    labels: dict[str, float]
    worst: tuple[str, ...] = ()


class Said(NamedTuple):
    """What the model says of a text: nothing of one without a character that says anything.

    Attributes:
        labels: Their probabilities.
        windows: The window in which each is likeliest.
        cut: Whether the text's end is unread.
    """

    labels: dict[str, float]
    windows: dict[str, str]
    cut: bool


@dataclass(frozen=True)
class Decided:
    """What a release makes of a question, text by text. `degraded`: authors' records were defaults."""

    texts: tuple[DecidedText, ...]
    policy_version: str
    degraded: bool = False


class ModerationPredictor:
    """One release of moderation.

    Args:
        models: `text`, with `text.json` beside it, and what policy there is.

    Raises:
        IntegrityError: There is no such component, or it reads texts otherwise than this code.
    """

    asks_history = False  # authors' records are read of all who are named; nothing else of anybody

    def __init__(self, models: Mapping[str, Model]) -> None:
        if COMPONENT not in models:
            raise IntegrityError(f"the release has no component {COMPONENT!r}")
        self.model = models[COMPONENT]
        try:
            self.told = TextTold.model_validate_json(self.model.asset(TEXT_FILE))
        except (NotFoundError, ValidationError) as error:
            raise IntegrityError(f"{TEXT_FILE} of the release cannot be read: {error}") from error
        if self.told.inputs.normalisation != NORMALISATION and can_run(self.model):
            raise IntegrityError(
                f"the model reads texts by rules {self.told.inputs.normalisation}, this code by {NORMALISATION}; "
                "learn anew, or deploy the code that belongs to the model"
            )
        self.labels = tuple(self.told.labels)

    @cached_property
    def policy(self) -> Policy:
        """What is done about texts; raises IntegrityError where the file is no policy.

        A policy may be older than the model: of labels that it does not name the model's own thresholds hold.
        """
        try:
            return rules.completed(rules.read_policy(self.model.asset(POLICY_FILE)), self.told.labels)
        except NotFoundError:
            return rules.of_thresholds(self.told.labels)
        except BadInputError as error:
            raise IntegrityError(str(error)) from error

    @cached_property
    def hashes(self) -> Hashes:
        """Perceptual hashes of media that are known to be bad."""
        try:
            return rules.unpack_hashes(self.model.asset(MEDIA_FILE))
        except NotFoundError:
            return np.zeros(0, np.uint64)

    @cached_property
    def _pieces(self) -> NormalisedWordPiece:
        try:
            return NormalisedWordPiece(self.model.asset(VOCABULARY_FILE))
        except NotFoundError as error:
            raise IntegrityError(f"the model reads word pieces, and has no {VOCABULARY_FILE} beside it") from error

    def answer(self, question: Question) -> Decided:
        """Return what policy does about the texts of a request.

        Media that are known to be bad need no model: where they alone ask for the hardest action, none is asked.
        Raises IntegrityError where the model cannot be asked, or its answer is none.
        """
        asked, policy = question.request.asked, self.policy
        media = self._of_media(asked)
        open_ = [place for place, one in enumerate(media) if one.action != rules.ACTIONS[-1]]
        said = self._said([asked[place].text for place in open_])
        found = [DecidedText(one, {}) for one in media]
        for place, one in zip(open_, said, strict=True):
            known = question.others.get(asked[place].author_id or "")
            violations, reports = _record(known, question.at_ms)
            decision = rules.decide(policy, one.labels, violations=violations, reports=reports, cut=one.cut)
            decision = rules.harder(media[place], decision)
            worst = dict.fromkeys(one.windows[label] for label in decision.because if label in one.windows)
            found[place] = DecidedText(decision, one.labels, tuple(worst))
        degraded = any(known.degraded for known in question.others.values())
        return Decided(tuple(found), policy.version, degraded)

    def base(self, question: Question) -> Decided:
        """Return the trivial baseline: known media by their list, all else as policy has it where no model runs."""
        blind = Decision(self.policy.without_model, ("no_model",))
        asked = question.request.asked
        texts = [
            DecidedText(rules.harder(media, blind if one.text.strip() else _ALLOWED), {})
            for one, media in zip(asked, self._of_media(asked), strict=True)
        ]
        return Decided(tuple(texts), self.policy.version)

    def look(self, text: str) -> DecidedText:
        """Return what is said of a text by nobody in particular, and done about it."""
        [said] = self._said([text])
        return DecidedText(rules.decide(self.policy, said.labels, cut=said.cut), said.labels)

    def probabilities(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Return the probability of each label of each text; of a text without a character that says anything, none.

        A long text is read in windows, and is as bad as its worst one. Where a model reads n-grams and pieces, the
        encoder of pieces reads few windows of a long text: the first, the last, and those that are worst by n-grams;
        fewer of each where many texts of a request are long, see `most_encoded`.
        """
        return [one.labels for one in self._said(texts)]

    def _said(self, texts: Sequence[str]) -> list[Said]:
        owners: list[int] = []
        every: list[str] = []
        found: list[Said] = []
        for place, text in enumerate(texts):
            plain = read(text)
            found.append(Said({}, {}, plain.cut))
            if plain.text:
                pieces = windows(plain.text, self.told.inputs)
                every += pieces
                owners += [place] * len(pieces)
        if not every:
            return found
        whose = np.array(owners, np.int64)
        said = self._read(every, whose)
        for place in set(owners):
            inside = np.flatnonzero(whose == place)
            likeliest = inside[said[inside].argmax(axis=0)]
            for label, column, window in zip(self.labels, range(len(self.labels)), likeliest.tolist(), strict=True):
                found[place].labels[label] = float(said[window, column])
                found[place].windows[label] = every[window]
        return found

    def _of_media(self, asked: Sequence[AskedText]) -> list[Decision]:
        """Return what is done about the media of each text; each different hash is looked up once."""
        different = {rules.media_hash(one) for text in asked for one in text.media_hashes}
        bad = rules.known_bad(self.hashes, sorted(different), self.policy.media.distance) if different else frozenset()
        removed = Decision(self.policy.media.action, ("media",))
        return [
            removed if any(rules.media_hash(one) in bad for one in text.media_hashes) else _ALLOWED for text in asked
        ]

    def _read(self, every: Sequence[str], owners: Ints) -> Floats32:
        """Return the probabilities of windows, float32[W, L]; `owners` int64[W] tells whose each is."""
        inputs = self.told.inputs
        if inputs.kind == "ngrams":
            return self._run(every)
        if inputs.kind == "both":
            return self._read_both(every, owners)
        rows = [(place, row) for place, text in enumerate(every) for row in self._rows(text)]
        found = np.zeros((len(every), len(self.labels)), np.float32)
        self._encode(every, rows, found)
        return found

    def _read_both(self, every: Sequence[str], owners: Ints) -> Floats32:
        """Return the same where n-grams are read of every window, and pieces of some.

        A window with more pieces than fit into a row has several; it is as bad as the worst of them. What the encoder
        has not read all of has the probability of n-grams alone, too.
        """
        found = np.zeros((len(every), len(self.labels)), np.float32)
        counts = np.bincount(owners)
        most = most_encoded(counts)
        long = np.flatnonzero(counts[owners] > most)
        found[long] = self._run([every[place] for place in long.tolist()])
        rows: dict[int, list[list[int]]] = {}
        for owner in np.unique(owners):
            inside = np.flatnonzero(owners == owner)
            for place in inside[worst_windows(found[inside], most)].tolist():
                rows[place] = list(islice(self._rows(every[place]), most + 1))
        places = np.array(list(rows), np.int64)
        sizes = np.bincount(owners[places], [len(rows[place]) for place in places.tolist()]).astype(np.int64)
        bound = most_encoded(sizes)
        whole = dict.fromkeys(rows, True)
        for owner in np.flatnonzero(sizes > bound):
            inside = places[owners[places] == owner]
            if counts[owner] <= most:
                found[inside] = self._run([every[place] for place in inside.tolist()])
            room = bound
            for place in inside[_first_to_read(found[inside])].tolist():
                whole[place] = len(rows[place]) <= room
                rows[place] = rows[place][:room]
                room -= len(rows[place])
        found[[place for place, is_whole in whole.items() if is_whole]] = 0
        self._encode(every, [(place, row) for place in rows for row in rows[place]], found)
        return found

    def _rows(self, text: str) -> Iterator[list[int]]:
        return self._pieces.rows(text, most=self.told.inputs.most_pieces)

    def _encode(self, every: Sequence[str], rows: Sequence[tuple[int, list[int]]], found: Floats32) -> None:
        """Raise probabilities of windows, float32[W, L], to those of rows of their pieces."""
        said = self._run([every[place] for place, _ in rows], [row for _, row in rows])
        np.maximum.at(found, [place for place, _ in rows], said)

    def _run(self, texts: Sequence[str], rows: Sequence[list[int]] | None = None) -> Floats32:
        """Return probabilities, float32[T, L], of windows and rows of their pieces; without any by n-grams alone."""
        # What is of like length together: what is shorter is filled up.
        lengths = [len(one) for one in (texts if rows is None else rows)]
        order = sorted(range(len(texts)), key=lengths.__getitem__)
        found = np.empty((len(texts), len(self.labels)), np.float32)
        for start in range(0, len(order), _TOGETHER):
            places = order[start : start + _TOGETHER]
            pieces = [[-1]] if rows is None else [rows[place] for place in places]
            said = self.model.run(self._inputs([texts[place] for place in places], pieces))[LABELS]
            if said.shape != (len(places), len(self.labels)) or not ((said >= 0) & (said <= 1)).all():
                raise IntegrityError(f"{COMPONENT} returned what are no probabilities, one a label of a text")
            found[places] = said
        return found

    def _inputs(self, texts: Sequence[str], pieces: Sequence[list[int]]) -> dict[str, NDArray[Any]]:
        inputs, found = self.told.inputs, dict[str, NDArray[Any]]()
        if inputs.kind != "ngrams":
            found[PIECES] = padded_pieces(pieces)
        if inputs.kind != "wordpieces":
            found[IDS], found[COUNTS] = padded([counted(text, inputs) for text in texts])
        return found


def most_encoded(counts: Ints) -> int:
    """Return how many windows, or rows of pieces, of a text an encoder reads, of texts with int64[T] of them each.

    All of them together are at most 300, or three a text where that is more: with 100 texts it is not.
    """
    if int(np.minimum(counts, _MOST_ENCODED).sum()) <= _MOST_ENCODED_TOGETHER:
        return _MOST_ENCODED
    return min(max(_MOST_ENCODED_TOGETHER // int((counts > 0).sum()), _LEAST_ENCODED), _MOST_ENCODED)


def worst_windows(said: Floats32, most: int) -> Ints:
    """Return which windows of a text are looked at more closely, of their probabilities float32[W, L].

    The first and the last, and those that come first for any label: the worst of every label before the second worst of
    any. Never more than `most`, which is above 2.
    """
    return np.sort(_first_to_read(said)[:most])


def _first_to_read(said: Floats32) -> Ints:
    rank = np.argsort(np.argsort(-said, axis=0, kind="stable"), axis=0).min(axis=1)
    rank[[0, -1]] = -1
    return np.argsort(rank, kind="stable")


def _record(known: Knowledge | None, at_ms: int) -> tuple[float, float]:
    """Return an author's violations and reports; none of somebody who is not told."""
    if known is None:
        return 0.0, 0.0
    found, restored, reports = known.tensor((VIOLATIONS, RESTORATIONS, REPORTS), ("-",), at_ms)[0].tolist()
    return max(found - restored, 0.0), reports


class Looking(Protocol):
    """What is judged: a release, or the deployed API in its place."""

    def look(self, text: str) -> DecidedText:
        """Return what is said of a text by nobody in particular, and done about it."""
        ...


def judge(predictor: Looking, case: Case) -> dict[str, float]:
    """Return the metrics of a labelled text.

    `log_gain` is the mean log-likelihood, in nats, of what people said of the labels that they were asked about; one
    that the release does not know is worth a probability of one half. `negatives` is 1 where the release knows one of
    these labels and people saw none of them, `false_positives` where policy acts upon one of them all the same.
    Raises BadInputError where the case is none of moderation's.
    """
    from twinloop.evaluation.bundles import LOG_GAIN  # noqa: PLC0415 - serving answers without metrics
    from twinloop.evaluation.subgroups import FALSE_POSITIVES, NEGATIVES  # noqa: PLC0415

    try:
        text, truth = str(case.request["text"]), {str(k): float(v) for k, v in case.truth["labels"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInputError(f"case {case.case_id!r} is no labelled text of moderation: {error!r}") from error
    one = predictor.look(text)
    acted = one.decision.action != "allow" and any(label in truth for label in one.decision.because)
    p = np.clip([one.labels.get(label, _HALF) for label in truth], 1e-6, 1 - 1e-6)
    y = np.array(list(truth.values()))
    clean = any(label in one.labels for label in truth) and all(value < _HALF for value in truth.values())
    return {
        LOG_GAIN: float(np.mean(y * np.log(p) + (1 - y) * np.log1p(-p))) if truth else 0.0,
        NEGATIVES: float(clean),
        FALSE_POSITIVES: float(clean and acted),
    }
