/** The two tabs of the page, drawings and signals: which one is shown stands in the address, after the #. */
import { $ } from "./element.js";

const VIEWS = {
  drawings: { title: "Draw three things, watch it learn: fastadapt", skip: ["#teach", "Skip to the drawings"] },
  signals: { title: "Give it a photo, watch it become it: fastadapt", skip: ["#choose", "Skip to the choice of a signal"] },
};

/** The tab that the address names, or that what it names lies in. */
const named = () => document.getElementById(decodeURIComponent(location.hash.slice(1)))?.closest("main")?.id ?? "drawings";

export function mountViews(board) {
  let signals = null; // its code is fetched when it is first wanted
  const failed = () => {
    signals = null;
    $("signal-story").textContent = "The server can't be reached. Reload the page when it is back.";
  };
  const show = () => {
    const view = named();
    const before = document.body.dataset.view;
    document.body.dataset.view = view;
    for (const name of Object.keys(VIEWS)) $(name).hidden = $(`about-${name}`).hidden = name !== view;
    for (const link of document.querySelectorAll(".tabs a")) {
      if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = VIEWS[view].title;
    [$("skip").hash, $("skip").textContent] = VIEWS[view].skip;
    if (before && before !== view) scrollTo(0, 0);
    if (view === "signals") signals ??= import("./signals.js").then(({ mountSignals }) => mountSignals(board), failed);
  };
  addEventListener("hashchange", show);
  show();
}
