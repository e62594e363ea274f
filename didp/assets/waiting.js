// The waiting page, live: asks this site how the claim stands, and swaps the page's content once it is decided.
// Without this script the page refreshes itself.
"use strict";

const live = document.getElementById("live");
const lost = document.getElementById("lost");

async function settled() {
  const answer = await fetch(live.dataset.state, { cache: "no-store", redirect: "error" });
  if (answer.status === 404) return true;
  if (!answer.ok) throw new Error(answer.statusText);
  return (await answer.json()).state !== "waiting";
}

async function show() {
  const answer = await fetch(location.href, { cache: "no-store" });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const main = page.getElementById("main");
  const content = page.getElementById("live") || main;
  live.replaceChildren(...content.childNodes);
  document.title = page.title;
}

async function watch() {
  for (;;) {
    try {
      if (await settled()) {
        await show();
        lost.hidden = true;
        return;
      }
      lost.hidden = true;
    } catch {
      lost.hidden = false;
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
}

watch();
