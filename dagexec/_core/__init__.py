"""Values and the machine: plans, references, outcomes, events, the scheduler, reports."""
