/** The page: puts its parts together and asks the server what it offers. */
import { mountAsk } from "./ask.js";
import { board } from "./board.js";
import { call } from "./api.js";
import { mountClasses } from "./classes.js";
import { mountDrop } from "./drop.js";
import { $, h } from "./element.js";
import { example, names } from "./examples.js";
import { mountLimits } from "./limits.js";
import { Session } from "./session.js";
import { mountSettings, usualSteps } from "./settings.js";
import { mountLink, replaced } from "./status.js";
import { keep, kept } from "./store.js";
import { mountTake } from "./take.js";
import { mountViews } from "./views.js";
import { Task } from "./task.js";
import { mountWatch } from "./watch.js";

const task = new Task();
const session = new Session(task, board);

function mountExamples() {
  const choose = (name) => () => {
    replaced(`“${name}” took the place of your drawings.`, task.replace(example(name)));
  };
  $("examples").append(...names.map((name) => h("button", { type: "button", class: "chip", onclick: choose(name) }, name)));
}

async function meetServer() {
  for (let pause = 1000; ; pause = Math.min(8000, 2 * pause)) {
    try {
      const { models, limits, signals } = await (await call("/api/models")).json();
      board.set({ signals });
      const pictures = models.filter((model) => model.input.kind === "image");
      if (!pictures.length) {
        board.set({ link: "ready", trouble: { text: "This server has no model for images; its other models are reached by their API only." } });
        return;
      }
      board.set({ models: pictures, limits });
      const model = board.model(task.settings.model);
      task.settings.model = model.name;
      task.settings.steps = Math.min(task.settings.steps ?? usualSteps(model), model.steps.most);
      session.soon(0);
      return;
    } catch (error) {
      board.set({ link: error.code === "offline" ? "offline" : "busy" });
      await new Promise((resolve) => setTimeout(resolve, Math.max(pause, 1000 * (error.wait ?? 0))));
    }
  }
}

let warned = false;
async function remember() {
  if ((await keep(task.snapshot())) || warned) return;
  warned = true;
  $("about-browser").textContent = "This browser does not let the page keep anything: save the task as a file before you leave.";
}

task.replace((await kept()) ?? example(names[0]));
let made = null;
const camera = {
  async open(...about) {
    const { Camera } = await import("./camera.js");
    made ??= new Camera(() => board.model(task.settings.model));
    return made.open(...about);
  },
};
mountLink(board);
mountViews(board);
mountExamples();
mountClasses(task, board, session, camera);
mountAsk(task, board, session, camera);
mountWatch(task, board);
mountSettings(task, board);
let compared = null; // its code is fetched when it is first wanted
const compare = () => {
  if (task.settings.compare) compared ??= import("./compare.js").then(({ mountCompare }) => mountCompare(task, board));
};
task.on(compare);
compare();
mountTake(task, board, session);
mountDrop(task, board);
mountLimits(task, board);
task.on((what) => {
  if (what !== "view" && board.models.length) session.soon(what === "settings" ? 0 : undefined);
  if (what !== "board") remember();
});
await meetServer();
