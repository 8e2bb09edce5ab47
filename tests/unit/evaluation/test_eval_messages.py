"""The task message of an evaluation."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from crucible.broker.wire.encode import TaskTemplate
from crucible.evaluation.messages import TASK, EvalMessages
from crucible.evaluation.record import task_id_of
from crucible.evaluation.request import EvalRequest, options_of


@given(st.text(), st.sampled_from(["", "42"]))
@example("x = 'quoted'", "")
@example("x = 1  " * 60, "")
@example("word " * 200, "")
@example("x" * 1000, "")
@example('"\\\x7f\N{GRINNING FACE}\ud800', "")
def test_it_is_what_the_template_of_any_task_writes(code: str, stdin: str) -> None:
    """Byte for byte, but for the tag: the short way of writing its arguments changes nothing."""
    asked = EvalRequest(code=code, stdin=stdin)
    template = TaskTemplate(TASK, "evaluation", 4, ignore_result=False)
    arguments = ["acme:e", code, "python"]
    usual = template.render(task_id_of("acme:e"), arguments, options_of(asked))
    messages = [json.loads(EvalMessages().render("acme:e", asked)), json.loads(usual)]
    for message in messages:
        del message["properties"]["delivery_tag"]
    assert json.dumps(messages[0]) == json.dumps(messages[1])
