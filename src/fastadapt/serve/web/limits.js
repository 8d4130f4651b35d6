/** What this network can't do, where it runs and what is kept, in plain words at the foot of the page. */
import { $, inFrame } from "./element.js";

const ofStrokes = (model) => model.trained_on.startsWith("Omniglot");

function accuracy(model) {
  const [things, sample] = ofStrokes(model) ? ["characters", "drawing"] : ["classes", "picture"];
  const said = (model.accuracy ?? []).map(
    ({ ways, shots, mean, ci95, alone }) => `${(100 * mean).toFixed(1)} ± ${(100 * ci95).toFixed(1)} % with ${ways} classes and ${shots} ${sample}${shots === 1 ? "" : "s"} each${alone === false ? ", questions judged together" : ""}`,
  );
  return said.length ? `On ${things} it had never seen, it was right in ${said.join(", ")}.` : "";
}

export function mountLimits(task, board) {
  board.on(
    inFrame(() => {
      const model = board.model(task.settings.model);
      if (!model) return;
      $("about-model").textContent = `${model.title} (“${model.name}”), trained on ${model.trained_on}. ${accuracy(model)}`;
      $("about-strokes").hidden = !ofStrokes(model);
      $("about-place").textContent = `Everything is computed by the server at ${location.host}; this page sends nothing anywhere else.`;
      const minutes = Math.round((board.limits?.ttl_seconds ?? 1800) / 60);
      $("about-keep").textContent = `Your drawings are kept in this browser until you replace them. The server holds them in its memory, and forgets them ${minutes} minutes after the last use.`;
    }),
  );
}
