// What all parts of the page share, and the requests to the server.

export const $ = (id) => document.getElementById(id);
export const state = { models: [], samplers: [], job: null, image: null, gallery: [], shown: null };

export function say(text, isBad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", isBad);
}

function headers(more = {}) {
  const key = sessionStorage.getItem("key");
  return key ? { ...more, Authorization: "Bearer " + key } : more;
}

let asking = null;
function askForKey() {
  asking ??= new Promise((done) => {
    const dialog = $("key-dialog");
    dialog.showModal();
    dialog.addEventListener("close", () => {
      sessionStorage.setItem("key", $("key").value);
      asking = null;
      done();
    }, { once: true });
  });
  return asking;
}

/// Throws an error with the server's own line.
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: headers(options.headers) });
  } catch {
    throw new Error("The server does not answer.");
  }
  if (answer.status === 401) {
    await askForKey();
    return ask(path, options);
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  let line = `The server answers ${answer.status}.`;
  try { line = JSON.parse(text).error.message; } catch { /* It is no JSON. */ }
  throw new Error(line);
}

export const json = async (path, options) => (await ask(path, options)).json();

/// Calls `take(name, data)` for each server-sent event.
export async function events(path, take) {
  const answer = await ask(path);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    let end;
    while ((end = rest.indexOf("\n\n")) >= 0) {
      const lines = rest.slice(0, end).split("\n");
      rest = rest.slice(end + 2);
      const field = (name) => lines.find((line) => line.startsWith(name + ": "))?.slice(name.length + 2);
      if (field("event")) take(field("event"), JSON.parse(field("data") ?? "null"));
    }
  }
}
