"""Webhooks: what is sent to receivers over HTTP, to whom, signed how and when again.

``signing`` and ``schedule`` are Standard Webhooks 1.0.0, ``addresses`` says which hosts may be
called; none of the three does I/O. ``registration`` keeps the receivers of each tenant in Redis,
``subscriptions`` is a process's copy of them, ``log`` keeps the attempts. ``sender`` makes one
request, ``delivery`` one attempt with all that follows from its answer.
"""
