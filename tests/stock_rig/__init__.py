"""Real Celery beside Crucible: workers, clients and Flower of five versions, each in its own env.

Nothing is imported here: ``rig_app``, ``values`` and ``client_program`` also run inside the stock
environments, which have nothing but Celery installed.
"""
