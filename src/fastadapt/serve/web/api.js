/** Requests to the server, and what can go wrong with them. */

const KEY = "fastadapt-token";

/** An answer that is not one: `code` and `message` as the server gave them, or "offline". */
export class Trouble extends Error {
  constructor({ code, message, field = null }, status = 0, wait = 0) {
    super(message);
    Object.assign(this, { code, field, status, wait });
  }
}

async function trouble(response) {
  const wait = Number(response.headers.get("Retry-After")) || 0;
  const plain = { code: "http", message: `The server answered ${response.status} ${response.statusText}.` };
  const body = await response.json().catch(() => null);
  return new Trouble(body?.error ?? plain, response.status, wait);
}

/** Send a request; return the response if it is a good one, else throw a `Trouble`. */
export async function call(path, { method = "GET", body, signal, keepalive } = {}) {
  const headers = {};
  const token = sessionStorage.getItem(KEY);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const sent = body === undefined ? undefined : JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, { method, headers, body: sent, signal, keepalive });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble({ code: "offline", message: "The server can't be reached." });
  }
  if (response.status === 401) {
    const { askToken } = await import("./token.js");
    sessionStorage.setItem(KEY, await askToken(Boolean(token)));
    return call(path, { method, body, signal, keepalive });
  }
  if (!response.ok) throw await trouble(response);
  return response;
}

/** Yield the JSON objects of a response, one for each line, as they come. */
export async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const part of parts) if (part) yield JSON.parse(part);
    }
    if (rest) yield JSON.parse(rest);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble({ code: "offline", message: "The connection broke while the network was learning." });
  }
}
