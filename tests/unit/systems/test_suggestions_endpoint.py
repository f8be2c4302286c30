"""What may be asked of suggestions, and how an answer reads."""

import json

import pytest
from pydantic import ValidationError
from tiny_suggestions import World, event, predictor, question

from twinloop.contracts.endpoint import Origin
from twinloop.systems.suggestions.endpoint import RECOMMENDATIONS, SuggestionsRequest


def parsed(**body):
    return SuggestionsRequest.model_validate_json(json.dumps({"user_id": "u"} | body))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"lat": 1.0}, "lat and lon come together"),
        ({"lat": 90.5, "lon": 0}, "less than or equal to 90"),
        ({"lat": 0, "lon": -180.5}, "greater than or equal to -180"),
        ({"time_zone": "Europe/Atlantis"}, "no time zone"),
        ({"time_zone": "../../etc/passwd"}, "no time zone"),
        ({"utc_offset_min": 1440}, "less than or equal to 1439"),
        ({"limit": 101}, "less than or equal to 100"),
        ({"radius_km": 0}, "greater than 0"),
        ({"days": 1000}, "less than or equal to 366"),
        ({"topics": ["x"] * 101}, "at most 100"),
        ({"exclude": ["x"] * 1001}, "at most 1000"),
        ({"friends": ["anna"]}, "Extra inputs"),
        ({"lat": "52", "lon": "13"}, "valid number"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(body, said):
    with pytest.raises(ValidationError, match=said):
        parsed(**body)


def test_a_place_is_both_or_neither_up_to_the_poles_and_the_date_line():
    assert (parsed().lat, parsed().lon) == (None, None)
    assert parsed(lat=-90, lon=180).lon == 180
    assert parsed(time_zone="Pacific/Kiritimati").time_zone == "Pacific/Kiritimati"


def answered(**request):
    rows = [event("a", organizer_id="o"), event("b", place=None)]
    asked = question(World(rows).knowledge(), **request)
    found = predictor(rows).answer(asked)
    origin = Origin(None, "v1", "champion", "p1", found.degraded, asked.preset, False)
    return asked, found, RECOMMENDATIONS.tell(asked, found, origin)


def test_an_answer_says_what_where_when_and_why():
    asked, found, answer = answered(include=["reasons"])
    first = json.loads(answer.model_dump_json(exclude_none=True))["events"][0]
    assert (first["item_id"], first["rank"], first["title"]) == ("a", 1, "Event a")
    assert first["local_start"] == "2026-06-03T13:00+02:00"
    assert {reason["code"] for reason in first["reasons"]} == {"near", "soon"}
    assert (answer.placed, answer.events[1].distance_km, answer.events[1].local_start) == (True, None, None)
    assert RECOMMENDATIONS.counts(answer) == {"Events": 2, "Placed": 1, "Empty": 0}
    logged = RECOMMENDATIONS.log(asked, found, answer)
    assert logged["items"] == [["a", 0.0], ["b", -50.0]]
    assert (logged["distances_km"], logged["propensities"]) == ([0.0, None], None)
    assert RECOMMENDATIONS.log_shadow(found) == {"items": logged["items"]}


def test_why_is_told_where_it_is_asked_for():
    assert answered()[2].events[0].reasons is None


def test_a_preset_that_there_is_not_is_no_answer():
    with pytest.raises(Exception, match="no preset"):
        answered(preset="wild")
