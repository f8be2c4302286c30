"""Places and clocks: what must hold everywhere on the globe, and what is known of a few places."""

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.errors import BadInputError
from twinloop.features import geography as geo

LATS = st.floats(-90, 90)
LONS = st.floats(-180, 180)
NEAR = 1e-5  # km


def ms(*when):
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1000)


@given(LATS, LONS, LATS, LONS)
def test_a_distance_is_the_same_both_ways_and_at_most_half_way_round(lat, lon, lat2, lon2):
    there, back = geo.distance_km(lat, lon, lat2, lon2), geo.distance_km(lat2, lon2, lat, lon)
    assert there == back
    assert 0 <= there <= geo.HALF_WAY_ROUND_KM


@given(LATS, LONS, LATS, LONS)
def test_a_distance_is_that_of_the_haversine_formula(lat, lon, lat2, lon2):
    a, b, c, d = map(math.radians, (lat, lon, lat2, lon2))
    h = math.sin((c - a) / 2) ** 2 + math.cos(a) * math.cos(c) * math.sin((d - b) / 2) ** 2
    expected = 2 * geo.EARTH_KM * math.asin(math.sqrt(min(h, 1)))
    assert geo.distance_km(lat, lon, lat2, lon2) == pytest.approx(expected, abs=2e-3, rel=1e-6)


@given(st.tuples(LATS, LONS), st.tuples(LATS, LONS), st.tuples(LATS, LONS))
def test_a_detour_is_no_shortcut(here, by, there):
    assert geo.distance_km(*here, *there) <= geo.distance_km(*here, *by) + geo.distance_km(*by, *there) + 2e-3


@given(LATS, LONS, LATS, LONS, st.integers(-3, 3))
def test_going_around_the_globe_changes_nothing(lat, lon, lat2, lon2, turns):
    assert geo.distance_km(lat, lon + 360 * turns, lat2, lon2) == pytest.approx(
        float(geo.distance_km(lat, lon, lat2, lon2)), abs=2e-3
    )


@given(LATS, st.floats(0, 1))
def test_the_date_line_is_no_border(lat, off):
    across = geo.distance_km(lat, 180 - off, lat, -180 + off)
    assert across == pytest.approx(float(geo.distance_km(lat, -off, lat, off)), abs=NEAR)


@given(LONS, LONS, st.sampled_from([-90.0, 90.0]))
def test_a_pole_is_one_place(lon, lon2, pole):
    assert geo.distance_km(pole, lon, pole, lon2) == pytest.approx(0, abs=NEAR)
    assert geo.distance_km(pole, lon, 0, lon2) == pytest.approx(geo.HALF_WAY_ROUND_KM / 2, abs=NEAR)


@given(LATS, LONS)
def test_the_far_side_is_half_way_round(lat, lon):
    assert geo.distance_km(lat, lon, -lat, lon + 180) == pytest.approx(geo.HALF_WAY_ROUND_KM, abs=2e-3)


@given(LATS, LONS)
def test_what_nobody_told_is_not_a_distance_and_not_zero(lat, lon):
    found = geo.distance_km(lat, lon, [math.nan, lat, lat], [lon, math.nan, lon])
    assert np.isnan(found).tolist() == [True, True, False]


@given(LATS, LONS, st.floats(-2000, 2000), st.floats(-2000, 2000))
def test_who_moved_is_as_far_away_as_they_moved_and_still_on_the_globe(lat, lon, north, east):
    there = geo.moved(lat, lon, north, east)
    assert geo.distance_km(lat, lon, *there) == pytest.approx(math.hypot(north, east), abs=1e-3)
    assert -90 <= there[0] <= 90
    assert -180 <= there[1] < 180


def test_known_distances():
    berlin, london = (52.52, 13.405), (51.5074, -0.1278)
    auckland, suva, apia = (-36.8485, 174.7633), (-18.1416, 178.4419), (-13.8333, -171.7667)
    assert geo.distance_km(*berlin, *london) == pytest.approx(932, abs=2)
    assert geo.distance_km(*suva, *apia) == pytest.approx(1150, rel=0.02)  # across the date line
    assert geo.distance_km(*auckland, *suva) == pytest.approx(2110, rel=0.02)


