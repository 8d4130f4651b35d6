/** A canvas to draw on: mouse, finger or pen through pointer events, and the arrow keys. */
import { decoded, ink } from "./picture.js";
import { blank } from "./task.js";
import { extend, rub } from "./strokes.js";
import { say } from "./status.js";

const WIDTH = 0.032;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const pads = new WeakMap();

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const canvas of document.querySelectorAll("canvas.pad")) pads.get(canvas)?.paint();
});

export class Pad {
  erasing = false;
  #sample = null;
  #stroke = null; // the one being drawn
  #rubbed = null; // all strokes while the eraser is down
  #pointer = null;
  #cursor = [0.5, 0.5];
  #keys = false;
  #image = null;

  /** `on.sample()` is the newest sample, `on.change(id, content)` edits one, `on.begin()` hears that an edit starts. */
  constructor(canvas, on) {
    this.canvas = canvas;
    this.on = on;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => event.pointerId === this.#pointer && this.#lift());
    }
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#lift());
    canvas.addEventListener("focus", () => this.paint());
    new ResizeObserver(() => this.paint()).observe(canvas);
    pads.set(canvas, this);
  }

  show(sample) {
    if (this.#sample?.id !== sample.id) this.#lift(); // the stroke belongs to the sample it was begun on
    if (this.#sample === sample) return;
    const image = sample.image;
    if (image !== this.#sample?.image) this.#image = null;
    this.#sample = sample;
    if (image && !this.#image) {
      decoded(image).then((ready) => {
        if (this.#sample.image !== image) return;
        this.#image = ready;
        this.paint();
      });
    }
    this.paint();
  }

  clear() {
    this.#drop();
    this.on.change(this.on.sample().id, blank());
    this.show(this.on.sample());
  }

  paint() {
    const { canvas } = this;
    const side = Math.round(canvas.clientWidth * devicePixelRatio);
    if (!side || !this.#sample) return;
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, side, side);
    if (this.#image) context.drawImage(this.#image, 0, 0, side, side);
    const colour = this.#image ? "#111" : getComputedStyle(canvas).color;
    const strokes = [...(this.#rubbed ?? this.#sample.strokes), ...(this.#stroke ? [this.#stroke] : [])];
    ink(context, strokes, ([x, y]) => [x * side, y * side], WIDTH * side, colour);
    const empty = !strokes.length && !this.#sample.image;
    canvas.dataset.empty = String(empty);
    if (empty) this.#invite(context, side);
    if (this.#keys && document.activeElement === canvas) this.#cross(context, side);
  }

  #invite(context, side) {
    const { fontFamily, color } = getComputedStyle(this.canvas);
    context.font = `${Math.round(side * 0.075)}px ${fontFamily}`;
    context.fillStyle = color;
    context.textAlign = "center";
    context.fillText("Draw here", side / 2, side * 0.52);
  }

  #cross(context, side) {
    const [x, y] = this.#cursor.map((value) => value * side);
    const arm = side * 0.045;
    const style = getComputedStyle(this.canvas);
    context.lineWidth = Math.max(2, side * 0.009);
    context.strokeStyle = style.getPropertyValue("--accent");
    context.beginPath();
    context.moveTo(x - arm, y);
    context.lineTo(x + arm, y);
    context.moveTo(x, y - arm);
    context.lineTo(x, y + arm);
    context.stroke();
    if (!this.#drawing) return;
    context.beginPath();
    context.arc(x, y, arm * 0.7, 0, 2 * Math.PI);
    context.stroke();
  }

  get #drawing() {
    return this.#stroke !== null || this.#rubbed !== null;
  }

  #start(point, erasing) {
    this.on.begin();
    this.show(this.on.sample());
    if (erasing) this.#rubbed = this.#sample.strokes;
    else this.#stroke = [];
    this.#to(point);
  }

  #to(point) {
    if (this.#rubbed) this.#rubbed = rub(this.#rubbed, point);
    else extend(this.#stroke, point);
  }

  #drop() {
    this.#stroke = this.#rubbed = this.#pointer = null;
  }

  #lift() {
    if (!this.#drawing) return;
    const strokes = this.#rubbed ?? [...this.#sample.strokes, this.#stroke];
    this.#drop();
    this.on.change(this.#sample.id, { strokes });
    const now = this.on.sample(); // the views follow in the next frame; another stroke may begin before
    if (now) this.show(now);
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  #down(event) {
    if (event.button > 0 && event.button !== 5) return;
    if (this.#pointer !== null) return; // a second finger
    this.#lift(); // a stroke of the keyboard
    this.#keys = false;
    this.#pointer = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.#start(this.#at(event), this.erasing || event.button === 5); // 5: a pen's other end
    this.paint();
  }

  #move(event) {
    if (event.pointerId !== this.#pointer) return;
    const all = event.getCoalescedEvents?.() ?? [];
    for (const part of all.length ? all : [event]) this.#to(this.#at(part));
    this.paint();
  }

  #key(event) {
    const command = event.ctrlKey || event.metaKey;
    const letter = event.key.toLowerCase();
    if (command && letter === "z") event.shiftKey ? this.on.redo() : this.on.undo();
    else if (command && letter === "y") this.on.redo();
    else if (command || event.altKey) return;
    else if (event.key in ARROWS) this.#walk(ARROWS[event.key], event.shiftKey ? 0.01 : 0.04);
    else if (event.key === " ") this.#toggle();
    else if (event.key === "Escape" && this.#drawing) this.#toggle();
    else if (letter === "e") this.on.erase();
    else if (event.key === "Delete") this.clear();
    else return;
    event.preventDefault();
    this.#keys = true;
    this.paint();
  }

  #walk([dx, dy], by) {
    const clip = (value) => Math.min(0.97, Math.max(0.03, value));
    this.#cursor = [clip(this.#cursor[0] + dx * by), clip(this.#cursor[1] + dy * by)];
    if (this.#drawing) this.#to(this.#cursor);
  }

  #toggle() {
    if (this.#drawing) this.#lift();
    else this.#start(this.#cursor, this.erasing);
    say(this.#drawing ? "Pen down" : "Pen up");
  }
}
