"""Suggestions' design card, in its six steps, and how the rails run it."""

from __future__ import annotations

from twinloop.contracts.spec import GatePolicy, Prices, Rung, Split, SystemSpec

LADDER: tuple[Rung, ...] = (
    Rung(name="distance_popularity", framework="xgboost", complexity=0),
    Rung(name="event_logistic", framework="xgboost", complexity=1),
    Rung(name="event_trees", framework="xgboost", complexity=2),
    # A second framework to keep up: worth it only where it shows.
    Rung(name="event_network", framework="pytorch", complexity=3, extra_margin=0.002),
)

SPEC = SystemSpec(
    name="suggestions",
    verb="recommendations",
    requirements=(
        "For a user, a place and a moment: upcoming real-world events that they may go to, best first, and why. What "
        "has begun, is full or was called off is never suggested; a cancellation counts within a minute. Events live "
        "for days, so each is new when it matters: nothing can be known of it from who went to it before. The place "
        "may be missing, or on the other side of the date line; starts are told by the clocks of where the event is. "
        "Of whom a user knows, counts are used and told, never names. There must always be an answer: near events that "
        "many go to are worth more than an error. Tickets, payments and reminders are the application's."
    ),
    framing=(
        "Learning to rank lists that were shown: of each event in a list, whether the user said yes to it within six "
        "hours. Cold start is the normal case, so everything is a feature of the event, the user and the moment, and "
        "no event or user has an embedding of its own. An event whose user had said yes before is no question. What "
        "is higher in a list is looked at more: the place is learnt from, and asked as if all stood first."
    ),
    data=(
        "Tables users (home, topics, friends), items (events, with place, start, organiser, price, capacity) and "
        "events: views, yeses, withdrawals, declines, and what organisers call off or put on again. Features as of the "
        "moment: distance and estimated way, hours until the start, local time of day and weekend, topics shared, "
        "price, how many come and how full it is, the organiser's record, how many of the user's friends come, and "
        "what the user said to that topic and organiser before; and learnt of other lists, which topics go "
        "together and what an organiser adds. Yeses and cancellations are counted as they arrive; "
        "views are only learnt from. Known biases: what is near was shown more, places in lists, and friends who are "
        "alike would have come anyway. Neither age, origin nor health is used, though topics may tell of them."
    ),
    architecture=(
        "A ladder: distance and popularity; logistic regression on standardised features; a LambdaMART ranker; a small "
        "network. Each is one ONNX file from 32 columns to a score. Upcoming events are an asset of the release, with "
        "their places as points of the sphere; a request takes those in reach, asks the store what is full, off, and "
        "gone to by friends, ranks up to 300, and has them go by policy: organisers take turns, what cannot be reached "
        "in time is left out, presets lean on what is near or soon."
    ),
    evaluation=(
        "Offline: one moment for everybody, the last lists are the test; NDCG@10 of a list as a release would have "
        "ordered it, through the code that serves. No slice may lose: users by how much they said yes to, and requests "
        "with a place and without. On simulated towns the true probabilities are known, and so the best possible "
        "score. Online: a challenger gets a share of the users, by a hash of their id; yeses and shows count."
    ),
    deployment=(
        "One Lambda, model and catalogue in memory. A request reads the user from DynamoDB, in one batch the friends' "
        "records, and those of events that were not read in the last half minute. New events are put behind the models "
        "that serve every hour, as a release of their own, whether or not learning found better models. Fallbacks: the "
        "release before, then distance and popularity; answers from there are marked as degraded. Where the store does "
        "not answer, events with a limit are left out, since they may be full."
    ),
    split=Split(strategy="global", validation=0.1, test=0.1, minimum_events=1),
    rungs=LADDER,
    gate=GatePolicy(
        primary="ndcg_at_10",
        margin=0.0,
        # 10 ms more, 200 MB more, half an hour of training more: each is worth half a point of NDCG.
        prices=Prices(per_ms=0.0005, per_mb=0.000025, per_training_minute=0.00017),
        confidence=0.95,
        slices=("activity", "place"),
        # A hundred lists' mean NDCG is known to about .03.
        slice_tolerance=0.03,
        minimum_slice_cases=100,
        latency_p99_ms=20.0,
        size_mb=200.0,
        parity_tolerance=1e-4,
    ),
)
