"""Longest text of each kind of column, in characters; what is longer is cut."""

from __future__ import annotations

TENANT, EVAL_ID, NAME, TASK_ID, WORD = 64, 128, 128, 255, 128
