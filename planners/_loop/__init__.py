"""The loop: ask the model, run its calls, feed everything back.

Stands on `planners._core` alone, and knows no provider: what differs between them is an `Api`.
Read `solve` first, then `dialogue` (what a conversation holds), `asking` (how a request goes out)
and `recording` (how replies are kept in a journal).
"""
