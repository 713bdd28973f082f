// The page: rows in, predictions out. One client, hence one key, for as long as the page is open.

import SEAL from "./node_modules/node-seal/dist/index_throws.js";
import { TacitError } from "./bytes.mjs";
import { Client } from "./client.mjs";

const [form, address, rows, status, answers] = ["form", "address", "rows", "status", "answers"].map((id) =>
  document.getElementById(id));
let client = null;

function say(text, failed = false) {
  status.textContent = text;
  status.toggleAttribute("data-failed", failed);
}

const table = () => rows.value.trim().split("\n").map((line) =>
  line.split(",").map((cell) => (cell.trim() === "" ? NaN : Number(cell))));

async function ask() {
  say("Making a key…");
  if (client?.address !== address.value) {
    client?.made.close();
    client = null;
    client = { address: address.value, made: await Client.connect(await SEAL(), address.value) };
  }
  say("Encrypting…");
  const start = performance.now(), predictions = await client.made.predict(table());
  answers.replaceChildren(...predictions.map((prediction) => {
    const item = document.createElement("li");
    item.textContent = JSON.stringify(prediction);
    return item;
  }));
  say(`Done: ${predictions.length} predictions of ${client.made.spec.name} in ${Math.round(performance.now() - start)} ms.`);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  answers.replaceChildren();
  try {
    await ask();
  } catch (error) {
    say(error instanceof TacitError ? error.message : `This browser cannot: ${error.message ?? error}`, true);
  }
});
