"""Functions that a model can call: their signatures, arguments, options, and the call in progress.

Imports `_core` and `_concurrency`. Read `tool` first, then `signature` (what a function takes) and
`arguments` (what a call brings, checked); `context` is what a tool can ask about its own call.
"""
