"""Recovery: what happens to the claims of a worker that died.

1. A worker writes its heartbeat, ``crucible:worker:<id>``, every 3 s; the key lasts 9 s
   (``redis_keys.WORKER_TTL_S``). So it expires 6 to 9 s after a worker's death.
2. Every worker writes to the server once a second, and may judge others once it has done so for 9 s
   without a gap (``continuity.py``): after an outage the heartbeats of the living are missing too.
   Of those who may, the first to set ``crucible:sweep`` sweeps, the others skip that second
   (``sweeper.py``). A sweep compares the known workers with their heartbeats, and
   walks ``unacked_index`` for claims whose owners have none.
3. ``plan.py`` decides what each such claim becomes: a message in its list again, marked as
   redelivered and with one more lost delivery counted, or after ``MAX_DELIVERIES`` of those a dead
   letter and a failed task.
4. ``restorer.py`` carries it out in chunks (``lua/restore.lua``). The script checks again that the
   heartbeat is missing, and sets the fence ``crucible:fence:<id>``.
5. A worker that was only suspended finds the fence at its next renewal, and stops the tasks whose
   claims are gone. Settling such a claim does nothing: its field is never used again.

Claims of stock workers have no heartbeat. They are given back when they are older than the
visibility timeout (an hour unless set otherwise), as by stock's own sweep.
"""
