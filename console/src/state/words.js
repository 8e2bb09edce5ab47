// Verdicts and statuses, in words.

const LIMIT_NOTE = "Raise the limit and run it again, or make the program use less.";

const VERDICTS = {
  ok: ["good", "The program ended by itself with exit code 0."],
  accepted: ["good", "Every test was passed."],
  nonzero_exit: ["fair", "The program ended by itself, with an exit code that says it failed. Its error output says more."],
  signalled: ["poor", "A signal ended the program: it crashed, or stopped itself."],
  timeout: ["poor", `The program ran longer than its wall time limit and was stopped. ${LIMIT_NOTE}`],
  cpu_limit: ["poor", `The program used more CPU time than its limit and was stopped. ${LIMIT_NOTE}`],
  memory_limit: ["poor", `The program needed more memory than its limit and was stopped. ${LIMIT_NOTE}`],
  output_limit: ["poor", `The program wrote more than its output limit and was stopped. ${LIMIT_NOTE}`],
  disk_limit: ["poor", `The program filled its disk limit. ${LIMIT_NOTE}`],
  pids_limit: ["poor", `The program started more processes than its limit. ${LIMIT_NOTE}`],
  compile_error: ["poor", "The compiler refused the program, so it never ran. The error output is the compiler's."],
  internal_error: ["poor", "The platform could not run the program. That says nothing about the program; retry it."],
  cancelled: ["", "Somebody cancelled it."],
  expired: ["fair", "It waited longer than it was meant to, and was not run."],
  wrong_answer: ["poor", "The output of a test differs from the expected answer."],
  presentation_error: ["fair", "The answer is right, its form is not."],
  partial: ["fair", "Some of the points were earned."],
  skipped: ["", "It was not run, because a test before it failed."],
};
const STATUSES = {
  created: ["", "It was made, and not started."],
  queued: ["live", "It waits for a worker."],
  running: ["live", "A worker runs it now."],
  retrying: ["fair", "The platform failed while running it, and tries again."],
  completed: ["good", "The program came to its own end."],
  failed: ["poor", "It was stopped by a limit, or could not be run."],
  cancelled: ["", "Somebody cancelled it."],
};

export const ENDED = new Set(["completed", "failed", "cancelled"]);
export const STATUS_NAMES = Object.keys(STATUSES).filter((name) => name !== "created");
export const VERDICT_NAMES = Object.keys(VERDICTS);
export const wordsOf = (name) => String(name).replaceAll("_", " ");
export const toneOf = (name) => (VERDICTS[name] ?? STATUSES[name] ?? [""])[0];
export const meaningOf = (name) => (VERDICTS[name] ?? STATUSES[name] ?? ["", ""])[1];

const SIGNALS = { 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 15: "SIGTERM", 24: "SIGXCPU", 25: "SIGXFSZ", 31: "SIGSYS" };
export const signalName = (number) => (SIGNALS[number] ? `${SIGNALS[number]} (${number})` : String(number));
