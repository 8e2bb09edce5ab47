"""What an evaluation is as a task: request, record, the task itself, a client's view."""
