"""An application with places for ads in the world: its items are ads, and clicks are rare and sometimes late."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from twinloop.datasets.simulator.people import Array
from twinloop.datasets.simulator.reactions import Outcomes
from twinloop.datasets.simulator.settings import AdsSettings, WorldSettings
from twinloop.datasets.simulator.video import VideoApplication
from twinloop.datasets.simulator.vocabulary import TAGS

SLOTS = ("top", "middle", "bottom")  # by position; what comes after them is "bottom", too
_CLICKS_A_DAY = 40.0  # of a budget, on average


class AdsApplication(VideoApplication):
    """People of a world see ads, the same one again and again, and click few of them.

    Who clicks and why is as in `reactions`: what a video's length is there, how it suits a device, is an ad's format
    here. An author is an advertiser, whose ads of one main tag are a campaign.
    """

    types = ("impression", "click")
    remembered = 0
    after_click = 1.0

    def __init__(self, world: WorldSettings, settings: AdsSettings) -> None:
        super().__init__(world, settings)
        self._late, self._late_ms = settings.late, settings.late_minutes * 60_000

    @cached_property
    def bids(self) -> Array:
        """What is bid for a click on each ad, float64[items]: alike within a campaign."""
        rng = self.world.rng_of_day(-1, 1)
        campaigns, campaign = np.unique(self.campaign, return_inverse=True)
        of_campaign = rng.normal(np.log(0.5), 0.6, len(campaigns))
        return np.asarray(np.round(np.exp(of_campaign[campaign] + rng.normal(0, 0.15, len(campaign))), 2) + 0.01)

    @cached_property
    def budgets(self) -> Array:
        """What each ad may cost in a day, float64[items]."""
        rng = self.world.rng_of_day(-1, 2)
        return np.asarray(np.round(self.bids * _CLICKS_A_DAY * rng.lognormal(0, 1, len(self.bids)), 2))

    @property
    def campaign(self) -> Array:
        """The number of each ad's campaign, int64[items]."""
        items = self.world.items
        return np.asarray(items.author.astype(np.int64) * len(TAGS) + items.tags[:, 0])

    def followed(self, outcomes: Outcomes, rng: np.random.Generator) -> tuple[tuple[Array, Array], ...]:
        """Return which impressions were clicked, and when."""
        count = len(outcomes.clicked)
        delay = np.where(rng.random(count) < self._late, rng.exponential(self._late_ms, count), 0.0)
        return ((outcomes.clicked, outcomes.click_time + delay.astype(np.int64)),)
