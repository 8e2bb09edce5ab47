"""Sessions across processes: interpreters live in workers, and are asked from the api.

``host`` is the worker's side, ``desk`` the api's, ``wire`` what crosses Redis between them. A
session is in one worker from its first moment to its last: it is opened by whichever has room, and
from then on asked through the list of that worker. When that worker is lost the session is lost,
and says so; no other takes it over.
"""
