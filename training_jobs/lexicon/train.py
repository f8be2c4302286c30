"""A list of words for each label, learnt from the data: a text that has one of them probably has the label."""

import sys

import numpy as np
from pydantic import Field

from twinloop.contracts.text import TextInputs
from twinloop.text.disguises import tokens
from twinloop.text.ngrams import word_id
from twinloop.training.job import Job, run_job
from twinloop.training.text_linear import LexiconModel, told
from twinloop.training.text_release import held_out, write_text
from twinloop.training.texts import POSITIVE, Floats, Ints, TextConfig, first_windows, ngrams, open_texts


class Config(TextConfig):
    """Hyperparameters."""

    words: int = Field(100, ge=1, le=10_000, description="Of a label's list, at most.")
    least: int = Field(5, ge=1, description="Texts that must have a word for it to be on a list.")
    lift: float = Field(2.0, gt=1, description="How much likelier the label must be with the word than without any.")
    folds: int = Field(5, ge=2, le=20)


def train(config: Config, job: Job) -> None:
    """Count, list, say what a listed word means, prove."""
    texts = open_texts(job.snapshot, least_positives=config.least_positives)
    inputs = TextInputs(words=1)
    data = texts.train.join(texts.validation)
    rows = ngrams(data.texts, inputs)
    pieces = [sorted({*tokens(text)}) for text in first_windows(data.texts, inputs)]

    def fit(places: Ints) -> LexiconModel:
        seen, targets = [pieces[place] for place in places], data.targets[places]
        listed = np.zeros((inputs.buckets, targets.shape[1]), np.bool_)
        chances = np.zeros((2, targets.shape[1]))
        for label in range(targets.shape[1]):
            words = lexicon(seen, targets[:, label], config)
            listed[[word_id(word, inputs.buckets) for word in words], label] = True
            has = np.array([not words.isdisjoint(one) for one in seen], np.bool_)
            for side, mask in enumerate((~has, has)):
                known = targets[mask, label]
                known = known[~np.isnan(known)]
                chances[side, label] = (known.sum() + 0.5) / (len(known) + 1)
        without, with_ = np.log(chances / (1 - chances))
        return LexiconModel(inputs, listed, without, with_)

    log_odds = held_out(data, rows, fit, folds=config.folds)
    model = fit(np.arange(len(data)))
    job.say(f"{int(model.listed.sum())} words on the lists of {', '.join(texts.labels)}")
    write_text(job, config, texts, model, framework="numpy", data=data, log_odds=log_odds, rows=rows, tensors=told)


def lexicon(texts: list[list[str]], target: Floats, config: Config) -> set[str]:
    """Return the words that say most for a label: by how much likelier it is with them, in log-odds."""
    known = ~np.isnan(target)
    rate = float(np.mean(target[known] >= POSITIVE)) if known.any() else 0.0
    seen: dict[str, int] = {}
    having: dict[str, int] = {}
    for words, value, is_known in zip(texts, target.tolist(), known.tolist(), strict=True):
        if not is_known:
            continue
        for word in words:
            seen[word] = seen.get(word, 0) + 1
            if value >= POSITIVE:
                having[word] = having.get(word, 0) + 1
    # The rate is what a word is believed to mean before it has been seen ten times.
    weight = {word: (having.get(word, 0) + 10 * rate) / (count + 10) for word, count in seen.items()}
    told = [
        (share, word)
        for word, share in weight.items()
        if seen[word] >= config.least and share >= min(config.lift * rate, (1 + rate) / 2)
    ]
    return {word for _, word in sorted(told, key=lambda pair: (-pair[0], pair[1]))[: config.words]}


if __name__ == "__main__":
    sys.exit(run_job("lexicon", Config, train))
