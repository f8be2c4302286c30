"""A simulated world for tests, load and demos: people with tastes, and things, with the true probabilities known.

Nothing that it makes is evidence that a model is good for real people.

The world (`world`, `people`, `things`, `settings`, `vocabulary`) knows who likes what and when, and takes numpy alone.
An application in it (`video`, with `visits`, `shelf` and `reactions`; `ads`, made of that) makes a stream of events and
their truth. Writers (`video_tables`, `ads_tables`, `json_lines`, `parts`, `run`) and `best` take pyarrow. Import the
modules where they are used.
"""
