/** The demo's identity providers: settings, bind, serve, stop. */
import { ConfigError, fromEnvironment } from './config.js';
import { createIdp } from './server.js';

const DRAIN_MS = 5_000;

let config;
try {
  config = fromEnvironment(process.env);
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  console.error(`demo-idp: ${error.message}`);
  process.exit(1);
}

const server = createIdp(config);
server.on('error', (error) => {
  console.error(`demo-idp: cannot listen on ${config.host}:${config.port}: ${error.code}`);
  process.exit(1);
});
server.listen(config.port, config.host, () => {
  console.log(`demo-idp: ${config.issuer} (OpenID) and ${config.issuer}/github, listening on ${config.host}:${server.address().port}`);
});

let stopping = false;
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    if (stopping) return;
    stopping = true;
    server.close(() => process.exit(0));
    server.closeIdleConnections();
    setTimeout(() => process.exit(0), DRAIN_MS).unref();
  });
}
