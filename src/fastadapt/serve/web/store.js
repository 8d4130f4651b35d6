/**
 * Keep the task in the browser (IndexedDB), so that a reload or a crash loses nothing. Each tab has a copy of its own, and a
 * new tab begins with the newest one.
 */
const [BASE, TABLE, TAB] = ["fastadapt", "tasks", "fastadapt-tab"];
const MOST = 20; // copies; the oldest ones go

const answer = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** Have `act(table)` make requests in a transaction; return their results once the transaction is through. */
async function within(mode, act) {
  const request = indexedDB.open(BASE, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(TABLE);
  const base = await answer(request);
  try {
    const transaction = base.transaction(TABLE, mode);
    const ended = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    const made = act(transaction.objectStore(TABLE));
    await ended;
    return made.map((one) => one.result);
  } finally {
    base.close();
  }
}

/** Hold a name until this tab is gone; return false if another tab has it, as after the browser's “Duplicate tab”. */
function held(name) {
  if (!navigator.locks) return true; // over plain http from another machine: copied tabs can't be told apart
  return new Promise((resolve) => {
    const forever = () => (resolve(true), new Promise(() => {}));
    // a reload waits here until the page before it has let go
    navigator.locks.request(name, { signal: AbortSignal.timeout(500) }, forever).catch(() => resolve(false));
  });
}

let own = null; // the key of this tab's copy

/** Return the snapshot that was kept, or null: there is none, it is of another kind, or the browser keeps nothing. */
export async function kept() {
  try {
    const before = sessionStorage.getItem(TAB);
    own = before && (await held(before)) ? before : `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
    sessionStorage.setItem(TAB, own);
    if (own !== before) held(own);
    const [keys, snapshots] = await within("readonly", (table) => [table.getAllKeys(), table.getAll()]);
    const newest = snapshots.map((snapshot, at) => [keys[at], snapshot]).sort(([, a], [, b]) => (b.saved ?? 0) - (a.saved ?? 0));
    const old = newest.slice(MOST).filter(([key]) => key !== own);
    if (old.length) await within("readwrite", (table) => old.map(([key]) => table.delete(key)));
    const [, snapshot] = newest.find(([key]) => key === before) ?? newest[0] ?? [];
    return snapshot?.version === 1 && snapshot.classes.length ? snapshot : null;
  } catch {
    return null;
  }
}

/** Keep a snapshot; return whether the browser let us. */
export async function keep(snapshot) {
  try {
    await within("readwrite", (table) => [table.put({ ...snapshot, saved: Date.now() }, own)]);
    return true;
  } catch {
    return false;
  }
}
