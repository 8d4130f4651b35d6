/** Buttons that let one hear a sound and what came of it; one plays at a time. */
import { $, h, icon, label } from "./element.js";

const RATE = 11025;

export class Ear {
  #context = null;
  #playing = null; // {name, node}
  #buttons = new Map();

  /** `changed()` is called when something starts or stops. */
  constructor(changed) {
    this.changed = changed;
  }

  /** Put a button into the figure of each `[name, words]`; `samples(name)` returns what it plays. */
  mount(names, samples) {
    for (const [name, words] of names) {
      const button = h("button", { type: "button", class: "hear", onclick: () => this.#toggle(name, samples(name)) });
      this.#buttons.set(name, { button, words });
      $(`fit-${name}`).append(button);
    }
  }

  draw(audible) {
    for (const [name, { button, words }] of this.#buttons) {
      button.hidden = !audible;
      const sign = this.#playing?.name === name ? "stop" : "play";
      if (button.dataset.sign === sign) continue;
      button.dataset.sign = sign;
      button.replaceChildren(icon(sign), sign === "play" ? "Listen" : "Stop");
      label(button, `${sign === "play" ? "Listen to" : "Stop"} ${words}`);
    }
    if (!audible) this.#stop();
  }

  #stop() {
    this.#playing?.node.stop();
    this.#playing = null;
  }

  async #toggle(name, samples) {
    const again = this.#playing?.name === name;
    this.#stop();
    this.changed();
    if (again || !samples) return;
    this.#context ??= new AudioContext();
    await this.#context.resume();
    const buffer = this.#context.createBuffer(1, samples.length, RATE);
    buffer.copyToChannel(samples, 0);
    const node = new AudioBufferSourceNode(this.#context, { buffer });
    node.connect(this.#context.destination);
    node.addEventListener("ended", () => {
      if (this.#playing?.node !== node) return;
      this.#playing = null;
      this.changed();
    });
    this.#playing = { name, node };
    node.start();
    this.changed();
  }
}
