"""Values and the machine: plans, references, outcomes, events, the scheduler, reports.

Imports `_pictures` and `_errors`, and neither a clock nor a loop: what happens when is told to it.
Read `scheduler` first, it is the theory; then `events` (what goes in and comes out), `states` (what
is allowed when), `outcomes`, `plan` and `refs`. `results` is what a run came to, `report` adds the
pictures and the JSON form to it.
"""