@pytest.mark.parametrize("place", [(91, 0), (-90.1, 0), (0, 180.5), (0, -181), (math.nan, 0), (math.inf, 0)])
def test_what_is_no_place_is_refused(place):
    with pytest.raises(BadInputError, match="degrees"):
        geo.check_place(*place)


def test_half_a_place_is_refused_and_none_is_none():
    with pytest.raises(BadInputError, match="together"):
        geo.check_place(1.0, None)
    geo.check_place(None, None)
    geo.check_place(90, -180)


@given(st.floats(0, 20_000), st.floats(0, 20_000), st.floats(0, 23.99))
def test_farther_takes_longer(a, b, hour):
    near, far = sorted((a, b))
    assert geo.travel_minutes(near, hour) <= geo.travel_minutes(far, hour)
    assert geo.travel_minutes(near, 3.0) <= geo.travel_minutes(near, 8.0)


def test_an_unknown_way_takes_an_unknown_time():
    assert np.isnan(geo.travel_minutes(math.nan, 8.0))
    assert geo.travel_minutes(5.0, math.nan) == geo.travel_minutes(5.0, 3.0)


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Pacific/Kiritimati", "Pacific/Apia", "Asia/Kathmandu")


@given(st.sampled_from(ZONES), st.datetimes(datetime(1990, 1, 1), datetime(2037, 12, 31)))
def test_local_time_is_what_the_calendar_says(name, moment):
    at = moment.replace(tzinfo=UTC, microsecond=0)
    wall = at.astimezone(ZoneInfo(name))
    hour, day = geo.local(at.timestamp() * 1000, geo.offset_minutes(name, int(at.timestamp()) * 1000))
    assert hour == pytest.approx(wall.hour + wall.minute / 60 + wall.second / 3600, abs=1e-6)
    assert day == wall.weekday()


def test_summer_time_begins_at_its_moment():
    change = ms(2026, 3, 29, 1)
    assert geo.offset_minutes("Europe/Berlin", change - 1) == 60
    assert geo.offset_minutes("Europe/Berlin", change) == 120
    assert geo.offset_minutes("Asia/Kathmandu", change) == 345
    assert geo.offset_minutes("Pacific/Kiritimati", change) - geo.offset_minutes("Pacific/Pago_Pago", change) == 1500


@pytest.mark.parametrize("name", ["Europe/Atlantis", "../../etc/passwd", "/etc/localtime", "", "x" * 5000, "Europe"])
def test_what_is_no_zone_is_refused(name):
    with pytest.raises(BadInputError, match="time zone"):
        geo.zone(name)


@given(LONS)
def test_without_a_zone_the_sun_is_at_most_half_an_hour_off(lon):
    off = (geo.nautical_offset_minutes(lon) - lon * 4 + 720) % 1440 - 720  # at the date line, by a day
    assert abs(off) <= 30 + 1e-9


def test_offsets_take_the_zone_then_the_sun_then_nothing():
    at = ms(2026, 7, 1)
    names, lon = ["Europe/Berlin", None, "Europe/Atlantis", None], [0.0, 30.0, -75.0, math.nan]
    found = geo.offsets(names, lon, [at] * 4)
    assert found[:3].tolist() == [120, 120, -300]
    assert np.isnan(found[3])
    assert geo.checked_offset(-720) == -720
    with pytest.raises(BadInputError, match="offset"):
        geo.checked_offset(1440)


def test_a_day_is_a_day_whatever_the_date_line_says():
    at = datetime(2026, 1, 2, 11, tzinfo=UTC)  # a Friday in UTC
    east = geo.local(at.timestamp() * 1000, 14 * 60)
    west = geo.local(at.timestamp() * 1000, -11 * 60)
    assert (east[1], west[1]) == (5, 4)
    assert (at + timedelta(hours=14)).weekday() == 5
