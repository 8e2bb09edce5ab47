"""Real Celery beside Crucible: workers, clients and Flower of five versions, each in its own env.

This module imports nothing: ``rig_app``, ``values`` and ``client_program`` also run in the stock
environments, where only Celery is installed.
"""
