// Keeps the list of devices as it is at the factory. Without scripts the page is complete; it only does not change by itself.
'use strict';

const line = document.getElementById('line');

async function refresh() {
  const answer = await fetch('/line', { cache: 'no-store' });
  if (!answer.ok) return;
  const text = await answer.text();
  if (text.trim() !== line.dataset.shown) {
    line.dataset.shown = text.trim();
    line.innerHTML = text;
  }
}

const events = new EventSource('/events');
events.addEventListener('message', refresh);
// What happened while the stream was away.
events.addEventListener('open', refresh);

// A newly ordered device is on the belt at once: say so, and stay on the page.
const order = document.querySelector('form[action="/make"]');
order.addEventListener('submit', async (event) => {
  event.preventDefault();
  const button = order.querySelector('button');
  button.disabled = true;
  const label = button.textContent;
  button.textContent = 'On the belt…';
  try {
    const answer = await fetch('/make', { method: 'POST', redirect: 'manual' });
    if (answer.type !== 'opaqueredirect') {
      // Refused: once more without scripts, so that the answer's own page tells why.
      order.submit();
      return;
    }
    await new Promise((resolve) => {
      const enough = setTimeout(resolve, 10_000);
      events.addEventListener('message', () => { clearTimeout(enough); resolve(); }, { once: true });
    });
  } catch {
    // The factory is away; the next try tells.
  }
  button.textContent = label;
  button.disabled = false;
});
