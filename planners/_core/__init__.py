"""What all planners share: numbers of calls, schemas for references, texts for the model.

Imports dagexec's public names and nothing else of `planners`. Read `call_log` first (a reply's
calls become those of a plan), then `planner` (the base class), then `stream` (a reply that is
still being written). `api` is what a loop has to know of an API; `edge` reads SDK objects and
dicts alike; `arguments`, `widen` and `placeholders` look at arguments; `render` writes answers,
`cutting` and `media` those that are long or no text; `text_calls` reads calls that came as text;
`belonging` says whose report a planner was given.
"""
