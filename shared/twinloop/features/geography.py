"""Places on the globe and the clocks that hang there: great-circle distances, travel times, and local time.

Places are latitude and longitude in degrees (WGS 84), north and east positive; NaN is a place that nobody told. Angles
are turned into points of the unit sphere, so that neither the date line nor a pole is a special case.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twinloop.errors import BadInputError

EARTH_KM = 6371.0088  # mean radius (IUGG); the globe is flatter at the poles, which costs at most 0.6 % of a distance
HALF_WAY_ROUND_KM = float(np.pi * EARTH_KM)
_LONGEST_OFFSET = 24 * 60  # datetime's own bound

# Door to door in a town, and faster the farther: an assumption, to be replaced by a router where there is one.
_NEAR_KM, _NEAR_KMH, _FAR_KMH, _GETTING_READY_MIN = 10.0, 20.0, 60.0, 5.0
_RUSH_HOURS, _RUSH = ((7.0, 9.0), (16.0, 19.0)), 1.3

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def check_place(lat: float | None, lon: float | None) -> None:
    """Raise BadInputError for what is no place; None twice is a place that nobody told."""
    if (lat is None) != (lon is None):
        raise BadInputError("lat and lon come together: give both, or neither")
    if lat is not None and not -90 <= lat <= 90:
        raise BadInputError(f"lat lies between -90 and 90 degrees, not at {lat}")
    if lon is not None and not -180 <= lon <= 180:
        raise BadInputError(f"lon lies between -180 and 180 degrees, not at {lon}")


def points(lat: ArrayLike, lon: ArrayLike) -> Floats:
    """Return places as points of the unit sphere, float64[..., 3]; NaN where either angle is not known."""
    north, east = np.radians(np.asarray(lat, np.float64)), np.radians(np.asarray(lon, np.float64))
    north, east = np.broadcast_arrays(north, east)
    level = np.cos(north)
    return np.stack([level * np.cos(east), level * np.sin(east), np.sin(north) + 0.0 * east], axis=-1)


def kilometres(a: Floats, b: Floats) -> Floats:
    """Return great-circle distances between points of `points`, broadcast; NaN where either is not known.

    By the chord c: 2 R asin(c / 2), which is the haversine formula (Sinnott, 1984): exact for what is near, where the
    cosine formula is not. For antipodes the error is of the order of a metre.
    """
    half = np.sqrt(((a - b) ** 2).sum(axis=-1)) / 2
    return np.asarray(2 * EARTH_KM * np.arcsin(np.minimum(half, 1.0)))


def distance_km(lat: ArrayLike, lon: ArrayLike, to_lat: ArrayLike, to_lon: ArrayLike) -> Floats:
    """Return great-circle distances in km, float64 of the broadcast shape; NaN where a place is not known."""
    return kilometres(points(lat, lon), points(to_lat, to_lon))


def moved(lat: ArrayLike, lon: ArrayLike, north_km: ArrayLike, east_km: ArrayLike) -> tuple[Floats, Floats]:
    """Return the places that lie so many km off, over poles and the date line: latitude and longitude in degrees.

    The way is the great circle that leaves in that direction.
    """
    lat, lon = np.radians(np.asarray(lat, np.float64)), np.radians(np.asarray(lon, np.float64))
    north, east = np.asarray(north_km, np.float64), np.asarray(east_km, np.float64)
    angle, bearing = np.hypot(north, east) / EARTH_KM, np.arctan2(east, north)
    height = np.sin(lat) * np.cos(angle) + np.cos(lat) * np.sin(angle) * np.cos(bearing)
    there = np.arcsin(np.clip(height, -1, 1))
    turned = np.arctan2(np.sin(bearing) * np.sin(angle) * np.cos(lat), np.cos(angle) - np.sin(lat) * np.sin(there))
    return np.degrees(there), around(np.degrees(lon + turned))


def around(lon: ArrayLike) -> Floats:
    """Return longitudes between -180 (included) and 180 degrees, however often they went around."""
    turned = (np.asarray(lon, np.float64) + 180) % 360 - 180
    return np.where(turned >= 180, -180.0, turned)  # a tiny negative angle rounds up to the whole turn


def travel_minutes(km: ArrayLike, hour: ArrayLike) -> Floats:
    """Return how long a way takes door to door, as it grows with distance and in the rush hours.

    Args:
        km: Great-circle distance; NaN gives NaN.
        hour: Local time of day when it is travelled, in hours from 0 to 24; NaN is any time but the rush hours.
    """
    km, hour = np.asarray(km, np.float64), np.asarray(hour, np.float64)
    minutes = np.minimum(km, _NEAR_KM) / _NEAR_KMH * 60 + np.maximum(km - _NEAR_KM, 0) / _FAR_KMH * 60
    rush = np.zeros(np.broadcast(km, hour).shape, bool)
    for begin, end in _RUSH_HOURS:
        rush = rush | ((hour >= begin) & (hour < end))
    return np.asarray(_GETTING_READY_MIN + minutes * np.where(rush, _RUSH, 1.0))


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """Return an IANA time zone; raises BadInputError where there is none of that name."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError) as error:  # names may be paths, too long, or simply unknown
        raise BadInputError(f"{name[:64]!r} is no time zone that is known here; IANA's are: Europe/Berlin") from error


def offset_minutes(name: str, at_ms: int) -> int:
    """Return by how many minutes clocks in a zone are ahead of UTC at a moment; raises BadInputError."""
    return _minutes(zone(name), at_ms)


def _minutes(known: ZoneInfo, at_ms: int) -> int:
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(at_ms))
        ahead = moment.astimezone(known).utcoffset()
    except OverflowError:
        return 0  # a moment that no calendar knows has no clocks either
    return 0 if ahead is None else round(ahead.total_seconds() / 60)


def nautical_offset_minutes(lon: ArrayLike) -> Floats:
    """Return the offset from UTC of the nautical zone of a longitude: whole hours, 15 degrees each; NaN gives NaN."""
    return np.asarray(np.round(around(lon) / 15) * 60)


def offsets(names: Sequence[str | None], lon: ArrayLike, at_ms: ArrayLike) -> Floats:
    """Return minutes ahead of UTC at moments in places, float64[places].

    By the zone where it is named and known, otherwise by the nautical zone of the longitude; NaN where neither is.
    """
    moments = np.asarray(at_ms, np.float64)
    found = np.broadcast_to(nautical_offset_minutes(lon), moments.shape).copy()
    for place, name in enumerate(names):
        if name and np.isfinite(moments[place]):
            try:
                found[place] = _minutes(zone(name), int(moments[place]))
            except BadInputError:
                continue  # a zone that this machine's database does not know: the sun's time is near enough
    return found


def local(at_ms: ArrayLike, offset: ArrayLike) -> tuple[Floats, Floats]:
    """Return local time of day in hours [0, 24) and the day of the week (0 is Monday); NaN where anything is.

    Args:
        at_ms: Moments, epoch milliseconds.
        offset: Minutes that local clocks are ahead of UTC.
    """
    hours = np.asarray(at_ms, np.float64) / 3_600_000 + np.asarray(offset, np.float64) / 60
    return hours % 24, (np.floor(hours / 24) + 3) % 7  # 1 January 1970 was a Thursday


def checked_offset(minutes: int) -> int:
    """Return an offset from UTC; raises BadInputError where no clock can have it."""
    if abs(minutes) >= _LONGEST_OFFSET:
        raise BadInputError(f"an offset from UTC is less than a day of minutes, not {minutes}")
    return minutes
