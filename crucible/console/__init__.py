"""The console: a page for people at ``/``, made of static files, and Flower behind ``/flower/``."""
