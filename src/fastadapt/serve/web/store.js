/** Keep the task in the browser (IndexedDB), so that a reload or a crash loses nothing. */
const [BASE, TABLE, KEY] = ["fastadapt", "tasks", "current"];

const answer = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

async function table(mode) {
  const request = indexedDB.open(BASE, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(TABLE);
  return (await answer(request)).transaction(TABLE, mode).objectStore(TABLE);
}

/** Return the snapshot that was kept, or null: there is none, it is of another kind, or the browser keeps nothing. */
export async function kept() {
  try {
    const snapshot = await answer((await table("readonly")).get(KEY));
    return snapshot?.version === 1 && snapshot.classes.length ? snapshot : null;
  } catch {
    return null;
  }
}

/** Keep a snapshot; return whether the browser let us. */
export async function keep(snapshot) {
  try {
    await answer((await table("readwrite")).put(snapshot, KEY));
    return true;
  } catch {
    return false;
  }
}
