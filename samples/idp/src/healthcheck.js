/** Exit code 0 if the service on this machine answers `/healthz`, else 1. For images that have no other HTTP client. */
const port = (process.env.IDP_LISTEN || '127.0.0.1:8070').split(':').at(-1);
const answer = await fetch(`http://127.0.0.1:${port}/healthz`, { signal: AbortSignal.timeout(3_000) }).catch(() => null);
process.exit(answer?.ok ? 0 : 1);
