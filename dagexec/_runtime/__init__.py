"""Drives the machine with anyio and keeps the promises of a run.

Imports every part of dagexec that is no driver, engine or command. Read it as a staircase, from
the bottom: `state` (what all parts of a run share), `lane` (who runs what is ready), `worker` (one
call from admission to outcome), `runner` (puts the parts together), `executor` (the face).
"""
