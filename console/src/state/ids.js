// Ids of tasks. That of an evaluation is "eval-" and its id, with its tenant in front where there are
// keys: "eval-TENANT:ID".

/** The id of the evaluation that a task runs; empty where it runs none. */
export function evaluationOf(taskId) {
  return taskId.startsWith("eval-") ? taskId.slice(5).split(":").pop() : "";
}
