"""Event loops, threads, slots and capacities, on asyncio and on trio; knows no call.

Imports `_errors` only. Read `signals` first (what ends a tool and is no error), then `slots` (how
many calls run at a time) and `threads` (how synchronous code is run and abandoned).
"""
