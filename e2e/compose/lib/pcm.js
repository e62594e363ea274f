/** Owners' brokers as Docker sees them, from outside and from inside. */
import { docker, inspect, project } from './stack.js';

/** Names of the owners' brokers of this deployment that exist now; those of the pool are nobody's. */
export async function names() {
  const filters = ['--filter', `label=com.docker.compose.project=${project}`, '--filter', 'label=oauthing.pcm=1'];
  const text = await docker('ps', '-a', '--format', '{{.Names}}', ...filters);
  return text.split('\n').filter((name) => /^pcm-[0-9a-f]{32}$/.test(name)).sort();
}

/** The brokers that came since `before` was listed. */
export async function since(before) {
  return (await names()).filter((name) => !before.includes(name));
}

/** `docker inspect`, what matters of it. */
export async function describe(name) {
  const { Id, State, HostConfig, Mounts, Config, NetworkSettings } = await inspect(name);
  return { id: Id, pid: State.Pid, running: State.Running, host: HostConfig, mounts: Mounts, config: Config, networks: NetworkSettings.Networks };
}

/**
 * What a broker's process can see: the files of its root and mounts, its network interfaces and its mount table. The image has no
 * shell, so another container looks through its /proc.
 */
export async function inside(name) {
  const image = process.env.OAUTHING_PROBE_IMAGE || 'debian:bookworm-slim';
  const look = (script) =>
    docker('run', '--rm', '--pid', `container:${name}`, '--network', 'none', '--cap-add', 'SYS_PTRACE', '--cap-add', 'DAC_READ_SEARCH', '--user', '0', image, 'sh', '-c', script);
  const prune = '\\( -path /proc/1/root/proc -o -path /proc/1/root/sys -o -path /proc/1/root/dev \\) -prune';
  const [files, interfaces, mounts, sockets] = await Promise.all([
    look(`find /proc/1/root/ ${prune} -o -print`),
    look('tail -n +3 /proc/1/net/dev | cut -d: -f1'),
    look('cut -d" " -f5 /proc/1/mountinfo'),
    look('tail -n +2 /proc/1/net/unix'),
  ]);
  const lines = (text) => text.split('\n').map((line) => line.trim()).filter(Boolean);
  return {
    files: lines(files).map((path) => path.replace('/proc/1/root', '') || '/'),
    interfaces: lines(interfaces),
    mountPoints: lines(mounts),
    sockets: lines(sockets),
  };
}
