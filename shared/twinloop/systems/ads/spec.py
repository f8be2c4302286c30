"""Ads' design card, in its six steps, and how the rails run it."""

from __future__ import annotations

from twinloop.contracts.spec import GatePolicy, Prices, Rung, Split, SystemSpec

LADDER: tuple[Rung, ...] = (
    Rung(name="base_rate", framework="xgboost", complexity=0, needs=("impressions",)),
    Rung(name="logistic", framework="xgboost", complexity=1, continues=True, needs=("impressions",)),
    Rung(name="click_trees", framework="xgboost", complexity=2, needs=("impressions",)),
    # A second framework to keep up: worth it only where it shows.
    Rung(name="cross_network", framework="pytorch", complexity=3, extra_margin=0.0003, needs=("impressions",)),
)

SPEC = SystemSpec(
    name="ads",
    verb="predictions",
    requirements=(
        "For a user, a place in an application and up to 1,000 ads, with bids where there are any: how likely the user "
        "clicks each ad if it is shown, what showing it is worth, and an order. The probabilities are multiplied with "
        "money, so they must be right on average, overall and for each kind of user and place, and not only put ads in "
        "order. New ads come every day; their budgets and campaigns hold from the next learn run on, or from when the "
        "snapshot function is told to materialise. The answer is needed before a page is put together: 100 ads within "
        "5 ms here, and there must always be one: the base rate for every ad, in the order of the bids, is worth more "
        "than an error. Auctions, prices and billing are the application's."
    ),
    framing=(
        "The probability of a binary outcome. A showing is clicked where a click of the same user and ad comes within "
        "an hour of it, or where the row of the showing says so itself; a showing whose hour is not over is not yet "
        "learnt from, since its click may still come. Clicks are rare, one of fifty or less, so nothing is thrown away "
        "to balance them: what was left out would have to be put back into the probabilities. Who was shown what was "
        "chosen by whatever chose it, so the model says what happens if the ad is shown, and says it best for ads like "
        "those that were."
    ),
    data=(
        "Tables users, items (the ads, with advertiser and campaign) and events: showings, and clicks or showings that "
        "say whether they were clicked. Counters of users and ads, and of a user with an ad, its campaign and its "
        "advertiser, over one, seven and thirty days; kept as events arrive, and computed as of the moment for every "
        "showing that is learnt from. Ids, attributes and facts of the moment go in as hashes of themselves and of "
        "pairs of them, defined once for training and serving. Known biases: ads are shown where they were expected to "
        "be clicked, a higher place is clicked more, and clicks can be late or accidents. Of users' attributes country "
        "and age group are used, by which audiences are bought; nothing else that says who somebody is."
    ),
    architecture=(
        "A ladder: the base rate; logistic regression over the hashes, at its optimum, which by FTRL can "
        "go on learning from where it stopped; gradient-boosted trees over the counters; a network that crosses "
        "features explicitly (DCN-v2) beside a deep one. A simpler rung serves unless a more complex one pays for "
        "itself in log loss. All are one ONNX file that takes hashes, counters or both, calibrated inside on a part of "
        "the data that nothing else was chosen on. Policy has the last word: a user is not shown an ad or a campaign "
        "more often than a cap in a day, an ad whose budget of the day is nearly spent takes part less often, what is "
        "left is ordered by bid x probability, and a preset answers now and then in any order, with propensities in "
        "the log."
    ),
    evaluation=(
        "Offline: one moment for everybody, the last showings by time are the test. Log loss decides, as what is "
        "gained (its negative), because it is the score that is best where the probabilities are the true ones; "
        "normalised entropy, AUC, expected calibration error and predicted over observed clicks are told beside it. "
        "The error is taken in 15 bins of equal count; the benchmarks' figures of it are older, in 15 bins of equal "
        "width, where rare clicks are nearly all in the first. "
        "Judged through the code that serves, twenty showings at a time. A release whose mean is off by more than a "
        "tenth, and by more than chance explains, overall or in a slice, does not serve. No slice may lose: users by "
        "how many ads they have been shown, and devices. Online: a challenger gets a share of the users, by a hash of "
        "their id, and clicks and what was bid for them are compared."
    ),
    deployment=(
        "One Lambda, models in memory. A request reads its user's counters from DynamoDB once, and those of ads "
        "that were not read in the last half minute, a hundred at a time and all at once. Promotions and rollbacks "
        "reach warm processes within 30 seconds without a deployment. Fallbacks: the release before, then the base "
        "rate; answers from there are marked as degraded. Where the store does not answer, counters are their "
        "defaults: then caps and budgets do not hold either, and the answer says so by the same mark. What was "
        "answered is logged for learning and for watching. Every hour what was said in the last hours is held "
        "against what came of it, and the log-odds of the very release are moved by the difference, overall and by "
        "facts of the moment: people click more on one day than on another, and a model only learns of it with the "
        "next training. The gate knows nothing of that. Retraining runs on a schedule."
    ),
    split=Split(strategy="global", validation=0.1, test=0.1, minimum_events=1),
    rungs=LADDER,
    gate=GatePolicy(
        primary="log_gain",
        # A champion is replaced by what is surely better, however little: nothing but the move itself costs.
        margin=0.0,
        # 10 ms more (of twenty ads), 200 MB more, half an hour of training more: each is worth half a percent of a log
        # loss of .1, which is about that of the base rate where one showing of fifty is clicked.
        prices=Prices(per_ms=0.00005, per_mb=0.0000025, per_training_minute=0.000017),
        confidence=0.95,
        slices=("activity", "device"),
        # Fifty bundles are a thousand showings with some twenty clicks, whose log loss is known to about .01.
        slice_tolerance=0.01,
        minimum_slice_cases=50,
        latency_p99_ms=10.0,
        size_mb=200.0,
        parity_tolerance=1e-4,
        calibration_tolerance=0.1,
    ),
)
