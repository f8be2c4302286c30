"""The words of the simulated world: tags, what titles are made of, countries, devices."""

from __future__ import annotations

TAGS: dict[str, tuple[str, ...]] = {
    "cooking": ("Bread", "Noodles", "Curry", "Soup", "Dumplings", "Pie"),
    "football": ("Goals", "Derby", "Penalties", "Keepers", "Final", "Tactics"),
    "music": ("Guitar", "Choir", "Drums", "Ballad", "Remix", "Concert"),
    "comedy": ("Sketch", "Pranks", "Impressions", "Bloopers", "Jokes", "Satire"),
    "gaming": ("Speedrun", "Boss", "Pixels", "Raid", "Strategy", "Arcade"),
    "travel": ("Islands", "Trains", "Mountains", "Markets", "Deserts", "Harbours"),
    "science": ("Planets", "Atoms", "Volcanoes", "Cells", "Magnets", "Fossils"),
    "fashion": ("Sneakers", "Coats", "Vintage", "Denim", "Runway", "Jewellery"),
    "pets": ("Kittens", "Puppies", "Parrots", "Rabbits", "Hamsters", "Ponies"),
    "news": ("Election", "Budget", "Weather", "Interview", "Summit", "Markets Today"),
    "fitness": ("Running", "Yoga", "Squats", "Stretching", "Rowing", "Boxing"),
    "cars": ("Engines", "Rally", "Classics", "Repairs", "Electric", "Drifting"),
    "history": ("Castles", "Empires", "Letters", "Ruins", "Pirates", "Maps"),
    "gardening": ("Roses", "Compost", "Tomatoes", "Hedges", "Orchards", "Seeds"),
    "drama": ("Secrets", "Family", "Reunion", "Betrayal", "Hospital", "Courtroom"),
    "crafts": ("Knitting", "Pottery", "Origami", "Woodwork", "Quilts", "Candles"),
    "dance": ("Salsa", "Ballet", "Breaking", "Tango", "Waltz", "Tap"),
    "technology": ("Phones", "Robots", "Laptops", "Drones", "Cameras", "Chips"),
    "nature": ("Whales", "Forests", "Storms", "Bees", "Glaciers", "Wolves"),
    "finance": ("Saving", "Taxes", "Pensions", "Shares", "Mortgages", "Bargains"),
    "beauty": ("Skincare", "Hair", "Nails", "Perfume", "Lashes", "Masks"),
    "education": ("Algebra", "Grammar", "Exams", "Languages", "Chemistry", "Essays"),
    "parenting": ("Toddlers", "Bedtime", "Lunchboxes", "School Run", "Twins", "Teenagers"),
    "film": ("Trailers", "Directors", "Stunts", "Westerns", "Animation", "Noir"),
}
MOODS = ("Slow", "Secret", "Ultimate", "Quiet", "Wild", "Tiny", "Perfect", "Forgotten", "Midnight", "Everyday")

COUNTRIES = ("BR", "DE", "GB", "IN", "JP", "NG", "US")
COUNTRY_SHARES = (0.15, 0.1, 0.1, 0.25, 0.1, 0.1, 0.2)
AGE_GROUPS = ("18-24", "25-34", "35-49", "50+")
AGE_SHARES = (0.3, 0.3, 0.25, 0.15)
DEVICES = ("phone", "tablet", "desktop", "tv")
DEVICE_SHARES = (0.62, 0.1, 0.18, 0.1)
LIKES_LENGTH = (-0.35, 0.0, 0.1, 0.5)  # by device, logits for each e-fold of duration
