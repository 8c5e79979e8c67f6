// Requests to the server, and the line of text that says how they ended.

export const element = (id) => document.getElementById(id);

export async function call(path, body) {
  const options = body === undefined ? {} : { method: "POST", body: body instanceof Blob ? body : JSON.stringify(body) };
  const response = await request(path, options);
  return response.json();
}

export async function bitmap(path) {
  return createImageBitmap(await (await request(path)).blob());
}

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not respond: has the program ended?");
  }
  if (!response.ok) throw new Error(`Error: ${(await response.json()).error}`);
  return response;
}

let newest = 0;

// Runs an action under a text, and then shows the text that it returns, or its error.
export async function attempt(text, action) {
  const own = ++newest;
  show(text);
  document.body.ariaBusy = "true";
  try {
    const done = await action();
    if (own === newest) show(done ?? "");
  } catch (error) {
    show(error.message, true);
  }
  if (own === newest) document.body.ariaBusy = null;
}

function show(text, error = false) {
  element("status").textContent = text;
  element("status").className = error ? "error" : "";
}
