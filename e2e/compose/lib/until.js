/** The one way to wait for what no page tells: a condition with a deadline. */

const STEP = 100;

/**
 * Asks `probe` until it answers something true, and answers that.
 * @param {string} what for the message when time is over
 */
export async function until(what, probe, milliseconds = 20_000) {
  const deadline = Date.now() + milliseconds;
  let last;
  for (;;) {
    try {
      last = await probe();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`not within ${milliseconds} ms: ${what}; at last ${last}`, { cause: last });
    await new Promise((resolve) => setTimeout(resolve, STEP));
  }
}
