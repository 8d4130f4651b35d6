/** What this network can't do, where it runs and what is kept, in plain words at the foot of the page. */
import { $, inFrame } from "./element.js";

const here = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);

function accuracy(model) {
  const said = (model.accuracy ?? []).map(
    ({ ways, shots, mean, ci95, alone }) => `${(100 * mean).toFixed(1)} ± ${(100 * ci95).toFixed(1)} % with ${ways} classes and ${shots} ${shots === 1 ? "drawing" : "drawings"} each${alone === false ? ", questions judged together" : ""}`,
  );
  return said.length ? `On characters it had never seen, it was right in ${said.join(", ")}.` : "";
}

export function mountLimits(task, board) {
  board.on(
    inFrame(() => {
      const model = board.model(task.settings.model);
      if (!model) return;
      $("about-model").textContent = `${model.title} (“${model.name}”), trained on ${model.trained_on}. ${accuracy(model)}`;
      $("about-place").textContent = here
        ? "Everything is computed on this computer; nothing leaves it."
        : `Drawings are sent to ${location.host} and computed there.`;
      const minutes = Math.round((board.limits?.ttl_seconds ?? 1800) / 60);
      $("about-keep").textContent = `Your drawings are kept in this browser until you replace them. The server holds them in its memory only, and forgets them after ${minutes} minutes.`;
    }),
  );
}
