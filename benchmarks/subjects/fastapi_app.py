"""The usual stack: FastAPI in front of Celery, as in the documentation of both."""

from __future__ import annotations

import os
import uuid

from celery import Celery
from fastapi import FastAPI
from pydantic import BaseModel

celery = Celery(broker=os.environ["QUEUE_URL"], backend=os.environ["QUEUE_URL"])
celery.conf.broker_connection_retry_on_startup = True
app = FastAPI()


class Submission(BaseModel):
    """What a client sends."""

    code: str
    language: str = "python"


class Accepted(BaseModel):
    """What it gets."""

    eval_id: str
    task_id: str
    status: str
    queue: str
    href: str


@celery.task(name="tasks.evaluate_code")
def evaluate_code(eval_id: str, code: str, language: str) -> dict[str, object]:
    """An executor that does nothing."""
    return {"eval_id": eval_id, "status": "completed", "output": "42\n", "exit_code": 0}


# Plain functions, since send_task and get block: FastAPI runs them in its thread pool.


@app.post("/api/eval", status_code=202)
def submit(asked: Submission) -> Accepted:
    """Queue one evaluation."""
    eval_id = str(uuid.uuid4())
    task_id = f"eval-{eval_id}"
    celery.send_task(
        "tasks.evaluate_code",
        args=[eval_id, asked.code, asked.language],
        task_id=task_id,
        queue="evaluation",
    )
    href = f"/api/eval/{eval_id}"
    return Accepted(
        eval_id=eval_id, task_id=task_id, status="queued", queue="evaluation", href=href
    )


@app.post("/api/run")
def run(asked: Submission) -> dict[str, object]:
    """Queue one evaluation and return its result."""
    eval_id = str(uuid.uuid4())
    result = celery.send_task(
        "tasks.evaluate_code", args=[eval_id, asked.code, asked.language], queue="evaluation"
    )
    ended: dict[str, object] = result.get(timeout=10)
    return ended
