/** "Teach": a card for each class, with its drawing, its other samples and how likely it is. */
import { percent, ranked, tones } from "./answer.js";
import { $, h, icon, inFrame, keyed, label } from "./element.js";
import { menu } from "./menu.js";
import { addFiles, pick } from "./pick.js";
import { show } from "./picture.js";
import { notice } from "./status.js";
import { room } from "./task.js";
import { padWithTools } from "./tools.js";

function thumb(task, row) {
  const image = h("img", { alt: "", width: 44, height: 44 });
  let shown = null;
  const button = h("button", { type: "button", class: "thumb", onclick: () => task.look(() => (row.open = shown.id)) }, image);
  const update = (sample, index) => {
    shown = sample;
    show(image, sample);
    label(button, `${row.name}, drawing ${index + 1}`);
    button.setAttribute("aria-pressed", String(row.open === sample.id));
  };
  return { node: button, update };
}

function nameField(task, row, tell) {
  const field = h("input", { class: "name", maxlength: 40, value: row.name, autocomplete: "off", spellcheck: "false" });
  field.addEventListener("change", () => {
    const name = field.value.trim().replace(/\s+/g, " ");
    const taken = task.classes.some((other) => other !== row && other.name === name);
    const wrong = /[/\\]|[^\P{C}\u200d]/u.test(name); // the joiner holds emoji together
    if (taken) tell(`There is a class “${name}” already: names tell classes apart.`);
    else tell(wrong ? "A name can't hold slashes or characters that are not seen." : "");
    if (!name || taken || wrong) field.value = row.name;
    else if (name !== row.name) task.rename(row.id, name);
  });
  return field;
}

function card(task, board, session, camera) {
  return (row) => {
    let blamed = false;
    const trouble = h("p", { class: "trouble", role: "status" });
    const tell = (text) => (trouble.textContent = text ?? "");
    const canvas = h("canvas", { class: "pad", tabindex: 0, role: "application", "aria-roledescription": "drawing area" });
    const { node: tools, update: updatePad } = padWithTools(task, session, canvas, () => row.open);
    const add = (content) => task.addSample(row, content);
    const most = () => board.model(task.settings.model)?.shots?.most ?? 10;
    const removeDrawing = () => {
      const back = task.removeSample(row, row.open);
      notice("Drawing removed.", () => (room(row.samples, most()) > 0 ? back() : tell(`At most ${most()} drawings fit; remove one first.`)));
    };
    const removeClass = () => {
      const back = task.removeClass(row.id);
      $("add-class").focus();
      notice(`“${row.name}” removed.`, () => full(task, board) || back());
    };
    const more = menu("plus", "", [
      { text: "New drawing", icon: "pen", act: () => (add(), canvas.focus()) },
      { text: "Upload images…", icon: "upload", act: async () => tell(await addFiles(await pick(), row, task, board)) },
      { text: "Camera…", icon: "camera", act: () => camera.open(row.name, room(row.samples, most()), add) },
    ]);
    const rest = menu("more", "", [
      { text: "Move earlier", icon: "left", act: () => task.moveClass(row.id, -1) },
      { text: "Move later", icon: "right", act: () => task.moveClass(row.id, 1) },
      { text: "Remove this drawing", icon: "clear", act: removeDrawing },
      { text: "Remove the class", icon: "close", act: removeClass },
    ]);
    const field = nameField(task, row, tell);
    const thumbs = h("div", { class: "thumbs" });
    const bar = h("i", { class: "after" });
    const share = h("span", { class: "share" });
    const meter = h("p", { class: "meter" }, h("span", { class: "track", "aria-hidden": "true" }, bar), share);
    const head = h("div", { class: "head" }, h("span", { class: "swatch", "aria-hidden": "true" }), field, rest);
    const node = h("li", { class: "card", "data-row": row.id }, head, canvas, h("div", { class: "below" }, tools, more), thumbs, meter, trouble);

    const update = (current, index) => {
      const sample = row.samples.find((other) => other.id === row.open);
      node.dataset.tone = tones(task).get(row.id);
      field.setAttribute("aria-label", `Name of class ${index + 1}`);
      if (document.activeElement !== field) field.value = row.name;
      canvas.setAttribute("aria-label", `Draw ${row.name}. The arrow keys move the pen, space puts it down and up.`);
      label(more.summary, `Add a sample of ${row.name}`);
      label(rest.summary, `More for ${row.name}`);
      rest.entries[0].disabled = index === 0;
      rest.entries[1].disabled = index === task.classes.length - 1;
      more.entries[0].disabled = row.samples.length >= most();
      for (const entry of more.entries.slice(1)) entry.disabled = room(row.samples, most()) <= 0;
      updatePad(sample);
      keyed(thumbs, row.samples.length > 1 ? row.samples : [], () => thumb(task, row));
      if (board.trouble?.row === row.id) tell(board.trouble.text);
      else if (blamed) tell("");
      blamed = board.trouble?.row === row.id;
      const at = board.run?.classes.findIndex((other) => other.id === row.id) ?? -1;
      const chances = at >= 0 ? board.chances(task.asked, board.line(board.run), board.run) : null;
      meter.hidden = !chances;
      node.dataset.won = String(Boolean(chances) && ranked(chances)[0] === at);
      if (!chances) return;
      bar.style.setProperty("--p", chances[at]);
      share.textContent = percent(chances[at]);
    };
    return { node, update };
  };
}

const mostClasses = (task, board) => board.model(task.settings.model)?.ways?.most ?? 20;

/** Return whether no other class fits, and say so. */
function full(task, board) {
  const most = mostClasses(task, board);
  if (task.classes.length < most) return false;
  $("teach-trouble").textContent = `This model takes at most ${most} classes; remove one first.`;
  return true;
}

function newName(task) {
  for (let number = task.classes.length + 1; ; number += 1) {
    if (!task.classes.some((row) => row.name === `class ${number}`)) return `class ${number}`;
  }
}

export function mountClasses(task, board, session, camera) {
  const list = $("classes");
  const add = $("add-class");
  const create = card(task, board, session, camera);
  const draw = inFrame(() => {
    list.dataset.stale = String(board.stale);
    keyed(list, task.classes, create);
    add.setAttribute("aria-disabled", String(task.classes.length >= mostClasses(task, board)));
    $("teach-trouble").textContent = board.trouble && !board.trouble.row && board.trouble.field !== "rate" ? board.trouble.text : "";
  });
  add.addEventListener("click", () => {
    if (full(task, board)) return;
    const row = task.addClass(newName(task));
    requestAnimationFrame(() => list.querySelector(`[data-row="${row.id}"] canvas`)?.focus());
  });
  add.prepend(icon("plus"));
  task.on(draw);
  board.on(draw);
  draw();
}
