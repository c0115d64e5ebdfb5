"""The runtime: drives the scheduler's machine with anyio, and keeps the promises of a run.

The life of one call:

    machine       state           lane            worker                     recorder (a journal)
    -------       -----           ----            ------                     --------------------
    Launch  --->  launch   --->   queue
                                  recruit  --->   takes a slot, begins
                                  queue    --->   takes the call
                                                  admit: arguments,     -->  answers, approval,
                                                  sharing, holdings          fingerprint
                                                  may it begin?         -->  intend: the intent of a
                                                                             write is durable first
    Started <---  start_call <------------------  arms its deadline
                                                  runs the tool, a step
                                                  after the other
    Settled <---  feed     <---   settle   <----  what became of it     -->  settle: durable first
    Launch  --->  ... the calls that this one made ready; the worker takes the next of them itself
    Finish  --->  finish: the lane ends, its task group closes, the run returns

What is shared stands below, what uses it above, in stairs that import-linter holds:

    observers settings watchdog blocking history < state < lane intake resumption
    < recorder sharing holdings < parts < invoker < worker < limited_worker sequential
    < runner < waits < run listener < executor

`state` is what all parts of a run share and knows none of them; `runner` makes the parts, tells the
state once what happens at a launch, an outcome and the end, and drives. Read `state` first, then
`lane`, `worker` and `runner`; the rest when it is needed.

May import everything of dagexec from `journal`, `limits` and `processes` downwards; those only
where they are used, so that `import dagexec` stays light.
"""
