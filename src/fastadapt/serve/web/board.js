/**
 * What is known of the server and of the running adaptation; the views draw what stands here.
 *
 * A run is `{method, stepping, classes, queries, lines, nearest, heldOut, heldOutBefore, seconds, done}`: the classes and question ids that were
 * sent, whether the method takes steps, and one line (loss, probabilities) for each step that came back.
 */
import { Told } from "./listeners.js";

class Board extends Told {
  models = [];
  signals = null; // what the server says of fits of photographs and sounds
  limits = null;
  run = null;
  others = new Map(); // the runs of the methods compared, by name
  at = null; // the step that is looked at; null follows the last
  stale = true; // whether something was drawn after the run began
  link = "connecting"; // connecting, ready, learning, busy, offline
  trouble = null; // {text, row}: what is wrong with the task, and in which class

  set(change) {
    Object.assign(this, change);
    this.tell("board");
  }

  model(name) {
    return this.models.find((model) => model.name === name) ?? this.models[0] ?? null;
  }

  /** The line of `run` for the step that is looked at. */
  line(run) {
    if (!run?.lines.length) return null;
    return run.lines[Math.min(this.at ?? Infinity, run.lines.length - 1)];
  }

  /** The probabilities that `run` gives a question at a line, or null. */
  chances(query, line, run) {
    const row = run?.queries.indexOf(query) ?? -1;
    return (row >= 0 && line?.probabilities?.[row]) || null;
  }

  /** The probabilities before the first step, or null for a method that takes no steps. */
  before(query, run) {
    return run?.stepping ? this.chances(query, run.lines[0], run) : null;
  }
}

export const board = new Board();
