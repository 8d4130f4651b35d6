/** "Ask": the question that is drawn, what the network says to it, and the strip of all questions. */
import { bars, percent, ranked, spoken, sureness, tones } from "./answer.js";
import { $, h, inFrame, keyed, label, tool } from "./element.js";
import { addFiles, pick } from "./pick.js";
import { show } from "./picture.js";
import { notice, say } from "./status.js";
import { inked, room } from "./task.js";
import { padWithTools } from "./tools.js";

const WORDS = { sure: "It looks like ", unsure: "Perhaps ", "none of these?": "None of these? At best " };

function verdict(node, board, task, chances) {
  const [best] = ranked(chances);
  const word = sureness(chances);
  const row = board.run.classes[best];
  const name = h("b", { "data-tone": tones(task).get(row.id) ?? 0 }, row.name);
  node.replaceChildren(h("span", { class: "lead" }, WORDS[word]), name, h("span", { class: "word" }, `${percent(chances[best])}, ${word}`));
  node.dataset.word = word;
}

function closest(board, query) {
  const { run } = board;
  const found = run?.nearest?.[run.queries.indexOf(query)];
  const row = found && run.classes[found.class];
  return row ? { sample: row.samples[found.image], name: row.name, number: found.image + 1 } : null;
}

function question(task, board) {
  const image = h("img", { alt: "", width: 56, height: 56 });
  const near = h("img", { alt: "", width: 28, height: 28 });
  const [who, list] = [h("span", { class: "who" }), h("ol", { class: "bars small" })];
  let shown = null;
  const button = h("button", { type: "button", class: "thumb", onclick: () => task.look(() => (task.asked = shown.id)) }, image);
  const node = h("li", { class: "question" }, button, h("div", {}, h("p", { class: "gist" }, near, who), list));
  const update = (query, index) => {
    shown = query;
    show(image, query);
    label(button, `Question ${index + 1}`);
    button.setAttribute("aria-pressed", String(task.asked === query.id));
    const chances = board.chances(query.id, board.line(board.run), board.run);
    const neighbour = closest(board, query.id);
    near.hidden = !neighbour;
    if (neighbour) {
      show(near, neighbour.sample);
      near.alt = `closest: ${neighbour.name}, drawing ${neighbour.number}`;
    }
    who.textContent = chances ? sureness(chances) : inked(query) ? "…" : "empty";
    list.hidden = !chances;
    if (chances) bars(list, board.run, chances, board.before(query.id, board.run), tones(task));
  };
  return { node, update };
}

/** Tell a screen reader the result once it is final. */
function announce(task, board) {
  let told = null;
  return () => {
    const { run } = board;
    if (!run?.done || board.stale || told === run) return;
    told = run;
    const chances = board.chances(task.asked, run.lines.at(-1), board.run);
    if (chances) say(spoken(chances, run.classes));
  };
}

export function mountAsk(task, board, session, camera) {
  const canvas = $("question");
  const { node: tools, update } = padWithTools(task, session, canvas, () => task.asked);
  const tell = (text) => ($("ask-trouble").textContent = text ?? "");
  const most = () => board.limits?.queries ?? 64;
  const full = (fit) => fit <= 0 && (tell(`At most ${most()} questions fit; remove one first.`), true);
  const free = () => room(task.queries, most());
  const remove = () => {
    const back = task.removeQuery(task.asked);
    canvas.focus({ preventScroll: true }); // the button is hidden with the last but one question
    notice("Question removed.", () => full(free()) || back());
  };
  const drop = tool("close", "Remove this question", remove);
  tools.append(
    tool("plus", "Ask another question", () => full(most() - task.queries.length) || (task.addQuery(), canvas.focus())),
    tool("upload", "Upload images to ask about", async () => tell(await addFiles(await pick(), null, task, board))),
    tool("camera", "Ask with the camera", () => full(free()) || camera.open("the question", free(), (content) => task.addQuery(content))),
    drop,
  );
  $("ask-tools").replaceWith(tools);
  const wider = $("wider");
  wider.addEventListener("click", () => {
    const open = $("ask").dataset.open !== "true";
    $("ask").dataset.open = String(open);
    wider.setAttribute("aria-expanded", String(open));
  });

  const announced = announce(task, board);
  const draw = inFrame(() => {
    const query = task.sample(task.asked);
    update(query);
    drop.hidden = task.queries.length < 2;
    $("ask").dataset.stale = String(board.stale);
    const chances = board.chances(task.asked, board.line(board.run), board.run);
    $("answer").hidden = !chances;
    $("verdict").hidden = !chances;
    $("no-answer").hidden = Boolean(chances);
    $("no-answer").textContent = board.trouble ? "No answer yet: the network needs more drawings." : inked(query) ? "Thinking…" : "Draw something here, and it says which class it is.";
    if (chances) {
      verdict($("verdict"), board, task, chances);
      bars($("bars"), board.run, chances, board.before(task.asked, board.run), tones(task));
    }
    const neighbour = closest(board, task.asked);
    $("closest").hidden = !neighbour || !chances;
    if (neighbour) {
      show($("closest-image"), neighbour.sample);
      $("closest-name").textContent = `${neighbour.name}, drawing ${neighbour.number}`;
    }
    keyed($("questions"), task.queries.length > 1 ? task.queries : [], () => question(task, board));
    announced();
  });
  task.on(draw);
  board.on(draw);
  draw();
}
