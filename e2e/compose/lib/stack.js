/** The deployment under test: where it is, which Compose project it is, and Docker's view of it. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { until } from './until.js';

const env = process.env;
const run = promisify(execFile);

/** The repository, where docker-compose.yml is. */
const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

const host = (name) => env.OAUTHING_HOST || `${name}.localhost`;

/** Origins as a person's browser sees them. */
export const urls = {
  didp: env.OAUTHING_DIDP_URL || `http://${host('didp')}:8080`,
  idp: env.OAUTHING_IDP_URL || `http://${host('idp')}:8070`,
  ignite: env.OAUTHING_IGNITE_URL || `http://${host('ignite')}:8083`,
  tpa: env.OAUTHING_TPA_URL || `http://${host('tpa')}:8090`,
  factory: env.OAUTHING_FACTORY_URL || `http://${host('factory')}:8095`,
  panel: env.OAUTHING_PANEL_URL || `http://${host('device')}:8096`,
};

/** The Compose project. */
export const project = env.COMPOSE_PROJECT_NAME || 'oauthing';

/** Screenshots and logs. */
export const artefacts = env.OAUTHING_ARTEFACTS || fileURLToPath(new URL('../../artefacts', import.meta.url));

/** Runs `docker` and answers what it printed. */
export async function docker(...args) {
  const { stdout } = await run('docker', args, { cwd: ROOT, maxBuffer: 64 << 20 });
  return stdout.trim();
}

/** Runs `docker compose` on this project. */
const compose = (...args) => docker('compose', '-p', project, ...args);

/** `docker inspect` of one container, as an object. */
export async function inspect(container) {
  return JSON.parse(await docker('inspect', container))[0];
}

/** The container of a service of this project. */
async function containerOf(service) {
  const filters = ['project=' + project, 'service=' + service, 'oneoff=False'].flatMap((one) => ['--filter', `label=com.docker.compose.${one}`]);
  const [id] = (await docker('ps', '-aq', ...filters)).split('\n');
  if (!id) throw new Error(`the project ${project} has no container of ${service}`);
  return id;
}

/** Waits until the service's health check is content. */
async function healthy(service) {
  const id = await containerOf(service);
  await until(`${service} is healthy`, async () => (await inspect(id)).State.Health?.Status === 'healthy', 90_000);
}

/** `docker compose restart`, and until it is healthy again. */
export async function restart(service) {
  await compose('restart', service);
  await healthy(service);
}

/** `docker compose stop`. The container must be there: stopping nothing would prove nothing. */
export async function stop(service) {
  const id = await containerOf(service);
  await compose('stop', service);
  if ((await inspect(id)).State.Running) throw new Error(`${service} runs on`);
}

/** Ends a service as a power cut does, without a goodbye. */
export const kill = async (service) => docker('kill', await containerOf(service));

/** `docker compose start`, and until it is healthy. */
export async function start(service) {
  await compose('start', service);
  await healthy(service);
}
