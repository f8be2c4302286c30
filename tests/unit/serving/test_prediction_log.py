"""A line that somebody acts on is not lost in silence; any other costs no request any time."""

import pytest

from twinloop.serving.prediction_log import PredictionLog


class Stream:
    """Fails so many times, then takes lines; each call takes so many seconds."""

    def __init__(self, fails, seconds=0.0, error=None):
        self.fails, self.seconds, self.error = fails, seconds, error
        self.calls, self.taken, self.now = 0, 0, 0.0

    def send(self, system, lines):
        self.calls += 1
        self.now += self.seconds
        if self.calls <= self.fails:
            if self.error:
                raise self.error
            return {0}
        self.taken += 1
        return set()

    def sleep(self, seconds):
        self.now += seconds

    def log(self):
        return PredictionLog(self, "video", sleep=self.sleep, clock=lambda: self.now)


@pytest.mark.parametrize("error", [None, OSError("away")])
def test_a_needed_line_is_sent_again(error):
    stream = Stream(2, error=error)
    assert stream.log().write({"a": 1}, needed=True)
    assert (stream.calls, stream.taken) == (3, 1)
    assert stream.now == pytest.approx(0.25)


def test_a_needed_line_does_not_wait_until_the_stream_has_rested():
    stream = Stream(1)
    log = stream.log()
    assert not log.write({})
    assert not log.write({})
    assert stream.calls == 1
    assert log.write({}, needed=True)
    assert stream.taken == 1


def test_a_needed_line_costs_a_bounded_time():
    quick, slow = Stream(100), Stream(100, seconds=2.5)
    assert not quick.log().write({}, needed=True)
    assert quick.calls == 3
    assert not slow.log().write({}, needed=True)
    assert (slow.calls, slow.now) == (1, 2.5)


def test_where_no_log_is_wanted_nothing_is_lost():
    assert PredictionLog(None, "video").write({}, needed=True)


def test_what_is_no_json_is_lost_at_once():
    stream = Stream(0)
    assert not stream.log().write({"a": object()}, needed=True)
    assert stream.calls == 0
