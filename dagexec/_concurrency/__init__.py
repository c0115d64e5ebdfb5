"""Loops, threads, slots: what runs code and what it waits for. Knows no call and no tool.

`slots` (how many calls may run) and `capacities` (named resources) decide who goes on; `threads`,
`contexts` and `loop_task` run code somewhere; `signals` is what ends a tool and is no error;
`stacks` sees where something stands. `loops` asks which event loop this is; `forks` says what a
forked child must not take over.

Imports `_errors` only. Read `slots` first, then `threads`.
"""
