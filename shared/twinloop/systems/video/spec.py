"""Video's design card, in its six steps, and how the rails run it."""

from __future__ import annotations

from twinloop.contracts.spec import GatePolicy, Prices, Split, SystemSpec
from twinloop.systems.video.ladder import LADDER

SPEC = SystemSpec(
    name="video",
    verb="recommendations",
    requirements=(
        "For a user and a moment, a short list of videos that the user has not seen and will like, with titles where "
        "the application wants them. How large a catalogue may be depends on the rung, counted in videos that somebody "
        "liked: popularity takes any; the trees 4,500 and EASE 7,000, whose sizes grow with the square; two towers "
        "329,000, in three pairs up to 50,000 and one beyond. A rung that a catalogue is too large for says so and "
        "drops out, and the others are judged. Users come back and users are new. The answer is needed within 100 ms "
        "at the client, so within 20 ms here, and there must always be one: a list of popular videos is worth more "
        "than an error."
    ),
    framing=(
        "Ranking with implicit and explicit feedback. What speaks for a video: a rating of 4 or more, a like, a click, "
        "at least half of it watched. What was seen without that is known and never recommended, but is no vote "
        "against. Two stages: retrieval picks up to 150 candidates out of the whole catalogue, ranking orders them. "
        "Where lists are logged as impressions, a third model says of each candidate how likely a click and a long "
        "watch are, and how many seconds will be watched; it learns from impressions, so it says what happens if the "
        "item is shown, not whether it should be. The place in a list is taken out of what it learns. Where nothing is "
        "logged as shown there is no such model, and the answer does not pretend to know."
    ),
    data=(
        "Tables users, items and events. A user's history is the latest 1,000 events, the same online (DynamoDB) and "
        "in snapshots (point in time). Counters of users and items, and of a user with an author or a tag, stand "
        "beside it: kept as events arrive, and computed as of the moment for every impression that is learnt from. "
        "Known biases: people rate what they chose to see, popular videos are seen because they are shown, and what a "
        "new user did first says little about what they will do next. Users' attributes are used for nothing but what "
        "is popular with new users, and of those only the ones in `segments`: what people do says more, and using age "
        "or gender would need a reason."
    ),
    architecture=(
        "A ladder: popularity; a closed-form linear item model over the history (EASE), the honest rival on small "
        "catalogues; gradient-boosted trees that rank candidates of several sources, and are told besides how active, "
        "how pleased and how long away the user is (features of the moment, not of the history's items); a two-tower "
        "network; a small causal transformer over what was liked; trees that hear both networks as well; and the trees "
        "with a network beside them that predicts click, long watch and seconds together. A simpler rung serves unless "
        "a more complex one pays for itself. All of them are ONNX files with the same inputs, so serving does not know "
        "which rung it runs. Policy has the last word: relevance, click and watch time blended by weights of a preset, "
        "nothing seen, little repetition, a cap on authors, freshness, and a few places in which new videos are tried, "
        "with propensities in the log; its presets can be named in a request. A user of whom nothing usable is known "
        "gets the popular videos, those of their country, language or device where that was found to tell something."
    ),
    evaluation=(
        "Offline: per user by time, the last 10 % of the positives are the test (a model serves as it was judged, so "
        "what is held out is lost to it); NDCG@10 decides, Recall@20 is told beside it; every item is ranked that was "
        "not seen before. Judged through the code that serves, with the default preset of its policy and nothing left "
        "to chance. No group by activity (light, medium, heavy) may lose, nor users of whom nothing is known, nor "
        "those who went on to videos that nobody had liked. The per-user split lets popularity look at other users' "
        "later events, so a split at one moment for everybody is reported beside it. Online: a challenger gets a share "
        "of the users, by a hash of their id, and what they do with their lists is compared."
    ),
    deployment=(
        "One Lambda, models in memory. A request reads its user from DynamoDB once; releases that predict clicks also "
        "read, in one batch, the counters of candidates that were not read in the last half minute. Promotions and "
        "rollbacks reach warm processes within 30 seconds without a deployment. Fallbacks: the release before, then "
        "popular videos; answers from there are marked as degraded. What was answered is logged for learning and for "
        "watching; retraining runs on a schedule."
    ),
    split=Split(strategy="per_user", validation=0.05, test=0.1, minimum_events=5),
    rungs=LADDER,
    gate=GatePolicy(
        primary="ndcg@10",
        # A champion is replaced by what is surely better, however little: nothing but the move itself costs.
        margin=0.0,
        # 10 ms more, 200 MB more, half an hour of training more: each is worth a fiftieth of an NDCG of .2.
        prices=Prices(per_ms=0.0004, per_mb=0.00002, per_training_minute=0.00013),
        confidence=0.95,
        slices=("activity", "cold"),
        # A third of MovieLens-100K's users has a standard error of about .01; less would veto noise.
        slice_tolerance=0.02,
        minimum_slice_cases=50,
        latency_p99_ms=20.0,
        size_mb=200.0,
        parity_tolerance=1e-4,
    ),
    history_length=1000,
    # Age and gender are left out on purpose: they tell something of new users' likes, but using them needs a reason.
    segments=("country", "region", "language", "device", "platform", "occupation"),
)
