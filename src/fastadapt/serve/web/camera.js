/** Pictures from the camera: it starts when asked to, counts down, takes a burst, and stops. */
import { $, h } from "./element.js";
import { square } from "./upload.js";

const BURST = 5;
const button = (id, kind, text) => h("button", { type: "button", class: kind, id }, text);

function dialog() {
  const view = h("video", { id: "camera-view", playsinline: true });
  view.muted = true;
  return h(
    "dialog",
    { id: "camera", "aria-labelledby": "camera-title" },
    h("h2", { id: "camera-title" }),
    h("div", { class: "view" }, view, h("span", { id: "camera-count", "aria-hidden": "true" })),
    h("p", { id: "camera-words", role: "status" }),
    h("p", { class: "taken", id: "camera-taken" }),
    h("p", { class: "actions" }, button("camera-burst", "strong", "Take pictures"), button("camera-flip", "quiet", "Other camera"), button("camera-stop", "quiet", "Stop")),
  );
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const REFUSALS = {
  NotAllowedError: "The browser was not allowed to use the camera. Allow it in the address bar, or upload images instead.",
  NotFoundError: "No camera was found. Upload images instead.",
  NotReadableError: "The camera is in use by another program.",
};

export class Camera {
  #stream = null;
  #facing = "environment";
  #add = null;
  #room = 0;
  #bursting = false;
  #turn = 0; // goes up with each start and stop: a camera that answers to an older one is let go

  /** `model()` returns the model that the pictures are for. */
  constructor(model) {
    this.model = model;
    this.dialog = dialog();
    document.body.append(this.dialog);
    $("camera-burst").addEventListener("click", () => this.#burst());
    $("camera-flip").addEventListener("click", () => this.#flip());
    $("camera-stop").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => this.#stop());
  }

  /** Open the dialog; `add({image})` is called for each picture, at most `room` times. */
  open(name, room, add) {
    Object.assign(this, { name });
    this.#add = add;
    this.#room = room;
    $("camera-title").textContent = `Camera: ${name}`;
    $("camera-taken").replaceChildren();
    this.#say(this.#guide());
    this.dialog.showModal();
    return this.#start();
  }

  #guide() {
    return `Hold a drawing up, dark on light. ${Math.min(BURST, this.#room)} pictures are taken after a countdown.`;
  }

  #say(text) {
    $("camera-words").textContent = text;
  }

  async #start() {
    this.#stop();
    const turn = this.#turn;
    if (!navigator.mediaDevices?.getUserMedia) {
      this.#say("This browser gives no camera to this page. It does on localhost and over https; uploads work anywhere.");
      return;
    }
    try {
      const wanted = { facingMode: this.#facing, width: { ideal: 640 }, height: { ideal: 480 } };
      const stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
      if (turn !== this.#turn) return void stream.getTracks().forEach((track) => track.stop());
      this.#stream = stream;
      $("camera-view").srcObject = stream;
      await $("camera-view").play();
      if (turn === this.#turn) this.#say(this.#guide());
    } catch (error) {
      if (turn === this.#turn && error.name !== "AbortError") this.#say(REFUSALS[error.name] ?? `The camera did not start: ${error.message}`);
    }
  }

  #stop() {
    this.#turn += 1;
    this.#bursting = false;
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    $("camera-view").srcObject = null;
    $("camera-count").textContent = "";
  }

  #flip() {
    this.#facing = this.#facing === "environment" ? "user" : "environment";
    return this.#start();
  }

  async #burst() {
    if (!this.#stream || this.#bursting) return;
    this.#bursting = true;
    const turn = this.#turn;
    for (const left of [3, 2, 1]) {
      $("camera-count").textContent = left;
      this.#say(`${left}…`);
      await wait(700);
      if (turn !== this.#turn) return;
    }
    $("camera-count").textContent = "";
    let taken = 0;
    for (; taken < BURST && this.#room > 0; taken += 1) {
      const image = await square($("camera-view"), this.model());
      if (turn !== this.#turn) return;
      this.#room -= 1;
      this.#add({ image });
      $("camera-taken").append(h("img", { src: image, alt: `picture ${taken + 1}`, width: 56, height: 56 }));
      await wait(350);
      if (turn !== this.#turn) return;
    }
    this.#bursting = false;
    this.#say(this.#room > 0 ? `${taken} pictures added. Take more, or close.` : "This is full now.");
  }
}
