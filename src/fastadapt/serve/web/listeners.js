/** Something that tells its listeners what has changed. */
export class Told {
  #listeners = [];

  on(listener) {
    this.#listeners.push(listener);
  }

  tell(what) {
    for (const listener of this.#listeners) listener(what);
  }
}
